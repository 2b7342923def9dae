"""Strict JSON for frozen dataclasses: what :func:`to_json` writes, :func:`from_json` gives back exactly.

An object has the fields of its dataclass and nothing else; an unknown key is an error that names the closest known one.
Where a field may hold one of several dataclasses, `"type"` says which, by class name: `unet` is `UNetConfig`.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from proxdm.errors import ProxdmError

T = TypeVar("T")


class ConfigError(ProxdmError, ValueError):
    """A configuration is not valid: an unknown key, a value of the wrong type, or fields that contradict."""


def to_dict(config: object) -> dict[str, Any]:
    """Return a configuration dataclass as plain dictionaries, lists, strings, numbers, booleans and None."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"{config!r} is not a configuration")
    hints = typing.get_type_hints(type(config))
    out: dict[str, Any] = {}
    for entry in fields(config):
        value = _plain(getattr(config, entry.name))
        if len(_dataclasses(hints[entry.name])) > 1 and isinstance(value, dict):
            value = {"type": _tag(type(getattr(config, entry.name))), **value}
        out[entry.name] = value
    return out


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def to_json(config: object) -> str:
    """Return a configuration as indented JSON; :func:`from_json` gives it back exactly."""
    return json.dumps(to_dict(config), indent=2, allow_nan=False) + "\n"


def from_json(text: str, kind: type[T]) -> T:
    """Return the configuration that :func:`to_json` wrote.

    Fields that are missing take their defaults.

    Args:
        text: JSON.
        kind: The dataclass to read.

    Raises:
        ConfigError: Not JSON, an unknown key, a wrong type, or values that contradict.
    """
    try:
        data = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from None
    return from_dict(data, kind)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number in JSON")


def from_dict(data: Any, kind: type[T]) -> T:
    """Return the configuration that a plain dictionary describes (see :func:`from_json`)."""
    return typing.cast(T, _read(data, kind, ""))


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dictionary `base` with the values of `changes` in place of its own.

    Where `changes` names another `"type"` than the base, nothing of the base is kept there.

    Raises:
        ConfigError: `changes` is not a dictionary.
    """
    if not isinstance(changes, Mapping):
        raise ConfigError(f"a configuration must be a JSON object, got {changes!r}")
    if "type" in changes and changes["type"] != base.get("type"):
        return dict(changes)
    out = dict(base)
    for key, value in changes.items():
        mine = base.get(key)
        out[key] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return out


def differences(first: object, second: object) -> list[str]:
    """Return the dotted names of the fields in which two configurations differ, with both values."""
    return _differences(to_dict(first), to_dict(second), "")


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], path: str) -> list[str]:
    out = []
    for key in dict.fromkeys([*first, *second]):
        a, b = first.get(key), second.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += _differences(a, b, f"{path}{key}.")
        elif a != b:
            out.append(f"{path}{key} ({a!r} and {b!r})")
    return out


def _tag(kind: type) -> str:
    return kind.__name__.removesuffix("Config").lower()


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the type itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _dataclasses(hint: Any) -> list[type]:
    return [member for member in _members(hint) if is_dataclass(member) and isinstance(member, type)]


def _read(data: Any, hint: Any, path: str) -> Any:
    """Return `data` as the type `hint` says, or raise a ConfigError that names the field."""
    if _dataclasses(hint) and isinstance(data, Mapping):
        return _read_dataclass(data, _dataclasses(hint), path)
    for member in _members(hint):
        found, value = _read_value(data, member, path)
        if found:
            return value
    wanted = " or ".join(_describe(member) for member in _members(hint))
    raise ConfigError(f"{path or 'the configuration'} = {data!r} must be {wanted}")


def _read_dataclass(data: Mapping[str, Any], kinds: list[type], path: str) -> Any:
    data, tags = dict(data), {_tag(kind): kind for kind in kinds}
    tag = data.pop("type", None) if len(kinds) > 1 else next(iter(tags))
    if tag not in tags:
        raise ConfigError(f'{path}.type = {tag!r} is unknown; "type" must be one of {", ".join(tags)}')
    kind = tags[tag]
    hints, known = typing.get_type_hints(kind), [entry.name for entry in fields(kind)]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            name = f"{path}.{key}" if path else key
            raise ConfigError(f"unknown key {name!r}; the closest known key is {close[0]!r}")
    values = {key: _read(value, hints[key], f"{path}.{key}" if path else key) for key, value in data.items()}
    missing = [e.name for e in fields(kind) if e.default is MISSING and e.default_factory is MISSING]
    if absent := next((name for name in missing if name not in values), None):
        raise ConfigError(f"the key {f'{path}.{absent}' if path else absent!r} is missing: it has no default")
    try:
        return kind(**values)
    except ConfigError:
        raise
    except (ProxdmError, ValueError) as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error


def _read_value(data: Any, hint: Any, path: str) -> tuple[bool, Any]:
    """Return whether `data` is a value of the type `hint`, and that value."""
    if hint in (bool, str):
        return isinstance(data, hint), data
    if hint is type(None):
        return data is None, None
    if hint is Path:
        return isinstance(data, str), Path(data) if isinstance(data, str) else None
    if hint in (int, float):
        number = isinstance(data, int | float) and not isinstance(data, bool)
        whole = number and (hint is float or isinstance(data, int))
        return whole, hint(data) if whole else None
    if typing.get_origin(hint) is Literal:
        return data in typing.get_args(hint) and not isinstance(data, bool), data
    if typing.get_origin(hint) is tuple:
        return _read_tuple(data, typing.get_args(hint), path)
    return False, None


def _read_tuple(data: Any, items: tuple[Any, ...], path: str) -> tuple[bool, Any]:
    if not isinstance(data, list | tuple):
        return False, None
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(data)
    if len(items) != len(data):
        return False, None
    return True, tuple(
        _read(item, hint, f"{path}[{i}]") for i, (item, hint) in enumerate(zip(data, items, strict=True))
    )


def _describe(hint: Any) -> str:
    """Return a type in words for error messages."""
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", type(None): "null"}
    if hint in names:
        return names[hint]
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        return "a list" if items[-1] is Ellipsis else f"a list of {len(items)}"
    return "an object" if is_dataclass(hint) else getattr(hint, "__name__", str(hint))
