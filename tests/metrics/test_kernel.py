"""The kernel distance against its definition, by loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from proxdm.errors import NonFiniteError
from proxdm.metrics.kernel import kid, squared_mmd


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimator, term by term."""

    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    xx = np.mean([k(a, b) for a, b in itertools.permutations(x, 2)])
    yy = np.mean([k(a, b) for a, b in itertools.permutations(y, 2)])
    return float(xx + yy - 2 * np.mean([k(a, b) for a in x for b in y]))


@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_exact_distance_equals_its_definition_in_any_blocks(block, generator):
    x = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(7, 5, generator=generator, dtype=torch.float64) * 1.5 + 0.3
    assert squared_mmd(x, y, block=block) == pytest.approx(brute_force(x.numpy(), y.numpy()), rel=1e-12)
    everything = kid(x[:7], y, subset_size=7, subsets=3)
    assert everything.value == pytest.approx(squared_mmd(x[:7], y), rel=1e-12)
    assert everything.std == pytest.approx(0, abs=1e-12)


def test_different_sets_are_told_apart_with_an_error_that_covers(generator):
    """x ~ N(0, I), y ~ N(m, I), D = 2. Expectations of the cube follow from the moments of x.y / 2."""
    mean = torch.tensor([1.0, 0.0])

    def draw(n):
        a = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return a, torch.randn(n, 2, generator=generator, dtype=torch.float64) + mean

    # E(s+1)^3 = 1 + 3 E s + 3 E s^2 + E s^3 with s = x.y/2; for x, x': E s^2 = 2/4, the odd moments vanish.
    # For y, y' ~ N(m, I): E s = 1/2, E s^2 = (2 + 2|m|^2 + |m|^4)/4 = 5/4; with s = (a c + b d)/2,
    # E (a c)^3 = 16, E (a c) E (b d)^2 cross term 3: E s^3 = (16 + 3)/8. For x, y: E s^2 = (2 + |m|^2)/4.
    same, other, across = 1 + 3 / 2, 1 + 3 / 2 + 15 / 4 + 19 / 8, 1 + 3 * 3 / 4
    expected = same + other - 2 * across
    x, y = draw(2000)
    result = kid(x, y, subset_size=200, subsets=20)
    assert abs(result.value - expected) < 4 * result.standard_error
    assert result.value > 10 * result.standard_error
    # the error is of the size of the spread between independent repetitions, not of overlapping subsets
    repeated = [kid(*draw(2000), subset_size=200, subsets=20).value for _ in range(12)]
    assert 0.4 < result.standard_error / np.std(repeated, ddof=1) < 3


def test_subsets_are_reproducible(generator):
    x, y = torch.randn(50, 4, generator=generator), torch.randn(60, 4, generator=generator)
    first, second, third = (kid(x, y, subset_size=10, subsets=5, seed=seed) for seed in (0, 0, 1))
    assert first == second
    assert first.value != third.value
    assert first.standard_error == pytest.approx(first.std / 5**0.5)
    fewer = kid(x, y, subset_size=25, subsets=9)
    assert fewer.standard_error == pytest.approx(fewer.std / 2**0.5)


def test_errors(generator):
    x = torch.randn(5, 3, generator=generator)
    with pytest.raises(ValueError, match="dimension 3 and 2 "):
        squared_mmd(x, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="sets have 5 and 1 samples"):
        squared_mmd(x, x[:1])
    with pytest.raises(NonFiniteError, match="1 of 5 "):
        squared_mmd(x, torch.where(torch.arange(5)[:, None] == 2, torch.nan, x))
    for size, subsets in ((6, 100), (1, 100), (5, 1)):
        with pytest.raises(ValueError, match=f"subset_size = {size} must be from 2 to 5, and subsets = {subsets} at"):
            kid(x, x, subset_size=size, subsets=subsets)
