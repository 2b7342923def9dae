"""Nearest neighbours, copies, precision and recall against brute force and on sets where they are known."""

from __future__ import annotations

import pytest
import torch

from proxdm.errors import NonFiniteError
from proxdm.metrics.neighbours import copied, nearest, precision_recall


def all_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.double()[:, None] - y.double()[None]).norm(dim=2)


@pytest.mark.parametrize("k", [1, 3])
def test_neighbours_equal_brute_force(k, generator):
    queries, points = torch.randn(11, 6, generator=generator), torch.randn(17, 6, generator=generator)
    found = nearest(queries, points, k)
    expected = all_distances(queries, points).sort(dim=1)
    assert torch.equal(found.indices, expected.indices[:, :k])
    torch.testing.assert_close(found.distances, expected.values[:, :k])


def test_a_sample_is_not_its_own_neighbour_but_its_duplicate_is(generator):
    points = torch.randn(9, 4, generator=generator)
    points[7] = points[2]
    found = nearest(None, points, 2)
    distances = all_distances(points, points)
    distances.fill_diagonal_(torch.inf)
    torch.testing.assert_close(found.distances, distances.sort(dim=1).values[:, :2])
    assert (found.indices[2, 0], found.indices[7, 0], found.distances[2, 0]) == (7, 2, 0)
    assert (found.indices != torch.arange(9)[:, None]).all()


def test_copies_have_distance_zero_however_large_the_features(generator):
    """`|x|^2 + |y|^2 - 2 x.y` of float32 numbers of size 1e4 would leave distances of order one."""
    points = torch.randn(40, 64, generator=generator) + 1e4
    found = nearest(points[5:15], points)
    assert torch.equal(found.indices[:, 0], torch.arange(5, 15))
    assert (found.distances == 0).all()


def test_near_copies_are_counted(generator):
    train, fresh = torch.randn(300, 8, generator=generator), torch.randn(50, 8, generator=generator)
    near = train[:50] + 0.02 * torch.randn(50, 8, generator=generator)
    assert copied(nearest(fresh, train, 2)) < 0.02
    assert copied(nearest(train[100:], train, 2)) == 1
    assert copied(nearest(torch.cat([near, fresh]), train, 2)) == pytest.approx(0.5, abs=0.02)
    assert copied(nearest(torch.ones(3, 1), torch.tensor([[1.0], [1.0]]), 2)) == 1  # both distances are 0


# Precision and recall


def inside(points: torch.Tensor, members: torch.Tensor, k: int) -> float:
    """Fraction of points in a ball around a member, by all distances."""
    own = all_distances(members, members).sort(dim=1).values[:, k]  # column 0 is the member itself
    return float((all_distances(points, members) <= own).any(dim=1).double().mean())


@pytest.mark.parametrize("block", [1, 6, 1000])
@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_equal_brute_force_in_any_blocks(block, k, generator):
    samples = torch.randn(40, 3, generator=generator, dtype=torch.float64) + 1
    reference = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    expected = inside(samples, reference, k), inside(reference, samples, k)
    assert precision_recall(samples, reference, k=k, block=block) == expected
    assert all(0 < part < 1 for part in expected)


def test_a_set_against_itself_is_perfect_even_with_duplicates(generator):
    points = torch.randn(30, 5, generator=generator) + 100
    points[3] = points[4]
    assert precision_recall(points, points, k=1) == (1, 1)


def test_a_dropped_mode_costs_recall_only(generator):
    """The reference has two far modes of equal weight, the samples one."""
    reference = torch.randn(400, 2, generator=generator)
    reference[200:] += 50
    result = precision_recall(torch.randn(400, 2, generator=generator) * 0.9, reference)
    assert result.precision > 0.9
    assert 0.4 < result.recall < 0.55


@pytest.mark.parametrize("compute", [nearest, precision_recall])
def test_errors(compute, generator):
    x = torch.randn(4, 3, generator=generator)
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k = {k} must be from 1 to"):
            compute(x, x, k=k)
    with pytest.raises(ValueError, match="k = 4 must be from 1 to the 3 "):
        nearest(None, x, 4) if compute is nearest else compute(x, x, k=4)
    with pytest.raises(ValueError, match="dimension 3 and 2 "):
        compute(x, torch.zeros(4, 2))
    with pytest.raises(NonFiniteError, match="4 of 4 "):
        compute(x, x / 0)
