"""The commands that a page of the documentation shows, to be parsed by our command line."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

from proxdm.cli import parse
from proxdm.cli.train import parse_request
from proxdm.experiments.reproduce import Reproduction, make_steps
from proxdm.runtime.registry import import_plugins


def commands(text: str) -> list[list[str]]:
    """Every command of ours: in blocks, comments left out, and in running text; also those behind a launcher."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    spans = [span for span in re.findall(r"`([^`\n]+)`", text) if span.startswith("proxdm ")]
    found = [shlex.split(line, comments=True) for line in [*lines, *spans]]
    return [words[words.index("proxdm") :] for words in found if "proxdm" in words]


def asked(verb: str, arguments: list[str]) -> Any:
    """What a command asks for, as our command line takes it; unknown options and wrong values are errors."""
    if "--import" in arguments:
        place = arguments.index("--import")
        import_plugins([str(Path(__file__).parents[1] / arguments[place + 1])])
        arguments = arguments[:place] + arguments[place + 2 :]
    if verb == "train":
        return parse_request(arguments, "proxdm train")
    kind = Reproduction if verb == "reproduce" else getattr(import_module(f"proxdm.cli.{verb}"), verb.capitalize())
    options = parse(kind, arguments, f"proxdm {verb}")
    if verb == "reproduce":
        make_steps(options)
    return options
