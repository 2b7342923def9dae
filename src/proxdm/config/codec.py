"""Strict JSON for frozen dataclasses, by cattrs: what :func:`to_dict` gives, :func:`from_dict` reads back exactly.

An object has the fields of its dataclass and nothing else, and no value is turned into another type, save whole numbers
into floating-point ones. Where a field holds one of several dataclasses, `"type"` names it (:func:`register_tagged`).
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn
from cattrs.strategies import configure_union_passthrough

from proxdm.errors import ProxdmError, did_you_mean

T = TypeVar("T")

converter = cattrs.Converter(unstruct_collection_overrides={tuple: list})
"""The rules of this module; :mod:`proxdm.config` adds those of single fields."""


class ConfigError(ProxdmError, ValueError):
    """A configuration is not valid: an unknown key, a value of the wrong type, or fields that contradict."""


class UnknownTypeError(ConfigError):
    """A `"type"` is not in its table; it may be an own one whose module has not been imported."""


def to_dict(config: object) -> dict[str, Any]:
    """Return a configuration dataclass as plain dictionaries, lists, strings, numbers, booleans and None."""
    plain: dict[str, Any] = converter.unstructure(config)
    return plain


def from_dict(data: Any, kind: type[T]) -> T:
    """Return the configuration that a plain dictionary describes; fields that are missing take their defaults."""
    try:
        return converter.structure(data, kind)
    except (ProxdmError, TypeError, ValueError, cattrs.BaseValidationError) as error:
        cause, text = _explain(error, "", data, kind)
        raise (UnknownTypeError if isinstance(cause, UnknownTypeError) else ConfigError)(text) from error


def parse_json(text: str) -> Any:
    """Return what a JSON text holds."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from None


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested `base` with the values of `changes` in place of its own; another `"type"` keeps none of it."""
    if not isinstance(changes, Mapping):
        raise ConfigError(f"a configuration must be a JSON object, got {changes!r}")
    if "type" in changes and changes["type"] != base.get("type"):
        return dict(changes)
    out = dict(base)
    for key, value in changes.items():
        mine = base.get(key)
        out[key] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return out


def differences(first: object, second: object, path: str = "") -> list[str]:
    """Return the dotted names of the fields in which two configurations differ, with both values."""
    one, two = (value if isinstance(value, dict) else to_dict(value) for value in (first, second))
    out = []
    for key in one | two:
        a, b = one.get(key), two.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differences(a, b, f"{path}{key}.")
        elif a != b:
            out.append(f"{path}{key} ({a!r} and {b!r})")
    return out


def register_tagged(base: type, table: Mapping[str, type], what: str) -> None:
    """Let fields annotated with `base` hold any dataclass of `table`; in JSON `"type"` is its name there."""

    def structure(value: Any, _: type) -> Any:
        settings = dict(value) if isinstance(value, Mapping) else {}
        name = settings.pop("type", None)
        if name not in tuple(table):
            hint = did_you_mean(str(name), table)
            raise UnknownTypeError(f"type = {name!r} is no known {what}{hint}; the {what}s are {', '.join(table)}")
        return converter.structure(settings, table[name])

    def unstructure(value: Any) -> dict[str, Any]:
        name = next((name for name, kind in table.items() if kind is type(value)), None)
        if name is None:
            raise ConfigError(f"the {what} {type(value).__qualname__} has no name to be stored under: register it")
        return {"type": name, **converter.unstructure(value)}

    converter.register_structure_hook_func(lambda kind: kind is base, structure)
    converter.register_unstructure_hook_func(lambda kind: kind is base, unstructure)


def _reader(kind: type) -> Callable[[Any, Any], Any]:
    """Return the function that reads a dataclass from an object, and from nothing else."""
    read: Callable[..., Any] = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError
        return read(value, kind)

    return structure


def _read_scalar(value: Any, kind: type) -> Any:
    if type(value) is not kind and (kind, type(value)) != (float, int):
        raise TypeError
    return kind(value)


def _read_tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    first, *others = items = typing.get_args(kind)
    alike = others == [...]
    if not isinstance(value, list | tuple) or (not alike and len(value) != len(items)):
        raise TypeError
    if alike:
        return tuple(converter.structure(value, list[first]))  # type: ignore[valid-type]
    return tuple(converter.structure(item, each) for item, each in zip(value, items, strict=True))


configure_union_passthrough(str | bool | int | None, converter)
converter.register_structure_hook_factory(lambda kind: is_dataclass(kind) and isinstance(kind, type), _reader)
for scalar in (bool, int, float, str):
    converter.register_structure_hook(scalar, _read_scalar)
converter.register_structure_hook_func(lambda kind: typing.get_origin(kind) is tuple, _read_tuple)  # type: ignore[comparison-overlap]


def _explain(error: BaseException, path: str, data: Any, kind: Any) -> tuple[BaseException, str]:
    """Return the first thing that is wrong, and one line on it that names the field, its value and what is allowed."""
    if isinstance(error, cattrs.ClassValidationError | cattrs.IterableValidationError):
        noted, plain = error.group_exceptions()  # of single fields or items, and of the whole
        if not plain:
            cause, note = noted[0]
            step = getattr(note, "name", getattr(note, "index", None))
            place = f".{step}" if isinstance(step, str) else f"[{step}]"
            inside = None if isinstance(cause, KeyError) else data[step]
            return _explain(cause, f"{path}{place}".removeprefix("."), inside, note.type)
        error = plain[0]
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        key, known = min(error.extra_fields), [entry.name for entry in fields(error.cl)]
        hint = did_you_mean(key, known) or f"; the keys there are {', '.join(known)}"
        return error, f"unknown key {f'{path}.{key}'.removeprefix('.')!r}{hint}"
    if isinstance(error, KeyError):
        return error, f"the key {path!r} is missing: it has no default"
    if not isinstance(error, ValueError | ProxdmError):
        return error, f"{path or 'the configuration'} = {data!r} must be {_describe(kind)}"
    known_place = not path or (isinstance(error, ConfigError) and not isinstance(error, UnknownTypeError))
    return error, str(error) if known_place else f"{path}: {error}"


def _describe(kind: Any) -> str:
    """Return a type in words for error messages."""
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", type(None): "null"}
    items: tuple[Any, ...] = typing.get_args(kind)
    origin: Any = typing.get_origin(kind)
    if origin is tuple:
        return "a list" if items[-1] is Ellipsis else f"a list of {len(items)}: {', '.join(map(_describe, items))}"
    if origin is Literal:
        return f"one of {', '.join(map(repr, items))}"
    if origin in (list, Mapping):
        return "a list" if origin is list else "an object"
    return " or ".join(map(_describe, items)) if items else names.get(kind, "an object")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number in JSON")
