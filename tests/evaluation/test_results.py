"""Rows: what makes two the same measurement, lines that older and newer versions wrote, errors of files."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fake_results import make_row, write_results
from proxdm.evaluation.results import IDENTITY, EvaluationRow, find_row, identity, read_results


def record(**changes):
    base = dict.fromkeys(IDENTITY, 1) | {"reference": {"sha256": "a", "name": "x"}, "metrics": {"fid": 1.5}}
    return base | changes


def test_identity_is_what_was_measured_not_where_or_by_what_name():
    same = record(device="other", seconds=3.0, source="elsewhere", reference={"sha256": "a", "name": "y"})
    assert identity(same) == identity(record())
    for name in IDENTITY:
        changed = {"sha256": "b"} if name == "reference" else 2
        assert identity(record(**{name: changed})) != identity(record())


def test_the_latest_row_with_all_values_is_found():
    rows = [make_row(seed=1), make_row(seed=2), make_row(seed=1, metrics={"fid": 1.0, "w2": 2.0})]
    records = [row.record() for row in rows]
    assert find_row(records, records[0], ["fid"]) == rows[2]
    assert find_row(records, records[1], ["fid"]) == rows[1]
    assert find_row(records, records[1], ["fid", "w2"]) is None
    assert find_row(records, make_row(seed=3).record(), ["fid"]) is None
    other = {**records[0], "features": {"name": "others"}}
    assert find_row(records, other, ["w2"]) == rows[2], "pixels are the same with any features"
    assert find_row(records, other, ["fid", "w2"]) is None


def test_a_row_is_written_as_ever_and_read_back():
    row = make_row()
    assert EvaluationRow.of_record({**row.record(), "news": 1}) == row
    assert not {"target", "operator"} & set(row.record()), "rows of older versions have neither"
    derived = dataclasses.replace(row, operator="posterior-mean")
    assert EvaluationRow.of_record(derived.record()) == derived


def test_results_are_read_from_files_folders_and_folders_of_folders(tmp_path):
    rows = [make_row(steps=n) for n in (5, 10)]
    one = write_results(tmp_path / "all" / "one", rows)
    write_results(tmp_path / "all" / "two", [make_row("prox-ode")])
    for path in (one, one / "results.jsonl"):
        assert [(row, row.folder) for row in read_results(path)] == [(row, one) for row in rows]
    found = [(row.sampler, row.folder.name) for row in read_results(tmp_path / "all")]
    assert found == [("prox-hybrid", "one"), ("prox-hybrid", "one"), ("prox-ode", "two")]


def test_missing_and_empty_results_are_errors(tmp_path):
    for path, reason in ((tmp_path / "nowhere", "nowhere does not exist"), (tmp_path, r"holds no results\.jsonl")):
        with pytest.raises(ValueError, match=f"no results found: .*{reason}.*proxdm evaluate"):
            read_results(path)
    (tmp_path / "results.jsonl").touch()
    with pytest.raises(ValueError, match="has no rows"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": "5"}, "steps = '5' must be a whole number"),
        ({"metrics": {"fid": float("nan")}}, "fid = nan is no finite number"),
        ({"seconds": float("inf")}, "seconds = inf is no finite number"),
        ({"metrics": [1]}, "metrics = [1] must be"),
        ({"used": {"fid": 3}}, "used.fid = 3 must be"),
        ({"used": {"fid": []}}, "used holds an empty list"),
        ({"sampler": None}, "sampler = None must be a string"),
        ({"picture": 3}, "picture = 3 must be a string or null"),
    ],
)
def test_damaged_rows_are_named(tmp_path, change, message):
    lines = [json.dumps(row) for row in (make_row().record(), {**make_row().record(), **change})]
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"row 2 of .*results\.jsonl is damaged: ") as caught:
        read_results(tmp_path)
    assert message in str(caught.value)
    (tmp_path / "results.jsonl").write_text('{"source": "a"}\n')
    with pytest.raises(ValueError, match=r"row 1 of .* is damaged: the key 'sampler' is missing"):
        read_results(tmp_path)
