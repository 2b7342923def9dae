"""The command line: `proxdm VERB ...`, one file a verb.

A verb is one line in :data:`VERBS` and one module of its name with a function `run(options, prog) -> int`, which
returns the exit status. The type of `options` is a frozen dataclass, which :func:`parse` makes of the arguments after
the verb; a verb that reads them in its own way has `main(arguments, prog) -> int` instead. The module is imported when
its verb is called, so `proxdm --help` stays quick.

Exit status: 0 done, 1 the reader of a pipe went away, 2 wrong input (one line on the standard error says what,
why, and what to do), 130 interrupted. `--debug`, or `PROXDM_DEBUG=1` in the environment, shows the traceback
instead of the line. `--import MODULE` imports a module of the user first, whose samplers, metrics, data sets and
networks every verb then knows.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from platform import python_version
from typing import Any, TypeVar, get_type_hints

from proxdm._version import __version__
from proxdm.cli.helping import show, wants_help
from proxdm.errors import ProxdmError, did_you_mean, one_line
from proxdm.runtime.registry import IMPORTED, import_plugins

Arguments = TypeVar("Arguments")


VERBS: dict[str, str] = {
    "toy": "the paper's synthetic experiment: exact samplers on a Datasaurus set",
    "rates": "convergence rates of every sampler on targets with closed forms",
    "train": "a model from a preset, on one device or several",
    "prior": "what replaces a model at high noise, so that few evaluations suffice",
    "sample": "pictures from a trained model",
    "evaluate": "metrics of a trained model at several numbers of network evaluations",
    "mosaic": "samplers on one model side by side, as a figure",
    "demo": "a page with the paper's toy and few evaluations on a model in the box",
    "tune": "the best grid of a sampler on a model, stored with it",
    "compare": "samplers and models at equal numbers of evaluations: figure and table",
    "fid": "the distance of two sets of pictures, whoever made them",
    "report": "one HTML file on runs and their evaluations, to open from disk",
    "info": "what a run, a model file, a hub repository or a .pth file holds",
    "convert": "one of the paper's .pth files to a model of this package",
    "export": "a model, or its whole sampler, for diffusers, ONNX or torch.export",
    "download": "the paper's weights and statistics, data sets, Inception weights",
    "stats": "reference statistics of a data set or a folder, for the Fréchet distance",
    "features": "feature extractors that fit the data, for evaluate and stats",
    "reproduce": "the paper's experiments, a data set at a time, in one command",
    "doctor": "versions, devices, caches and the hub",
    "completion": "completion of verbs and options for bash, zsh and fish",
    "push": "a trained model to the Hugging Face Hub",
}
"""What every verb does, in the order of `proxdm --help`; its module is `proxdm.cli.VERB`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    debug = os.environ.get("PROXDM_DEBUG", "") not in ("", "0")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a console cannot show is replaced, and no reason to stop
            stream.reconfigure(errors="replace")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--import", action="append", default=[], dest="modules")
    try:
        common, arguments = parser.parse_known_args(argv)
        debug = debug or common.debug
        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _show_warning
            import_plugins(common.modules)
            return _dispatch(arguments)
    except KeyboardInterrupt:
        print("proxdm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `proxdm ... | head`: nobody reads on. What Python still holds in its buffer must go nowhere, in silence.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stop:  # the parser has printed its help or its error
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except (ProxdmError, ValueError, OSError, argparse.ArgumentError) as error:
        if debug:
            raise
        print(f"proxdm: error: {one_line(error)}", file=sys.stderr)
        return 2


def call(verb: str, arguments: Sequence[str]) -> int:
    """Run a verb and return the exit status."""
    module, prog = importlib.import_module(f"proxdm.cli.{verb}"), f"proxdm {verb}"
    own: Callable[[Sequence[str], str], int] | None = getattr(module, "main", None)
    if own is not None:
        return own(arguments, prog)
    status: int = module.run(parse(get_type_hints(module.run)["options"], arguments, prog), prog)
    return status


def parse(
    kind: type[Arguments],
    arguments: Sequence[str],
    prog: str,
    *,
    default: Arguments | None = None,
    partly: bool = False,
) -> Arguments:
    """Return the arguments of a verb as an instance of a frozen dataclass, whose docstrings are the help.

    What is wrong with others is one line for :func:`main`, in place of the parser's box: what the dataclass, or one
    inside it, refuses as it is, anything else with the closest option; with `partly` what it does not know is let by.
    """
    import tyro

    written = io.StringIO()
    more: Any = {"return_unknown_args": partly, "add_help": not partly}
    more |= {} if default is None else {"default": default}
    settings = (tyro.conf.FlagCreatePairsOff, *(() if default is None else (tyro.conf.AvoidSubcommands,)))
    try:
        with contextlib.redirect_stderr(written):
            found: Any = tyro.cli(kind, prog=prog, args=list(arguments), config=settings, **more)
            options: Arguments = found[0] if partly else found
            return options
    except SystemExit as stop:
        if (refused := _refusal(stop)) is not None:
            raise refused from None
        if stop.code and (line := _in_one_line(written.getvalue())):
            raise ValueError(f"{line}; see {prog} --help") from None
        print(written.getvalue(), end="", file=sys.stderr)
        raise


def _in_one_line(box: str) -> str:
    """Return what a box of the parser says: its first part, and the option that it takes to be meant."""
    plain = [line.strip() for line in box.splitlines()[2:]]  # consoles without its characters: title, rule, lines
    inside = re.findall(r"^│ (.*?)\s*│\s*$", box, re.MULTILINE) or plain
    parts = [part.strip() for part in re.split(r"\n?[─-]{5,}\n?", "\n".join(inside))]
    if not parts or not parts[0]:
        return ""
    said = " ".join(parts[0].split("\n\n")[0].split()).rstrip(".")
    meant = next((part for part in parts[1:] if part.startswith("Perhaps you meant")), "")
    option = re.search(r"--[\w.-]+", meant)
    there = next((f"; {part[0].lower()}{part[1:]}" for part in parts[1:] if part.startswith("Available")), "")
    return f"{said[0].lower()}{said[1:]}" + (f" (did you mean {option[0]}?)" if option else "") + there


def _refusal(stop: BaseException) -> ValueError | None:
    """Return the error of a dataclass of this package that made the parser leave, if one did."""
    error: BaseException | None = stop
    while error is not None and not isinstance(error, ValueError):
        error = error.__context__
    if error is None:
        return None
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return error if frame.f_globals["__name__"].startswith("proxdm.") else None


def usage() -> str:
    """Return the text of `proxdm --help`."""
    width = max(len(name) for name in VERBS)
    verbs = "\n".join(f"  {name:<{width}}  {what}" for name, what in VERBS.items())
    return f"""usage: proxdm [-h] [--version] [--debug] [--import MODULE] VERB ...

Proximal diffusion models: exact and learned proximal operators, samplers, training, evaluation.

verbs:
{verbs}

options:
  -h, --help       show this help and exit; `proxdm VERB --help` explains a verb
  --version        show the versions and exit
  --debug          show the traceback of an error (also: PROXDM_DEBUG=1)
  --import MODULE  make own samplers, metrics, data sets and networks known, before or after the verb: the name of a
                   module or the path of its file; may be repeated"""


def _show_warning(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning as an error is printed: in one line, without the place in the source."""
    print(f"proxdm: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    first, rest = arguments[0], arguments[1:]
    if first in ("-h", "--help"):
        print(usage())
        return 0
    if first in ("-V", "--version"):
        print(f"proxdm {__version__} (torch {version('torch')}, Python {python_version()})")
        return 0
    if first not in VERBS:
        hint = did_you_mean(first, [*VERBS, "--help", "--version", "--debug", "--import"])
        what = "option" if first.startswith("-") else "verb"
        raise ValueError(f"unknown {what} {first!r}{hint}; the verbs are {', '.join(VERBS)}; see proxdm --help")
    if wants_help(rest) and not IMPORTED:
        show(first, rest, call)
        return 0
    return call(first, rest)
