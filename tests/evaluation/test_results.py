"""The results file: whole lines or none."""

from __future__ import annotations

import json
import multiprocessing

import pytest

from proxdm.errors import OutputError
from proxdm.evaluation import results
from proxdm.evaluation.results import IDENTITY, EvaluationRow, ResultsFile, identity
from proxdm.runtime.locks import lock


def record(**changes):
    base = dict.fromkeys(IDENTITY, 1) | {"reference": {"sha256": "a", "name": "x"}, "metrics": {"fid": 1.5}}
    return base | changes


def test_append_and_find(tmp_path):
    file = ResultsFile(tmp_path / "results.jsonl")
    assert file.records() == []
    file.append(record(seed=1))
    file.append(record(seed=2))
    file.append(record(seed=1, metrics={"fid": 1.0, "w2": 2.0}))
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3
    assert file.find(identity(record(seed=1)), ["fid"])["metrics"]["w2"] == 2.0
    assert file.find(identity(record(seed=2)), ["fid"])["seed"] == 2
    assert file.find(identity(record(seed=2)), ["fid", "w2"]) is None
    assert file.find(identity(record(seed=3)), ["fid"]) is None


def test_identity_is_what_was_measured_not_where_or_by_what_name():
    same = record(device="other", seconds=3.0, source="elsewhere", reference={"sha256": "a", "name": "y"})
    assert identity(same) == identity(record())
    for name in IDENTITY:
        changed = {"sha256": "b"} if name == "reference" else 2
        assert identity(record(**{name: changed})) != identity(record())


@pytest.mark.parametrize("tail", ['{"seed": 9, "met', '{"seed": 9, "sampler": "é'.encode()[:-1], "7"])
def test_an_unfinished_last_line_is_ignored_and_removed(tmp_path, tail):
    path = tmp_path / "results.jsonl"
    file = ResultsFile(path)
    file.append(record(seed=1))
    whole = path.read_bytes()
    path.write_bytes(whole + (tail if isinstance(tail, bytes) else tail.encode()))
    assert file.records() == [record(seed=1)]
    file.append(record(seed=2))
    assert path.read_bytes() == whole + json.dumps(record(seed=2)).encode() + b"\n"


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(record(seed=1)))
    file = ResultsFile(path)
    file.append(record(seed=2))
    assert [row["seed"] for row in file.records()] == [1, 2]
    assert path.read_text().count("\n") == 2


def test_a_damaged_line_is_an_error_and_nothing_is_written(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"seed": 1}\nprecious\n{"seed": 2}\n')
    for change in (ResultsFile(path).append, ResultsFile(path).replace):
        with pytest.raises(OutputError, match="line 2 of"):
            change(record())
    assert path.read_text() == '{"seed": 1}\nprecious\n{"seed": 2}\n'


def test_replace_keeps_the_others(tmp_path):
    file = ResultsFile(tmp_path / "results.jsonl")
    for seed in (1, 2, 1):
        file.append(record(seed=seed, device="old"))
    file.replace(record(seed=1, device="new"))
    assert [(row["seed"], row["device"]) for row in file.records()] == [(2, "old"), (1, "new")]
    file.replace(record(seed=3))
    assert len(file.records()) == 3


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = ResultsFile(tmp_path / "results.jsonl")
    file.append(record(seed=1))
    before = file.path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.os, "fsync", full)
    with pytest.raises(OutputError, match=r"cannot be written .No space left on device."):
        file.append(record(seed=2))
    assert file.path.read_bytes() == before


def test_numbers_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        ResultsFile(tmp_path / "r.jsonl").append(record(metrics={"fid": float("nan")}))


def append_many(path, seed):
    for i in range(20):
        ResultsFile(path).append(record(seed=seed, steps=i))


def test_writers_take_turns(tmp_path):
    path = tmp_path / "results.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted((row["seed"], row["steps"]) for row in ResultsFile(path).records()) == [
        (seed, i) for seed in range(3) for i in range(20)
    ]


def test_a_lock_that_is_held(tmp_path):
    with (
        lock(tmp_path / "l", wait=False),
        pytest.raises(OutputError, match="another process holds"),
        lock(tmp_path / "l", wait=False),
    ):
        pass
    with lock(tmp_path / "l", wait=False):
        pass


def test_a_line_that_is_no_row():
    with pytest.raises(ValueError, match="no row of results"):
        EvaluationRow.of_record({"source": "a"})
