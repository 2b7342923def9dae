"""Names with parameters as text, `ddim(eta=0.5)`: what the command line, configurations and results say."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

_CALL = re.compile(r"\s*([\w+:.-]+)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of `name` or `name(a=1, b=word)`."""
    wrong = ValueError(f"{text!r} is not of the form name or name(parameter=value, ...)")
    if (match := _CALL.fullmatch(text)) is None:
        raise wrong
    name, inside = match.groups()
    try:
        call = ast.parse(f"f({inside or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise wrong
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise wrong
        return name, {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise wrong from None


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
