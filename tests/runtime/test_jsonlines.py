"""Lines of JSON: whole lines or none."""

from __future__ import annotations

import json
import multiprocessing

import pytest

from proxdm.errors import OutputError
from proxdm.runtime import jsonlines
from proxdm.runtime.jsonlines import JsonLines
from proxdm.runtime.locks import lock


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


def test_a_whole_last_line_without_its_end_is_kept(file):
    file.path.write_text('{"seed": 1}')
    file.append({"seed": 2})
    assert file.records() == [{"seed": 1}, {"seed": 2}]
    assert file.path.read_text().count("\n") == 2


def test_a_damaged_line_is_an_error_and_nothing_is_written(file):
    text = '{"seed": 1}\nprecious\n{"seed": 2}\n'
    file.path.write_text(text)
    for change in (file.append, lambda record: file.replace(record, lambda other: True)):
        with pytest.raises(OutputError, match="line 2 of"):
            change({})
    assert file.path.read_text() == text


def test_replace_keeps_the_others(file):
    for seed in (1, 2, 1):
        file.append({"seed": seed, "device": "old"})
    file.replace({"seed": 1}, lambda other: other["seed"] == 1)
    assert file.records() == [{"seed": 2, "device": "old"}, {"seed": 1}]
    file.replace({"seed": 3}, lambda other: other["seed"] == 3)
    assert len(file.records()) == 3


def test_a_failed_write_leaves_the_file_as_it_was(file, monkeypatch):
    file.append({"seed": 1})
    before = file.path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jsonlines.os, "fsync", full)
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
    with (
        lock(tmp_path / "l", wait=False),
        pytest.raises(OutputError, match="another process holds"),
        lock(tmp_path / "l", wait=False),
    ):
        pass
    with lock(tmp_path / "l", wait=False):
        pass
