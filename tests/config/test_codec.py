"""Strict JSON of dataclasses: exact round trips, and errors that name the field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from proxdm.config.codec import ConfigError, differences, from_dict, from_json, merged, to_dict, to_json


@dataclass(frozen=True)
class CircleConfig:
    radius: float = 1.0


@dataclass(frozen=True)
class SquareConfig:
    side: int = 2
    colours: tuple[str, ...] = ()

    def __post_init__(self):
        if self.side < 1:
            raise ValueError(f"side = {self.side} must be at least 1")


@dataclass(frozen=True)
class Drawing:
    name: str
    shape: CircleConfig | SquareConfig = field(default_factory=CircleConfig)
    frame: CircleConfig = field(default_factory=CircleConfig)
    odds: str | tuple[float, ...] = "even"
    pair: tuple[int, float] = (1, 2.0)
    mode: Literal["a", "b"] = "a"
    limit: int | None = None
    dry: bool = False


EXAMPLES = [
    Drawing("x"),
    Drawing(
        "x", SquareConfig(3, ("red", "blue")), CircleConfig(0.1 + 0.2), (0.1, 1e-300, 1 / 3), (7, -0.0), "b", 5, True
    ),
    Drawing("", odds=()),
]


@pytest.mark.parametrize("value", EXAMPLES)
def test_round_trip_is_exact(value):
    assert from_json(to_json(value), Drawing) == value
    assert to_json(from_json(to_json(value), Drawing)) == to_json(value)


def test_missing_fields_take_defaults_and_unions_carry_a_type():
    assert from_json('{"name": "x"}', Drawing) == Drawing("x")
    assert to_dict(Drawing("x"))["shape"] == {"type": "circle", "radius": 1.0}
    assert "type" not in to_dict(Drawing("x"))["frame"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ("{}", "the key 'name' is missing"),
        ('{"name": "x", "shap": {}}', "unknown key 'shap'; the closest known key is 'shape'"),
        ('{"name": "x", "frame": {"radious": 1}}', "unknown key 'frame.radious'; the closest known key is 'radius'"),
        ('{"name": 1}', "name = 1 must be a string"),
        ('{"name": "x", "shape": {"type": "blob"}}', "shape.type = 'blob' is unknown.*circle, square"),
        ('{"name": "x", "shape": {"side": 1}}', '"type" must be one of circle, square'),
        ('{"name": "x", "shape": {"type": "square", "side": 1.5}}', "shape.side = 1.5 must be a whole number"),
        ('{"name": "x", "shape": {"type": "square", "side": true}}', "shape.side = True must be a whole number"),
        ('{"name": "x", "shape": {"type": "square", "side": 0}}', "shape: side = 0 must be at least 1"),
        ('{"name": "x", "shape": {"type": "square", "colours": ["a", 1]}}', r"shape.colours\[1\] = 1 must be a string"),
        ('{"name": "x", "pair": [1]}', "pair = .* must be a list of 2"),
        ('{"name": "x", "mode": "c"}', "mode = 'c' must be one of 'a', 'b'"),
        ('{"name": "x", "dry": 1}', "dry = 1 must be true or false"),
        ('{"name": "x", "limit": "3"}', "limit = '3' must be a whole number or null"),
        ('{"name": "x", "frame": {"radius": NaN}}', "not JSON: NaN is no number"),
    ],
)
def test_errors_name_the_field(text, message):
    with pytest.raises(ConfigError, match=message):
        from_json(text, Drawing)


def test_numbers_that_json_cannot_hold_are_refused_on_the_way_out():
    with pytest.raises(ValueError, match="JSON"):
        to_json(CircleConfig(float("inf")))


def test_merged_keeps_what_is_not_named_and_starts_over_for_another_type():
    base = to_dict(Drawing("x", SquareConfig(3, ("red",))))
    kept = from_dict(merged(base, {"shape": {"side": 4}, "limit": 1}), Drawing)
    assert kept == Drawing("x", SquareConfig(4, ("red",)), limit=1)
    other = from_dict(merged(base, {"shape": {"type": "circle", "radius": 5}}), Drawing)
    assert other.shape == CircleConfig(5.0)
    with pytest.raises(ConfigError, match="JSON object"):
        merged(base, [])


def test_differences_are_dotted_and_hold_both_values():
    first, second = EXAMPLES[:2]
    assert differences(first, first) == []
    found = differences(first, second)
    assert "frame.radius (1.0 and 0.30000000000000004)" in found
    assert any(line.startswith("shape.type ('circle' and 'square')") for line in found)
