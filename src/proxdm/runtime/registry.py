"""Tables of named entries that own what is said of them, and the plugins that add to them.

An entry is added where it is defined, once: `@SAMPLERS.register("my-sampler")`. Messages and help list the names from
the table. Users' entries come from modules named with `--import` (:func:`import_plugins`), or from packages that
declare the entry-point group `proxdm.plugins`; the latter are imported when a name is not found, or all are listed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from proxdm.errors import ProxdmError, did_you_mean

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")

GROUP = "proxdm.plugins"
"""Entry-point group of packages that add entries."""


IMPORTED: dict[str, None] = {}
"""Modules of the last :func:`import_plugins`, in their order: a run that needed them says so."""


class PluginError(ProxdmError, ImportError):
    """A module that was to add entries cannot be imported."""


class Registry(Mapping[str, Entry]):
    """Entries by name, in the order in which they were added; `kind` is what one is, in the singular, for messages."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return a decorator that adds an entry under `name` and gives it back."""

        def add(entry: Registered) -> Registered:
            self.add(name, entry)  # type: ignore[arg-type]  # a decorator keeps the type of what it decorates
            return entry

        return add

    def add(self, name: str, entry: Entry) -> None:
        """Add an entry; an entry of the same module and qualified name (a reloaded module) takes its place."""
        known = self._entries.get(name)
        if known is not None and _origin(known) != _origin(entry):
            raise ValueError(f"there is a {self.kind} {name!r} already, of {_origin(known)[0]}; choose another name")
        self._entries[name] = entry

    def find(self, name: str) -> Entry:
        """Return the entry of that name."""
        try:
            return self[name]
        except KeyError:
            hint = did_you_mean(name, self._entries) or "; an own one is made known by --import MODULE"
            names = ", ".join(self._entries)
            raise ValueError(f"unknown {self.kind} {name!r}{hint}; the {self.kind}s are {names}") from None

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            load_entry_points()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        load_entry_points()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


def import_plugins(modules: Iterable[str]) -> None:
    """Import modules whose registrations are wanted; those of the working directory are found, too."""
    IMPORTED.clear()
    for module in modules:
        path = Path(module)
        folder, name = (str(path.parent), path.stem) if path.suffix == ".py" else (".", module)
        if (place := str(Path(folder).resolve())) not in sys.path:
            sys.path.insert(0, place)
        try:
            importlib.import_module(name)
            IMPORTED[module] = None
        except Exception as error:
            raise PluginError(f"--import {module} failed: {type(error).__name__}: {error}") from error


@cache
def load_entry_points() -> None:
    """Import every installed plugin, once."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise PluginError(f"the plugin {point.value} fails: {type(error).__name__}: {error}") from error


def _origin(entry: object) -> tuple[str, str]:
    kind = entry if isinstance(entry, type) or hasattr(entry, "__qualname__") else type(entry)
    return getattr(kind, "__module__", "?"), getattr(kind, "__qualname__", repr(entry))
