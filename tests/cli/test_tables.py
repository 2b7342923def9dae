"""Tables on the terminal."""

from __future__ import annotations

import pytest

from proxdm.cli.tables import table


def test_columns_are_aligned():
    assert table(["method", "N"], [["a", "0.1"], ["longer-name", "10"]]).splitlines() == [
        "method         N",
        "────────────────",
        "a            0.1",
        "longer-name   10",
    ]
    assert table(["a", "b"], []) == "a  b\n────"
    with pytest.raises(ValueError, match="shorter"):
        table(["a", "b"], [["x"]])
