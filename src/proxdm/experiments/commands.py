"""Command lines for people: what one would type to do again what Python functions do."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxdm.config import Config, to_dict

_WIDTH = 70


def flags(**values: Any) -> list[str]:
    """Return options as words; None, False and empty sequences are left out, True is a flag without a value."""
    words: list[str] = []
    for name, value in values.items():
        if value is None or value is False or value == ():
            continue
        given = [] if value is True else value if isinstance(value, list | tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, given)]
    return words


def config_flags(base: Config, config: Config) -> list[str]:
    """Return the options of `proxdm train` that make `config` of `base`."""
    words: list[str] = []
    for name, value in _changes(to_dict(base), to_dict(config), ""):
        path, _, last = name.rpartition(".")
        words += flags(**{f"{path}.no-{last}" if value is False else name: True if value is False else value})
    return words


def wrapped(words: Sequence[str]) -> str:
    """Return a command as the shell reads it; a long one on several lines, each with as many options as it can hold."""
    lines = [""]
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") and len(lines[-1]) + len(quoted) > _WIDTH:
            lines.append("   ")
        lines[-1] += f" {quoted}" if lines[-1] else quoted
    return " \\\n".join(lines)


def _changes(base: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of the fields of `wanted` that `base` has otherwise."""
    for key, value in wanted.items():
        mine = base.get(key)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            yield from _changes(mine, value, f"{path}{key}.")
        elif mine != value:
            yield f"{path}{key}", str(value) if value is None else value
