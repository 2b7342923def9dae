"""Help: quick from the second time on, and every example in it is one that its verb takes."""

import importlib
import shlex
import subprocess
import sys

import pytest

from proxdm import cli
from proxdm.cli import VERBS, main
from proxdm.cli.helping import EXAMPLES, wants_help


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Taken(Exception):
    """The arguments of a verb were taken."""


LINES = [line for verb in EXAMPLES for line in EXAMPLES[verb]]


@pytest.mark.parametrize("line", LINES)
def test_examples_are_taken(line, monkeypatch):
    verb, *arguments = shlex.split(line, comments=True)[1:]
    assert line.startswith(f"proxdm {verb} ") or line == f"proxdm {verb}"
    if ">>" in arguments:
        arguments = arguments[: arguments.index(">>")]
    module = importlib.import_module(f"proxdm.cli.{verb}")
    place = module if hasattr(module, "main") else cli
    parse = cli.parse

    def taken(*given, **more):
        parse(*given, **more)
        raise Taken

    monkeypatch.setattr(place, "parse", taken)
    with pytest.raises(Taken):
        cli.call(verb, arguments)


def test_the_second_time_nothing_slow_is_imported(home):
    code = "import sys; from proxdm.cli import main; main(['sample', '--help']); print('torch' in sys.modules)"
    texts = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        texts.append(done.stdout.rstrip().rsplit("\n", 1))
    assert [imported for _, imported in texts] == ["True", "False"]
    assert texts[0][0] == texts[1][0]
    assert "--guidance" in texts[0][0]
    assert texts[0][0].endswith("examples:\n" + "\n".join(f"  {line}" for line in EXAMPLES["sample"]))
    assert len(list((home / ".cache/proxdm/help").iterdir())) == 1


def test_every_verb_has_examples_where_nothing_can_be_kept_too(home, capsys):
    assert set(EXAMPLES) == set(VERBS)
    assert [verb for verb, lines in EXAMPLES.items() if not lines] == ["train"]
    (home / ".cache").write_text("no folder")
    assert main(["info", "--help"]) == 0
    assert "examples:\n  proxdm info fashion-mnist" in capsys.readouterr().out


def test_only_general_help_is_kept(home):
    (home / "pictures").mkdir()
    assert wants_help(["--help"])
    assert wants_help(["fit", "-h"])
    assert not wants_help(["pictures", "--help"])
    assert not wants_help(["--steps", "2", "--help"])
    assert not wants_help(["fit"])
