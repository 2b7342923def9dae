"""Rows: what makes two the same measurement, and lines that older and newer versions wrote."""

from __future__ import annotations

import dataclasses

import pytest

from fake_results import make_row
from proxdm.evaluation.results import IDENTITY, EvaluationRow, find_row, identity


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
    assert find_row(records, identity(records[0]), ["fid"]) == rows[2]
    assert find_row(records, identity(records[1]), ["fid"]) == rows[1]
    assert find_row(records, identity(records[1]), ["fid", "w2"]) is None
    assert find_row(records, identity(make_row(seed=3).record()), ["fid"]) is None


def test_a_row_is_written_as_ever_and_read_back():
    row = make_row()
    assert EvaluationRow.of_record({**row.record(), "news": 1}) == row
    assert not {"target", "operator"} & set(row.record()), "rows of older versions have neither"
    derived = dataclasses.replace(row, operator="posterior-mean")
    assert EvaluationRow.of_record(derived.record()) == derived
    with pytest.raises(ValueError, match="no row of results"):
        EvaluationRow.of_record({"source": "a"})
