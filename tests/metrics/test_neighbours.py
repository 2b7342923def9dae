"""Nearest neighbours against brute force, and the signs of memorisation on sets where they are known."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from proxdm.errors import NonFiniteError
from proxdm.metrics.neighbours import memorisation, nearest


def all_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.double()[:, None] - y.double()[None]).norm(dim=2)


@pytest.mark.parametrize("block", [1, 4, 7, 100])
@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_equal_brute_force_in_any_blocks(block, k, generator):
    queries, points = torch.randn(11, 6, generator=generator), torch.randn(17, 6, generator=generator)
    found = nearest(queries, points, k, block=block)
    expected = all_distances(queries, points).sort(dim=1)
    assert torch.equal(found.indices, expected.indices[:, :k])
    torch.testing.assert_close(found.distances, expected.values[:, :k])


@pytest.mark.parametrize("block", [2, 5, 100])
def test_a_sample_is_not_its_own_neighbour_but_its_duplicate_is(block, generator):
    points = torch.randn(9, 4, generator=generator)
    points[7] = points[2]
    found = nearest(points, points, 2, exclude_self=True, block=block)
    distances = all_distances(points, points)
    distances.fill_diagonal_(torch.inf)
    torch.testing.assert_close(found.distances, distances.sort(dim=1).values[:, :2])
    assert found.indices[2, 0] == 7
    assert found.indices[7, 0] == 2
    assert found.distances[2, 0] == 0
    assert (found.indices != torch.arange(9)[:, None]).all()


def test_copies_have_distance_zero_however_large_the_features(generator):
    """`|x|^2 + |y|^2 - 2 x.y` of float32 numbers of size 1e4 would leave distances of order one."""
    points = torch.randn(40, 64, generator=generator) + 1e4
    found = nearest(points[5:15], points)
    assert torch.equal(found.indices[:, 0], torch.arange(5, 15))
    assert (found.distances == 0).all()


def test_errors(generator):
    x = torch.randn(4, 3, generator=generator)
    with pytest.raises(ValueError, match="k = 5 must be from 1 to the 4 other points"):
        nearest(x, x, 5)
    with pytest.raises(ValueError, match="k = 4 must be from 1 to the 3 other points"):
        nearest(x, x, 4, exclude_self=True)
    with pytest.raises(ValueError, match="got 2 queries and 4 points"):
        nearest(x[:2], x, exclude_self=True)
    with pytest.raises(ValueError, match="dimension 3 and 2 cannot be compared"):
        nearest(x, torch.zeros(4, 2))
    with pytest.raises(NonFiniteError, match="4 of 4 feature vectors"):
        nearest(x, x / 0)
    with pytest.raises(ValueError, match="the training set has 1 images"):
        memorisation(x, x[:1], x)


# Memorisation


@pytest.fixture
def sets(generator):
    """Training, test and fresh samples of one distribution."""
    return tuple(torch.randn(300, 8, generator=generator) for _ in range(3))


def test_fresh_samples_show_no_memorisation(sets):
    train, test, fresh = sets
    report = memorisation(fresh, train, test)
    assert abs(report.z_score) < 3
    assert report.closer == pytest.approx(0.5, abs=0.1)
    assert report.copied < 0.02
    torch.testing.assert_close(report.sample_distances, all_distances(fresh, train).min(dim=1).values)
    torch.testing.assert_close(report.test_distances, all_distances(test, train).min(dim=1).values)


def test_copies_are_found_and_named(sets, generator):
    train, test, _ = sets
    chosen = torch.randperm(300, generator=generator)[:50]
    report = memorisation(train[chosen], train, test)
    assert report.closer == 1
    assert report.z_score > 10
    assert report.copied == 1
    assert report.test_copied < 0.02
    assert torch.equal(report.sample_indices, chosen)
    assert (report.sample_distances == 0).all()


def test_near_copies_are_found(sets, generator):
    train, test, fresh = sets
    near = train[:50] + 0.02 * torch.randn(50, 8, generator=generator)
    report = memorisation(torch.cat([near, fresh[:50]]), train, test)
    assert report.copied == pytest.approx(0.5, abs=0.02)
    assert report.z_score > 3


def test_the_test_statistic_equals_scipys_with_ties(generator):
    """Distances on a grid of few values, so that most are tied."""
    train = torch.zeros(2, 1)
    train[1] = 100
    samples = torch.randint(0, 5, (40, 1), generator=generator).float()
    test = torch.randint(1, 6, (30, 1), generator=generator).float()
    report = memorisation(samples, train, test)
    a, b = samples[:, 0].double().numpy(), test[:, 0].double().numpy()
    statistic = scipy.stats.mannwhitneyu(b, a, use_continuity=False, method="asymptotic", alternative="greater")
    assert report.closer == pytest.approx(statistic.statistic / (40 * 30))
    assert scipy.stats.norm.sf(report.z_score) == pytest.approx(statistic.pvalue, rel=1e-9)
    equal = memorisation(torch.ones(4, 1), train, torch.ones(3, 1))
    assert (equal.closer, equal.z_score) == (0.5, 0.0)
