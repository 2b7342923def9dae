"""Errors of the data layer: one line that names the value, the limit and the remedy."""

from __future__ import annotations

from collections.abc import Iterable

from proxdm.errors import DataError, did_you_mean


def unknown_name(what: str, name: str, known: Iterable[str], remedy: str = "") -> DataError:
    """Return the error for an unknown name: it suggests the closest known one and lists all."""
    names = list(known)
    return DataError(f"unknown {what} {name!r}{did_you_mean(name, names)}; known are {', '.join(names)}{remedy}")
