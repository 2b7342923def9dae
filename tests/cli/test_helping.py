"""Help: quick from the second time on, and every example in it is one that its verb takes."""

import importlib
import shlex
import subprocess
import sys
from itertools import chain

import pytest

from proxdm import cli
from proxdm.cli import VERBS
from proxdm.cli.helping import EXAMPLES, wants_help


@pytest.fixture(autouse=True)
def home(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    return here


class Taken(Exception):
    """The arguments of a verb were taken."""


@pytest.mark.parametrize("line", [*chain.from_iterable(EXAMPLES.values())])
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


def test_every_verb_has_examples_where_nothing_can_be_kept_too(home, succeeds):
    assert set(EXAMPLES) == set(VERBS)
    assert [verb for verb, lines in EXAMPLES.items() if not lines] == ["train"]
    (home / ".cache").write_text("no folder")
    assert "examples:\n  proxdm info fashion-mnist" in succeeds("info --help").out


def test_only_general_help_is_kept(home):
    (home / "pictures").mkdir()
    for text, general in (("--help", 1), ("fit -h", 1), ("pictures --help", 0), ("--steps 2 --help", 0), ("fit", 0)):
        assert wants_help(text.split()) == general, text
