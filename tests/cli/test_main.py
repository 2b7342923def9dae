"""The command line: verbs, help, errors in one line with status 2, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass

import pytest

from fake_results import read_rows
from proxdm import __version__, cli
from proxdm.checkpoints.portable import save_model
from proxdm.errors import StepError
from proxdm.samplers import SAMPLERS
from tiny_models import PROX, random_model


@pytest.fixture
def verb(monkeypatch):
    """Register a verb `fake` with the given function, as its `main` or `run`."""

    def register(function, name="main"):
        module = type(sys)("fake")
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, "proxdm.cli.fake", module)
        monkeypatch.setitem(cli.VERBS, "fake", "a verb of the tests")

    return register


def raising(error):
    def main(arguments, prog):
        raise error

    return main


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_verb_and_there_is_its_module(flag, succeeds):
    out = succeeds(flag).out
    for name, what in cli.VERBS.items():
        assert f"  {name}" in out
        assert what in out
        module = importlib.import_module(f"proxdm.cli.{name}")
        assert callable(module.main if name in ("reproduce", "train") else module.run)


def test_no_verb_is_an_error_that_shows_the_help_and_the_version_is_said(succeeds, capsys):
    assert succeeds("--version").out.startswith(f"proxdm {__version__} (torch ")
    assert cli.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: proxdm")


@pytest.mark.parametrize(
    "argument, message",
    [
        ("tyo", "unknown verb 'tyo' (did you mean 'toy'?); the verbs are "),
        ("--verison", "unknown option '--verison' (did you mean '--version'?)"),
        ("zzz", "unknown verb 'zzz'; the verbs are"),
    ],
)
def test_unknown_verbs_and_options(argument, message, refused):
    assert refused(argument).startswith(f"proxdm: error: {message}")


@pytest.mark.parametrize(
    "error, line",
    [
        (StepError("gamma = 3 is too much"), "gamma = 3 is too much"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), "No such file or directory: x.json"),
        (OSError("plain"), "plain"),
    ],
)
def test_errors_are_one_line_and_status_2(verb, refused, error, line):
    verb(raising(error))
    assert refused("fake") == f"proxdm: error: {line}\n"


def test_debug_shows_the_traceback(verb, monkeypatch):
    verb(raising(StepError("bad")))
    for arguments in (["--debug", "fake"], ["fake", "--debug"]):
        with pytest.raises(StepError, match="bad"):
            cli.main(arguments)
    monkeypatch.setenv("PROXDM_DEBUG", "0")
    assert cli.main(["fake"]) == 2
    monkeypatch.setenv("PROXDM_DEBUG", "1")
    with pytest.raises(StepError):
        cli.main(["fake"])


def test_our_own_mistakes_are_not_hidden_and_interruptions_are_said(verb, capsys):
    verb(raising(AssertionError("a bug")))
    with pytest.raises(AssertionError):
        cli.main(["fake"])
    verb(raising(KeyboardInterrupt()))
    assert cli.main(["fake"]) == 130
    assert capsys.readouterr().err == "proxdm: interrupted\n"


@pytest.mark.parametrize("code, status", [(None, 0), (0, 0), (3, 3), ("message", 2)])
def test_a_verb_gets_its_arguments_and_gives_the_status(verb, code, status):
    verb(raising(SystemExit(code)))
    assert cli.main(["fake"]) == status
    verb(lambda arguments, prog: 7 if (arguments, prog) == (["--x", "1"], "proxdm fake") else 0)
    assert cli.main(["fake", "--x", "1"]) == 7


@dataclass(frozen=True)
class Options:
    """Options of the tests."""

    steps: tuple[int, ...] = (1,)
    """Numbers."""

    overwrite: bool = False
    """Replace."""


def test_parse_reads_a_dataclass_suggests_the_closest_option_and_shows_docstrings(verb, capsys):
    assert cli.parse(Options, ["--steps", "5", "7", "--overwrite"], "p") == Options((5, 7), True)

    def run(options: Options, prog: str) -> int:
        assert prog == "proxdm fake"
        return len(options.steps)

    verb(run, "run")
    assert cli.main(["fake", "--steps", "5", "7", "9"]) == 3
    for wrong, words in (("--stpes 5", ("--stpes", "--steps")), ("--steps five", ("five",)), ("--no-overwrite", ())):
        assert cli.main(["fake", *wrong.split()]) == 2
        err = capsys.readouterr().err
        assert all(word in err for word in words)
    assert cli.main(["fake", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("proxdm fake", "Options of the tests.", "Replace."))


HELP = """
import sys, time, torch
before, modules = time.process_time(), set(sys.modules)
from proxdm.cli import main
status = main(["--help"])
seconds = time.process_time() - before
new = set(sys.modules) - modules
heavy = [name for name in ("tyro", "matplotlib", "ot", "scipy", "sklearn", "torchvision") if name in new]
print(status, heavy, seconds < 1, file=sys.stderr)
"""


def test_help_imports_nothing_heavy_and_is_quick():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 [] True"


PIPE = """
import sys
from proxdm import cli
sys.modules["proxdm.cli.fake"] = module = type(sys)("fake")
module.main = lambda arguments, prog: [print("x" * 1000) for _ in range(1000)] and 0
cli.VERBS["fake"] = "prints a megabyte"
sys.exit(cli.main(["fake"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close in another way there")
def test_a_reader_that_goes_away_is_no_error():
    with subprocess.Popen([sys.executable, "-c", PIPE], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


PLUGIN = """
from dataclasses import dataclass
from proxdm.samplers import Sampler, register

@register
@dataclass(frozen=True)
class Halving(Sampler):
    name, operator, formula = "halving", "prox", "x' = gain (x + prox) / 2"
    gain: float = 1.0

    def step(self, ask, x, t, s, z, carry):
        return self.gain * (x + ask.prox(x, s, 1.0)) / 2, carry
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module with a sampler, known to this test alone, and a small model with random weights."""
    (tmp_path / "own_sampler.py").write_text(PLUGIN)
    monkeypatch.setattr(SAMPLERS, "_entries", dict(SAMPLERS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    save_model(random_model(PROX), tmp_path / "m.safetensors")
    yield tmp_path
    sys.modules.pop("own_sampler", None)


@pytest.mark.parametrize("flags", ["--import own_sampler", "--import=own_sampler.py"])
@pytest.mark.parametrize("after", [False, True])
def test_own_samplers_are_known_to_every_verb(own, flags, after, succeeds):
    text = "halving(gain=0.5)"
    drawn = f"sample m.safetensors --sampler {text} --steps 3 -n 2 --out a.npz"
    succeeds(f"{drawn} {flags}" if after else f"{flags} {drawn}")
    measured = f"evaluate m.safetensors --sampler {text} all --steps 2 -n 4 --seeds 1 --features pixels --metrics w2"
    succeeds(f"{measured} --device cpu {flags}")
    rows = read_rows(own / "evaluations" / "m")
    assert (rows[0]["sampler"], rows[0]["nfe"]) == (text, 2)
    assert "halving" in [row["sampler"] for row in rows]


@pytest.mark.parametrize("flags, word", [("--import", "--import"), ("--import nowhere", "'nowhere'")])
def test_a_module_that_cannot_be_imported(flags, word, verb, refused):
    verb(lambda arguments, prog: 0)
    assert word in refused(f"fake {flags}")
