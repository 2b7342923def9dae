"""Strict JSON of dataclasses: exact round trips, and errors that name the field, its value and what is allowed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pytest

from proxdm.config.codec import ConfigError, differences, from_dict, merged, parse_json, register_tagged, to_dict


class Shape(Protocol):
    pass


@dataclass(frozen=True)
class Circle:
    radius: float = 1.0


@dataclass(frozen=True)
class Square:
    side: int = 2
    colours: tuple[str, ...] = ()

    def __post_init__(self):
        if self.side < 1:
            raise ValueError(f"side = {self.side} must be at least 1")


@dataclass(frozen=True)
class Drawing:
    name: str
    shape: Shape = field(default_factory=Circle)
    frame: Circle = field(default_factory=Circle)
    odds: str | tuple[float, ...] = "even"
    pair: tuple[int, float] = (1, 2.0)
    mode: Literal["a", "b"] = "a"
    limit: int | None = None
    dry: bool = False


SHAPES = {"circle": Circle, "square": Square}
register_tagged(Shape, SHAPES, "shape")

EXAMPLES = [
    Drawing("x"),
    Drawing("x", Square(3, ("red", "blue")), Circle(0.1 + 0.2), (0.1, 1e-300, 1 / 3), (7, -0.0), "b", 5, True),
    Drawing("", odds=()),
]


def test_round_trip_is_exact_missing_fields_take_defaults_and_entries_of_a_table_carry_a_type():
    for value in EXAMPLES:
        text = json.dumps(to_dict(value))
        assert from_dict(parse_json(text), Drawing) == value
        assert json.dumps(to_dict(from_dict(parse_json(text), Drawing))) == text
    assert from_dict({"name": "x", "frame": {"radius": 3}}, Drawing) == Drawing("x", frame=Circle(3.0))
    assert to_dict(Drawing("x"))["shape"] == {"type": "circle", "radius": 1.0}
    assert "type" not in to_dict(Drawing("x"))["frame"]


def test_entries_may_come_later_and_must_be_in_the_table(monkeypatch):
    @dataclass(frozen=True)
    class Line:
        length: float = 1.0

    with pytest.raises(ConfigError, match="Line has no name"):
        to_dict(Drawing("x", Line()))
    monkeypatch.setitem(SHAPES, "line", Line)
    assert from_dict(to_dict(Drawing("x", Line(2.0))), Drawing).shape == Line(2.0)


@pytest.mark.parametrize(
    "data, message",
    [
        ([], r"the configuration = \[\] must be an object"),
        ({}, "'name' is missing"),
        ({"name": "x", "shap": {}}, "unknown key 'shap'.*'shape'"),
        ({"name": "x", "frame": {"radious": 1}}, "unknown key 'frame.radious'.*'radius'"),
        ({"name": "x", "frame": {"q": 1}}, "unknown key 'frame.q'; the keys there are radius"),
        ({"name": "x", "frame": 3}, "frame = 3 must be an object"),
        ({"name": 1}, "name = 1 must be a string"),
        ({"name": "x", "shape": {"type": "blob"}}, "shape: type = 'blob' .*circle, square"),
        ({"name": "x", "shape": {"type": "squares"}}, "'squares' .*mean 'square'"),
        ({"name": "x", "shape": {"side": 1}}, "shape: type = None .*circle, square"),
        ({"name": "x", "shape": {"type": "square", "side": 1.5}}, "shape.side = 1.5 must be a whole number"),
        ({"name": "x", "shape": {"type": "square", "side": True}}, "shape.side = True must be a whole number"),
        ({"name": "x", "shape": {"type": "square", "side": 0}}, "shape: side = 0 must be at least 1"),
        ({"name": "x", "shape": {"type": "square", "colours": ["a", 1]}}, r"shape.colours\[1\] = 1 must be a string"),
        ({"name": "x", "shape": {"type": "square", "colours": "ab"}}, "shape.colours = 'ab' must be a list"),
        ({"name": "x", "frame": {"radius": True}}, "frame.radius = True must be a number"),
        ({"name": "x", "pair": [1.5, 2]}, r"pair = \[1.5, 2\] must be a list of 2: a whole number, a number"),
        ({"name": "x", "odds": 3}, "odds = 3 must be a string or a list"),
        ({"name": "x", "mode": "c"}, "mode = 'c' must be one of 'a', 'b'"),
        ({"name": "x", "dry": 1}, "dry = 1 must be true or false"),
        ({"name": "x", "limit": "3"}, "limit = '3' must be a whole number or null"),
    ],
)
def test_errors_name_the_field_the_value_and_what_is_allowed(data, message):
    with pytest.raises(ConfigError, match=message) as caught:
        from_dict(data, Drawing)
    assert "\n" not in str(caught.value)


def test_what_is_not_json_is_refused():
    for text in ("{", '{"radius": NaN}', '{"radius": Infinity}'):
        with pytest.raises(ConfigError, match="not JSON"):
            parse_json(text)


def test_merged_keeps_what_is_not_named_and_starts_over_for_another_type():
    base = to_dict(Drawing("x", Square(3, ("red",))))
    kept = from_dict(merged(base, {"shape": {"side": 4}, "limit": 1}), Drawing)
    assert kept == Drawing("x", Square(4, ("red",)), limit=1)
    other = from_dict(merged(base, {"shape": {"type": "circle", "radius": 5}}), Drawing)
    assert other.shape == Circle(5.0)
    with pytest.raises(ConfigError, match="JSON object"):
        merged(base, [])


def test_differences_are_dotted_and_hold_both_values():
    first, second = EXAMPLES[:2]
    assert differences(first, first) == []
    found = differences(first, second)
    assert "frame.radius (1.0 and 0.30000000000000004)" in found
    assert any(line.startswith("shape.type ('circle' and 'square')") for line in found)
