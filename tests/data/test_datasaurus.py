"""The Datasaurus sets: shape, range, and the property that gave them their name."""

from __future__ import annotations

import numpy as np
import pytest

from proxdm.data import datasaurus


@pytest.mark.parametrize("name", datasaurus.NAMES)
def test_same_stats_different_graphs(name):
    """Matejka and Fitzmaurice keep mean, deviation and correlation equal to two decimals."""
    points = datasaurus.load(name)
    assert points.shape == (datasaurus.POINTS, 2)
    assert points.dtype == np.float64
    assert np.abs(points).max() <= 1
    raw = points * 50 + 50
    np.testing.assert_allclose(raw.mean(0), [54.26, 47.83], atol=0.011)
    np.testing.assert_allclose(raw.std(0, ddof=1), [16.76, 26.93], atol=0.011)
    assert np.corrcoef(raw.T)[0, 1] == pytest.approx(-0.065, abs=0.005)


def test_sets_differ_and_are_distinct_points():
    sets = [datasaurus.load(name) for name in datasaurus.NAMES]
    assert len({points.tobytes() for points in sets}) == len(datasaurus.NAMES) == 13


def test_points_are_scaled_and_a_private_copy():
    datasaurus.load("dino")[:] = 7
    np.testing.assert_array_equal(datasaurus.load("dino")[0], [(55.3846 - 50) / 50, (97.1795 - 50) / 50])


def test_unknown_name_suggests_the_closest():
    with pytest.raises(ValueError, match=r"'dinno' \(did you mean 'dino'\?\).*bullseye"):
        datasaurus.load("dinno")
