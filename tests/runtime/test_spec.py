"""Names with parameters: what is written is read back, and other text is refused."""

from __future__ import annotations

import pytest

from proxdm.runtime.spec import check_parameters, format_call, parse_call


@pytest.mark.parametrize(
    "text, name, parameters",
    [
        ("ddim", "ddim", {}),
        (" dpm++2m() ", "dpm++2m", {}),
        ("a-b(x=1, y=0.5, z=-1e-3)", "a-b", {"x": 1, "y": 0.5, "z": -1e-3}),
        (
            "a(word=left, text='two words', no=None, yes=True)",
            "a",
            {"word": "left", "text": "two words", "no": None, "yes": True},
        ),
        ("diffusers:X(order=(1, 2))", "diffusers:X", {"order": (1, 2)}),
    ],
)
def test_parse_and_format(text, name, parameters):
    assert parse_call(text) == (name, parameters)
    assert parse_call(format_call(name, parameters)) == (name, parameters)


@pytest.mark.parametrize("text", ["", "a(1)", "a(x)", "a(x=1", "a(x=f(1))", "a(**b)", "a b", "a(x=1)b", "a(x=1)(y=2)"])
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match="parameter=value"):
        parse_call(text)


@pytest.mark.parametrize(
    "given, values",
    [
        ({"b": 1}, ["'b'", "a, n"]),
        ({"a": "x"}, ["'x'", "float"]),
        ({"n": 1.5}, ["1.5", "int"]),
        ({"a": True}, ["True"]),
    ],
)
def test_parameters_are_checked_by_their_defaults(given, values):
    with pytest.raises(ValueError) as error:
        check_parameters("f", given, {"a": 1.0, "n": 3})
    assert all(value in str(error.value) for value in values)


def test_whole_numbers_are_numbers_and_none_takes_any():
    check_parameters("f", {"a": 2, "x": "y"}, {"a": 1.0, "x": None})
