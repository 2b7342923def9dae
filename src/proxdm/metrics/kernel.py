r"""The kernel distance between sets of features: unbiased at any number of samples, unlike the Fréchet distance.

$$\mathrm{MMD}^2 = \frac{1}{m(m-1)}\sum_{i \ne j} k(x_i, x_j) + \frac{1}{n(n-1)}\sum_{i \ne j} k(y_i, y_j)
- \frac{2}{mn}\sum_{ij} k(x_i, y_j), \qquad k(x, y) = \Big(\frac{x \cdot y}{D} + 1\Big)^3,$$

for x `(m, D)` and y `(n, D)` (Gretton et al. 2012, JMLR 13; the kernel: Bińkowski et al. 2018, arXiv 1801.01401, who
call it KID for Inception features). Being unbiased it can be negative. All sums are in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from proxdm.metrics.checks import BLOCK, check_pair
from proxdm.metrics.registry import ERROR, Value, metric

SUBSET = 1000
"""Samples in one subset, unless told otherwise; in evaluations all of the smaller set if there are fewer."""


class KernelDistance(NamedTuple):
    """MMD^2 over random subsets: mean, its standard error, and the standard deviation that is often reported.

    Subsets drawn from the same samples overlap, so the error is `std` over the root of the number of *disjoint*
    subsets there is room for, or of subsets drawn if that is less.
    """

    value: float
    standard_error: float
    std: float


def squared_mmd(x: Tensor, y: Tensor, *, block: int = BLOCK) -> float:
    """Return the unbiased MMD^2 of all samples, exact, in memory for `block` rows and columns of the kernel matrix."""
    xs, ys = check_pair(x, y)
    m, n = len(xs), len(ys)
    if min(m, n) < 2:
        raise ValueError(f"the sets have {m} and {n} samples; an unbiased distance needs 2 of each")
    within = _pairs_within(xs, block) / (m * (m - 1)) + _pairs_within(ys, block) / (n * (n - 1))
    across = sum(float(_kernel(a, b).sum()) for a in torch.split(xs, block) for b in torch.split(ys, block))
    return within - 2 * across / (m * n)


def kid(x: Tensor, y: Tensor, *, subset_size: int = SUBSET, subsets: int = 100, seed: int = 0) -> KernelDistance:
    """Return the mean of MMD^2 over random subsets, drawn of each set without replacement (ValueError: too few)."""
    xs, ys = check_pair(x, y)
    fewer = min(len(xs), len(ys))
    if not 2 <= subset_size <= fewer or subsets < 2:
        raise ValueError(f"subset_size = {subset_size} must be from 2 to {fewer}, and subsets = {subsets} at least 2")
    generator = torch.Generator().manual_seed(seed)

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:subset_size].to(features.device)]

    found = [squared_mmd(draw(xs), draw(ys), block=subset_size) for _ in range(subsets)]
    values = torch.tensor(found, dtype=torch.float64)
    std = float(values.std())
    return KernelDistance(float(values.mean()), std / min(subsets, fewer // subset_size) ** 0.5, std)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _pairs_within(x: Tensor, block: int) -> float:
    """Return the sum of the kernel over all pairs of different samples, each in both orders."""
    total = 0.0
    parts = torch.split(x, block)
    for i, a in enumerate(parts):
        square = _kernel(a, a)
        total += float(square.sum() - square.diagonal().sum())
        total += sum(2 * float(_kernel(a, b).sum()) for b in parts[:i])
    return total


@metric("kid", {"kid": Value("kernel distance (KID)"), "kid_standard_error": ERROR}, least=2, most=10_000)
def _kid(samples: Tensor, reference: Tensor) -> tuple[float, ...]:
    """Kernel distance, unbiased at any number of samples."""
    return kid(samples, reference, subset_size=min(SUBSET, len(samples), len(reference)))[:2]
