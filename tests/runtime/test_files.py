"""Files: nothing half written, nothing overwritten in silence; lines of JSON are whole or none."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys

import pytest

from proxdm.errors import OutputError
from proxdm.runtime.files import JsonLines, check_folder, lock, staged
from runs import full_disk


def test_what_is_there_is_not_overwritten_unless_asked(tmp_path):
    (tmp_path / "results.json").write_text("old")
    with pytest.raises(OutputError, match=r"results\.json exists already; overwrite it \(--overwrite\)"):
        check_folder(tmp_path, ["results.json", "figure.png"], overwrite=False)
    check_folder(tmp_path, ["results.json"], overwrite=True)
    check_folder(tmp_path, ["figure.png"], overwrite=False)
    assert (tmp_path / "results.json").read_text() == "old"
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(OutputError, match=r"figure\.png is a folder"):
        check_folder(tmp_path, ["figure.png"], overwrite=True)


def test_a_missing_folder_is_made_unless_a_file_is_in_its_place(tmp_path):
    check_folder(tmp_path / "a" / "b", ["results.json"], overwrite=False)
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(OutputError, match=r"results cannot be written to .*file.* \(.*\); choose another folder"):
            check_folder(folder, ["results.json"], overwrite=True)
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


def test_an_error_leaves_all_as_it_was_and_the_last_file_moves_last(tmp_path):
    with pytest.raises(RuntimeError), staged(tmp_path, last="a") as stage:  # noqa: PT012
        (stage / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b").mkdir()  # onto which `b` cannot move; `a`, which is to be last, must not be there then
    with pytest.raises(OSError), staged(tmp_path, last="a") as stage:  # noqa: PT012
        (stage / "a").write_text("new a")
        (stage / "b").write_text("new b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


# ---- lines of JSON, and locks ----


@pytest.fixture
def file(tmp_path):
    return JsonLines(tmp_path / "lines.jsonl")


@pytest.mark.parametrize("tail", [b'{"seed": 9, "met', '{"seed": 9, "sampler": "é'.encode()[:-1], b"7"])
def test_an_unfinished_last_line_is_ignored_and_removed(file, tail):
    assert file.records() == []
    file.append({"seed": 1})
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + tail)
    assert file.records() == [{"seed": 1}]
    file.append({"seed": 2})
    assert file.path.read_bytes() == whole + json.dumps({"seed": 2}).encode() + b"\n"


def test_a_whole_last_line_without_its_end_is_kept_and_so_are_the_others(file):
    file.path.write_text('{"seed": 1}')
    file.append({"seed": 2})
    assert file.records() == [{"seed": 1}, {"seed": 2}]
    assert file.path.read_text().count("\n") == 2
    file.append({"seed": 1, "device": "old"})
    file.replace({"seed": 1, "device": "new"}, lambda other: other["seed"] == 1)
    assert file.records() == [{"seed": 2}, {"seed": 1, "device": "new"}]
    file.replace({"seed": 3}, lambda other: other["seed"] == 3)
    assert len(file.records()) == 3


def test_a_damaged_line_is_an_error_and_nothing_is_written(file):
    text = '{"seed": 1}\nprecious\n{"seed": 2}\n'
    file.path.write_text(text)
    for change in (file.append, lambda record: file.replace(record, lambda other: True)):
        with pytest.raises(OutputError, match="line 2 of"):
            change({})
    assert file.path.read_text() == text


def test_a_failed_write_leaves_the_file_as_it_was(file, monkeypatch):
    file.append({"seed": 1})
    before = file.path.read_bytes()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        file.append({"seed": 2})
    with pytest.raises(ValueError, match="JSON"):
        file.append({"fid": float("nan")})
    assert file.path.read_bytes() == before


def append_many(path, seed):
    for i in range(20):
        JsonLines(path).append({"seed": seed, "i": i})


def test_writers_take_turns(file):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(file.path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted((row["seed"], row["i"]) for row in file.records()) == [(s, i) for s in range(3) for i in range(20)]


def test_a_lock_that_is_held(tmp_path):
    path = tmp_path / "l"
    for _ in range(2):
        with lock(path, wait=False), pytest.raises(OutputError, match="process holds"), lock(path, wait=False):
            pass
