"""Quantities in words."""

from __future__ import annotations

import pytest

from proxdm.runtime.words import duration


@pytest.mark.parametrize(
    "seconds, words", [(41, "41 s"), (720, "12 min"), (3.5 * 3600, "3.5 h"), (2.1 * 86400, "2.1 days")]
)
def test_durations_are_in_words(seconds, words):
    assert duration(seconds) == words
