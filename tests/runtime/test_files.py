"""Folders of results: nothing half written, nothing overwritten in silence."""

from __future__ import annotations

import os
import sys

import pytest

from proxdm.errors import OutputError
from proxdm.runtime.files import check_folder, staged


def test_a_missing_folder_is_made_and_nothing_is_left_in_it(tmp_path):
    folder = tmp_path / "a" / "b"
    check_folder(folder, ["results.json"], overwrite=False)
    assert list(folder.iterdir()) == []


def test_what_is_there_is_not_overwritten_unless_asked(tmp_path):
    (tmp_path / "results.json").write_text("old")
    (tmp_path / "other").write_text("mine")
    with pytest.raises(OutputError, match=r"holds results\.json already; add --overwrite .* --out"):
        check_folder(tmp_path, ["results.json", "figure.png"], overwrite=False)
    check_folder(tmp_path, ["results.json"], overwrite=True)
    check_folder(tmp_path, ["figure.png"], overwrite=False)
    assert (tmp_path / "results.json").read_text() == "old"


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "results.json").mkdir()
    with pytest.raises(OutputError, match=r"results\.json is a folder"):
        check_folder(tmp_path, ["results.json"], overwrite=True)


@pytest.mark.parametrize("below", [(), ("deeper",)])
def test_a_file_in_the_place_of_the_folder(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"results cannot be written to .*file.* \(.*\); choose another folder"):
        check_folder(tmp_path.joinpath("file", *below), ["results.json"], overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user who is refused")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            check_folder(tmp_path, ["results.json"], overwrite=False)
    finally:
        tmp_path.chmod(0o700)


def test_staged_files_arrive_together(tmp_path):
    (tmp_path / "b").write_text("old")
    with staged(tmp_path, last="a") as stage:
        (stage / "a").write_text("new a")
        (stage / "b").write_text("new b")
        assert (tmp_path / "b").read_text() == "old"
        assert not (tmp_path / "a").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new a", "b": "new b"}


def test_the_last_file_moves_last(tmp_path):
    """`b` cannot move onto a folder; `a`, which is to be last, must not be there then."""
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError), staged(tmp_path, last="a") as stage:  # noqa: PT012
        (stage / "a").write_text("new a")
        (stage / "b").write_text("new b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_error_leaves_all_as_it_was(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), staged(tmp_path, last="a") as stage:  # noqa: PT012
        (stage / "a").write_text("half")
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
