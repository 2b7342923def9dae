"""Command lines: what one would type to do again what was done. Steps of a reproduction: verbs with their options.

A step is done when what it makes is there. An evaluation never is: its rows are looked up by model, features and
reference, which must be open.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from proxdm.checkpoints import store
from proxdm.config import Config, to_dict
from proxdm.presets import get_preset

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


@dataclass(frozen=True)
class Step:
    """One step of a reproduction."""

    verb: str  # Verb of the command line
    names: tuple[str | Path, ...]  # What the verb takes without a flag
    options: Mapping[str, Any]  # Options of the verb; where there is no `out`, it is the one below
    about: str  # How much it is, in words
    out: Path  # File or folder that is there when it is done
    done: Callable[[], bool] | None = None  # Whether it is done; None: whether there is something at `out`

    @property
    def words(self) -> list[str]:
        """The command after `proxdm`, as words."""
        return [self.verb, *map(str, self.names), *flags(**{**self.options, "out": self.options.get("out", self.out)})]

    @property
    def command(self) -> str:
        """The command line as one types it."""
        return shlex.join(["proxdm", *self.words])

    def left(self) -> Self | None:
        """Return what is left of it: itself, itself from where it was interrupted, or None if it is done."""
        return None if (self.out.exists() if self.done is None else self.done()) else self


@dataclass(frozen=True, kw_only=True)
class Train(Step):
    """A training, or the rest of one."""

    verb: str = "train"
    names: tuple[str | Path, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    config: Config
    resume: bool = False

    @property
    def words(self) -> list[str]:
        """The command after `proxdm`, as words."""
        base = store.read_config(self.out) if self.resume else get_preset(self.config.preset)
        more = [*config_flags(base, self.config), *flags(resume=self.resume)]
        return [self.verb, self.config.preset, *flags(out=self.out), *more]

    def left(self) -> Self | None:
        """Return itself, itself with `resume`, or None if a run of as many steps is there."""
        if not store.is_run(self.out):
            return self
        store.check_same_run(store.read_config(self.out), self.config)
        latest = store.latest(self.out)
        done = latest is not None and latest.step >= self.config.training.steps
        return None if done else replace(self, resume=True)


def _changes(base: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of the fields of `wanted` that `base` has otherwise."""
    for key, value in wanted.items():
        mine = base.get(key)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            yield from _changes(mine, value, f"{path}{key}.")
        elif mine != value:
            yield f"{path}{key}", str(value) if value is None else value
