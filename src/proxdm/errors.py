"""Exceptions of the package.

Every message names the value that is wrong, the limit it breaks and the remedy, in one line: the command
line prints it as it is and exits with status 2. Wrong arguments that need no class of their own are plain
`ValueError`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Literal, get_args, get_origin, get_type_hints


class ProxdmError(Exception):
    """Base class of every error that the package raises on purpose."""


class StepError(ProxdmError, ValueError):
    """A discretisation step is not defined on the interval it was asked for (for example gamma >= 2)."""


class NonFiniteError(ProxdmError, ValueError):
    """NaN or infinite numbers where finite ones are needed."""


class OperatorError(ProxdmError, TypeError):
    """A sampler was given a model that lacks the operator (score or prox) it needs."""


class DataError(ProxdmError, ValueError):
    """A data set is not there, is broken, or is not what it was said to be."""


class OutputError(ProxdmError, OSError):
    """A result cannot be written, or would overwrite an earlier one."""


class CheckpointError(ProxdmError, ValueError):
    """A checkpoint is missing, damaged, not a checkpoint, or does not fit the model it is loaded into."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name closest to an unknown one; nothing if none is close."""
    names = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.55)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


def unknown_name(what: str, name: str, known: Iterable[str], remedy: str = "") -> DataError:
    """Return the error for an unknown name: it suggests the closest known one and lists all."""
    names = list(known)
    return DataError(f"unknown {what} {name!r}{did_you_mean(name, names)}; known are {', '.join(names)}{remedy}")


def check_least(least: int, **options: int | None) -> None:
    """Raise a ValueError if the value of an option, where there is one, is below the least that it can be."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} = {value} must be at least {least}")


def check_choices(config: object, part: str = "", kind: type[Exception] = ValueError) -> None:
    """Raise an error if a field of a dataclass whose type is a `Literal` has another value, with those there are."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise kind(f"{part}{name} = {getattr(config, name)!r} must be one of {choices}")


def check_at_least(config: object, part: str = "", kind: type[Exception] = ValueError, **least: int) -> None:
    """Raise an error if a field of a dataclass, where it is not None, is not finite or below its least value."""
    for name, low in least.items():
        value = getattr(config, name)
        if value is not None and not low <= value < math.inf:
            raise kind(f"{part}{name} = {value} must be at least {low}")


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line: `reason: file` for errors of the operating system."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split()) or type(error).__name__
