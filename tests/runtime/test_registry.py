"""Tables of entries: found by name, added once, opened to users' modules; names with parameters are read back."""

from __future__ import annotations

import sys

import pytest

from proxdm.runtime import registry
from proxdm.runtime.registry import PluginError, Registry, check_parameters, format_call, import_plugins, parse_call


def table() -> Registry[object]:
    found: Registry[object] = Registry("fruit")
    found.register("apple")(str)
    found.register("pear")(int)
    return found


def test_entries_are_found_in_their_order_and_a_name_is_taken_once():
    found = table()
    assert list(found) == ["apple", "pear"]
    assert found.find("pear") is int
    with pytest.raises(ValueError, match=r"fruit 'peer'.*'pear'.*apple, pear"):
        found.find("peer")
    assert found.register("plum")(float) is float
    with pytest.raises(ValueError, match="'apple'"):
        found.add("apple", bytes)
    found.add("apple", str)  # of the same origin: a reloaded module


def test_modules_of_the_working_directory_and_files_add_entries(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_plugin_a.py").write_text("VALUE = 1\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "own_plugin_b.py").write_text("VALUE = 2\n")
    monkeypatch.setattr(registry, "IMPORTED", {})
    import_plugins(["own_plugin_a", str(tmp_path / "sub" / "own_plugin_b.py")])
    assert list(registry.IMPORTED) == ["own_plugin_a", str(tmp_path / "sub" / "own_plugin_b.py")]
    assert sys.modules["own_plugin_a"].VALUE + sys.modules["own_plugin_b"].VALUE == 3


@pytest.mark.parametrize("text, reason", [("1 / 0", "ZeroDivisionError"), ("import not_there_at_all", "not_there")])
def test_a_module_that_fails_is_named_with_the_reason(tmp_path, monkeypatch, text, reason):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / f"own_plugin_{reason[:3].lower()}.py"
    path.write_text(text + "\n")
    with pytest.raises(PluginError, match=reason):
        import_plugins([str(path)])


def test_installed_plugins_are_imported_when_a_name_is_missing(monkeypatch):
    found = table()

    class Point:
        value = "pkg:thing"

        @staticmethod
        def load() -> None:
            found.add("quince", complex)

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point] if group == "proxdm.plugins" else [])
    registry.load_entry_points.cache_clear()
    try:
        assert found.find("quince") is complex
    finally:
        registry.load_entry_points.cache_clear()


@pytest.mark.parametrize(
    "text, name, parameters",
    [
        ("ddim", "ddim", {}),
        (" dpm++2m() ", "dpm++2m", {}),
        ("a-b(x=1, y=0.5, z=-1e-3)", "a-b", {"x": 1, "y": 0.5, "z": -1e-3}),
        ("a(b=left, c='two words', d=None, e=True)", "a", {"b": "left", "c": "two words", "d": None, "e": True}),
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
def test_parameters_are_checked_by_their_defaults_and_none_takes_any(given, values):
    with pytest.raises(ValueError) as error:
        check_parameters("f", given, {"a": 1.0, "n": 3})
    assert all(value in str(error.value) for value in values)
    check_parameters("f", {"a": 2, "x": "y"}, {"a": 1.0, "x": None})
