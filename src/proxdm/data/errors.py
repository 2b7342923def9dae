"""Errors of the data layer: one line that names the value, the limit and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from proxdm.errors import ProxdmError


class DataError(ProxdmError, ValueError):
    """A data set is not there, is broken, or is not what it was said to be."""


def unknown_name(what: str, name: str, known: Iterable[str], remedy: str = "") -> DataError:
    """Return the error for an unknown name: it suggests the closest known one and lists all.

    Args:
        what: What was named, e.g. `data set`.
        name: The name that is not known.
        known: The names that are, in the order to list them.
        remedy: Further words for the end of the message.
    """
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return DataError(f"unknown {what} {name!r}{hint}; known are {', '.join(names)}{remedy}")


def one_line(error: BaseException) -> str:
    """Return the words of an error of another library in one line, or its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
