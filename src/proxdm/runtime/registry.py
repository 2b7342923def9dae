"""Tables of named entries that own what is said of them, plugins that add to them, and names with parameters.

An entry is added where it is defined, once: `@SAMPLERS.register("my-sampler")`. Messages and help list the names from
the table. Users' entries come from modules named with `--import` (:func:`import_plugins`), or from packages that
declare the entry-point group `proxdm.plugins`; the latter are imported when a name is not found, or all are listed.
What the command line, configurations and results say of an entry with parameters is text, `ddim(eta=0.5)`.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from proxdm.errors import ProxdmError, did_you_mean

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")

IMPORTED: dict[str, None] = {}
"""Modules of the last :func:`import_plugins`, in their order: a run that needed them says so."""

_CALL = re.compile(r"\s*([\w+:.-]+)\s*(?:\((.*)\))?\s*", re.DOTALL)


class PluginError(ProxdmError, ImportError):
    """A module that was to add entries cannot be imported."""


class Registry(Mapping[str, Entry]):
    """Entries by name, in the order in which they were added; `kind` is what one is, in the singular, for messages."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return a decorator that adds an entry under `name` and gives it back."""
        return partial(self.add, name)  # type: ignore[return-value]  # it keeps the type of what it decorates

    def add(self, name: str, entry: Entry) -> Entry:
        """Add an entry and return it; it takes the place of one of the same module and qualified name (reloaded)."""
        known = self._entries.get(name)
        if known is not None and _origin(known) != _origin(entry):
            raise ValueError(f"there is a {self.kind} {name!r} already, of {_origin(known)[0]}; choose another name")
        self._entries[name] = entry
        return entry

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
    for point in entry_points(group="proxdm.plugins"):
        try:
            point.load()
        except Exception as error:
            raise PluginError(f"the plugin {point.value} fails: {type(error).__name__}: {error}") from error


def _origin(entry: object) -> tuple[str, str]:
    kind: Any = entry if hasattr(entry, "__qualname__") else type(entry)
    return kind.__module__, kind.__qualname__


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of `name` or `name(a=1, b=word)`."""
    if (found := _CALL.fullmatch(text)) is not None:
        name, inside = found.groups()
        with suppress(SyntaxError, ValueError):
            match ast.parse(f"f({inside or ''})", mode="eval").body:
                case ast.Call(func=ast.Name(), args=[], keywords=given) if all(one.arg for one in given):
                    return name, {str(one.arg): _value(one.value) for one in given}
    raise ValueError(f"{text!r} is not of the form name or name(parameter=value, ...)")


def format_call(name: str, parameters: Mapping[str, Any]) -> str:
    """Return `name` or `name(a=1, b=word)`, which :func:`parse_call` reads back."""
    if not parameters:
        return name
    inside = ", ".join(f"{key}={_text(value)}" for key, value in parameters.items())
    return f"{name}({inside})"


def check_parameters(what: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check parameters by the names and the types of their defaults (None takes any)."""
    for key, value in given.items():
        if key not in defaults:
            known = ", ".join(defaults) or "none"
            raise ValueError(f"{what} has no parameter {key!r}; its parameters are: {known}")
        kind = type(defaults[key])
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if defaults[key] is not None and (not fits or (isinstance(value, bool) and kind is not bool)):
            raise ValueError(f"{key} = {value!r} of {what} must be of type {kind.__name__}, as {defaults[key]!r} is")


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value if value.isidentifier() and value not in ("True", "False", "None") else repr(value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else repr(value)
