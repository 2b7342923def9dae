"""Precision and recall against brute force and on sets where they are known."""

from __future__ import annotations

import pytest
import torch

from proxdm.errors import NonFiniteError
from proxdm.metrics.precision_recall import precision_recall


def inside(points: torch.Tensor, members: torch.Tensor, k: int) -> float:
    """Fraction of points in a ball around a member, by all distances."""
    own = (members[:, None] - members[None]).norm(dim=2).sort(dim=1).values[:, k]  # column 0 is the member itself
    distances = (points[:, None] - members[None]).norm(dim=2)
    return float((distances <= own).any(dim=1).double().mean())


@pytest.mark.parametrize("block", [1, 6, 1000])
@pytest.mark.parametrize("k", [1, 3])
def test_equals_brute_force_in_any_blocks(block, k, generator):
    samples = torch.randn(40, 3, generator=generator, dtype=torch.float64) + 1
    reference = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    result = precision_recall(samples, reference, k=k, block=block)
    assert result.precision == inside(samples, reference, k)
    assert result.recall == inside(reference, samples, k)
    assert 0 < result.recall < 1
    assert 0 < result.precision < 1


def test_a_set_against_itself_is_perfect_even_with_duplicates(generator):
    points = torch.randn(30, 5, generator=generator) + 100
    points[3] = points[4]
    result = precision_recall(points, points, k=1)
    assert (result.precision, result.recall, result.k) == (1, 1, 1)


def test_a_dropped_mode_costs_recall_only(generator):
    """The reference has two far modes of equal weight, the samples one."""
    reference = torch.randn(400, 2, generator=generator)
    reference[200:] += 50
    samples = torch.randn(400, 2, generator=generator) * 0.9
    result = precision_recall(samples, reference)
    assert result.precision > 0.9
    assert 0.4 < result.recall < 0.55


def test_errors(generator):
    x = torch.randn(5, 3, generator=generator)
    with pytest.raises(ValueError, match="k = 5 must be at least 1 and below the size of both sets"):
        precision_recall(x, x, k=5)
    with pytest.raises(ValueError, match="k = 0 must be at least 1"):
        precision_recall(x, x, k=0)
    with pytest.raises(ValueError, match="dimension 3 and 2 cannot be compared"):
        precision_recall(x, torch.zeros(5, 2))
    with pytest.raises(NonFiniteError, match="5 of 5"):
        precision_recall(x, x / 0)
