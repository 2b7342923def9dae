r"""The kernel distance between sets of features: unbiased at any number of samples, unlike the Fréchet distance.

$$\mathrm{MMD}^2 = \frac{1}{m(m-1)}\sum_{i \ne j} k(x_i, x_j) + \frac{1}{n(n-1)}\sum_{i \ne j} k(y_i, y_j)
- \frac{2}{mn}\sum_{ij} k(x_i, y_j), \qquad k(x, y) = \Big(\frac{x \cdot y}{D} + 1\Big)^3,$$

for x `(m, D)` and y `(n, D)` (Gretton et al. 2012, JMLR 13; the kernel: Bińkowski et al. 2018, arXiv 1801.01401, who
call it KID for Inception features). Being unbiased it can be negative. All sums are in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm.metrics.blocks import BLOCK, blocks, check_pair
from proxdm.metrics.registry import ERROR, Value, metric

SUBSET = 1000
"""Samples in one subset, unless told otherwise; in evaluations all of the smaller set if there are fewer."""


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance averaged over random subsets.

    Attributes:
        value: Mean of MMD^2 over the subsets.
        standard_error: Standard error of `value`. Subsets drawn from the same samples overlap, so it is their standard
            deviation over the root of the number of *disjoint* subsets there is room for, or of subsets drawn if
            that is less.
        std: Standard deviation of MMD^2 between subsets (divisor `subsets - 1`), which is often reported.
        subsets: Number of subsets.
        subset_size: Samples of either set in each of them.
    """

    value: float
    standard_error: float
    std: float
    subsets: int
    subset_size: int


def squared_mmd(x: Tensor, y: Tensor, *, block: int = BLOCK) -> float:
    """Return the unbiased MMD^2 of all samples, exact, in memory for one block of the kernel matrix.

    Args:
        x: Features `(m, D)`, m at least 2.
        y: Features `(n, D)`, n at least 2.
        block: Rows and columns of the kernel matrix that are held at a time.

    Raises:
        ValueError: The sets are too small or of different dimension, or `block` is below 1.
        NonFiniteError: NaN or infinite features.
    """
    xs, ys = _pair(x, y)
    if block < 1:
        raise ValueError(f"block = {block} must be at least 1")
    m, n = len(xs), len(ys)
    within = _pairs_within(xs, block) / (m * (m - 1)) + _pairs_within(ys, block) / (n * (n - 1))
    across = sum(float(_kernel(a, b).sum()) for _, a in blocks(xs, block) for _, b in blocks(ys, block))
    return within - 2 * across / (m * n)


def kid(x: Tensor, y: Tensor, *, subset_size: int = SUBSET, subsets: int = 100, seed: int = 0) -> KernelDistance:
    """Return the kernel distance as it is usually reported: the mean of MMD^2 over random subsets.

    Args:
        x: Features `(m, D)`.
        y: Features `(n, D)`.
        subset_size: Samples drawn of each set, without replacement; at most m and n.
        subsets: Number of draws, at least 2.
        seed: Seed of the draws.

    Raises:
        ValueError: A set has fewer samples than `subset_size`, the sets have different dimensions, or `subset_size`
            or `subsets` is below 2.
        NonFiniteError: NaN or infinite features.
    """
    xs, ys = _pair(x, y)
    if subset_size < 2 or subsets < 2:
        raise ValueError(f"subset_size = {subset_size} and subsets = {subsets} must be at least 2")
    fewer = min(len(xs), len(ys))
    if subset_size > fewer:
        raise ValueError(
            f"subset_size = {subset_size} exceeds the {fewer} samples of the smaller set; take more samples or a "
            "smaller subset_size"
        )
    generator = torch.Generator().manual_seed(seed)

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:subset_size].to(features.device)]

    values = torch.tensor(
        [squared_mmd(draw(xs), draw(ys), block=subset_size) for _ in range(subsets)], dtype=torch.float64
    )
    std = float(values.std())
    return KernelDistance(
        value=float(values.mean()),
        standard_error=std / min(subsets, fewer // subset_size) ** 0.5,
        std=std,
        subsets=subsets,
        subset_size=subset_size,
    )


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel matrix `(m, n)`."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _pairs_within(x: Tensor, block: int) -> float:
    """Return the sum of the kernel over all pairs of different samples, each in both orders."""
    total = 0.0
    for start, a in blocks(x, block):
        square = _kernel(a, a)
        total += float(square.sum() - square.diagonal().sum())
        total += sum(2 * float(_kernel(a, b).sum()) for _, b in blocks(x[:start], block))
    return total


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    xs, ys = check_pair(x, y)
    if min(len(xs), len(ys)) < 2:
        raise ValueError(f"the sets have {len(xs)} and {len(ys)} samples; an unbiased distance needs 2 of each")
    return xs, ys


@metric("kid", {"kid": Value("kernel distance (KID)"), "kid_standard_error": ERROR}, least=2, most=10_000)
def _kid(samples: Tensor, reference: Tensor) -> tuple[float, float]:
    """Kernel distance, unbiased at any number of samples."""
    found = kid(samples, reference, subset_size=min(SUBSET, len(samples), len(reference)))
    return found.value, found.standard_error
