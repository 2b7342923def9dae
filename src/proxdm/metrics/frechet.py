r"""The Fréchet distance between Gaussians, and the moments it needs, accumulated in one pass.

$$d^2 = |\mu_1 - \mu_2|^2 + \mathrm{tr}\,C_1 + \mathrm{tr}\,C_2 - 2\,\mathrm{tr}\,(C_1^{1/2} C_2\,C_1^{1/2})^{1/2}$$

is the squared W2 between `N(mu_1, C_1)` and `N(mu_2, C_2)` (Dowson & Landau 1982). Taken between the moments of
Inception features it is the FID (Heusel et al. 2017, arXiv 1706.08500). Features are `(n, D)`, mean `(D,)`,
covariance `(D, D)` with the divisor `n - 1`; all sums are in float64.

An estimate from n samples is biased upwards by a term that falls as `1/n`, so distances at different n cannot be
compared; :func:`fid_infinity` extrapolates to infinitely many (Chong & Forsyth 2020, arXiv 1911.07023).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from proxdm.errors import NonFiniteError
from proxdm.metrics.checks import Array, Numbers, as_array, check_features
from proxdm.metrics.registry import ERROR, Value, metric

Gaussian = tuple[Array, Array]  # mean (D,) and covariance (D, D)

SMALLEST = 5000
"""Samples in the smallest fit of `fid-infinity`, unless told otherwise; in evaluations half of fewer than 10,000."""


class MomentAccumulator:
    """Mean and covariance of features `(B, dim)` that arrive in batches, in memory `O(dim^2)` whatever their number.

    Batches are merged by the update of Chan, Golub & LeVeque (1983), so that the result does not depend on how the
    samples were split, and two accumulators (of two processes) merge in the same way.
    """

    def __init__(self, dim: int, *, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self._mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    @property
    def mean(self) -> Tensor:
        """Mean `(D,)`, float64; 0 before the first sample."""
        return self._mean.clone()

    @property
    def cov(self) -> Tensor:
        """Covariance `(D, D)` with the divisor `n - 1`, float64, symmetric, of two samples or more."""
        if self.count < 2:
            raise ValueError(f"a covariance needs 2 samples at least, there are {self.count}; add more")
        return (self._scatter + self._scatter.T) / (2 * (self.count - 1))

    def add(self, features: Tensor) -> None:
        """Take in a batch of features, or nothing: ValueError, they are not `(B, dim)`; NonFiniteError, not finite."""
        wide = check_features(features).to(self._mean.device)
        mean = wide.mean(0)
        centred = wide - mean
        self._combine(len(wide), mean, centred.T @ centred)

    def merge(self, other: MomentAccumulator) -> None:
        """Take in the samples of another accumulator, which stays as it is."""
        self._combine(other.count, other._mean, other._scatter)

    def state(self) -> dict[str, Tensor]:
        """Return the state as tensors, to send to another process: count `()`, mean `(D,)`, scatter `(D, D)`."""
        count = torch.tensor(self.count, device=self._mean.device)
        return {"count": count, "mean": self._mean.clone(), "scatter": self._scatter.clone()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> MomentAccumulator:
        """Return the accumulator that :meth:`state` was taken of."""
        restored = cls(len(state["mean"]), device=state["mean"].device)
        restored._combine(int(state["count"]), state["mean"], state["scatter"])
        return restored

    def _combine(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if mean.shape != self._mean.shape:
            raise ValueError(f"features of dimension {len(mean)} do not fit moments of dimension {len(self._mean)}")
        if not count:
            return
        total = self.count + count
        shift = mean.to(self._mean.device) - self._mean
        self._scatter += scatter.to(shift.device) + torch.outer(shift, shift) * (self.count * count / total)
        self._mean += shift * (count / total)
        self.count = total


def frechet_distance(mu1: Numbers, cov1: Numbers, mu2: Numbers, cov2: Numbers) -> float:
    r"""Return the squared Fréchet distance between two Gaussians, at least 0 (the FID, for Inception features).

    With `C = L L^T`, the trace of the square root is that of `(L_1^T C_2 L_1)^{1/2}`: the sum of the singular values
    of `L_1^T L_2`. The factors have as many columns as the covariances have rank, so that fewer samples than
    dimensions lose no digits, as they do in the root of a singular product.
    """
    return _distance(_factored(mu1, cov1, "first"), _factored(mu2, cov2, "second"))


class FidInfinity(NamedTuple):
    """The line `distance = value + slope / n`, and the distances it is fitted to.

    The standard error of the value comes from the residuals; it is 0 for two sizes.
    """

    value: float
    standard_error: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def fid_infinity(
    features: Tensor, mu: Numbers, cov: Numbers, *, points: int = 15, smallest: int = SMALLEST, seed: int = 0
) -> FidInfinity:
    """Return the distance of `features` to reference moments at infinitely many samples (arXiv 1911.07023, Sec. 3).

    At `points` evenly spaced sizes from `smallest` to n, the distance is taken of that many samples drawn without
    replacement; a line in 1/n gives the intercept. The reference keeps its own bias.
    """
    features = check_features(features)
    if points < 2 or not 2 <= smallest < len(features):
        raise ValueError(
            f"points = {points} must be at least 2, smallest = {smallest} from 2 to below the {len(features)} samples"
        )
    reference = _factored(mu, cov, "reference")
    sizes = sorted({round(float(size)) for size in np.linspace(smallest, len(features), points)})
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for size in sizes:
        chosen = torch.randperm(len(features), generator=generator)[:size].to(features.device)
        part = MomentAccumulator(features.shape[1])
        for rows in torch.split(features[chosen], 4096):
            part.add(rows)
        distances.append(_distance(_factored(part.mean, part.cov, "sample"), reference))
    x, y, freedom = 1 / np.asarray(sizes, dtype=np.float64), np.asarray(distances), len(sizes) - 2
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread))
    value = float(y.mean() - slope * x.mean())
    variance = float(((y - value - slope * x) ** 2).sum()) / freedom if freedom else 0.0
    error = float(np.sqrt(variance * (1 / len(x) + x.mean() ** 2 / (spread @ spread))))
    return FidInfinity(value, error, slope, tuple(sizes), tuple(distances))


class _Factored(NamedTuple):
    """A Gaussian: mean `(D,)`, trace of the covariance, and `L` `(D, rank)` with `L L^T` the covariance."""

    mean: Array
    trace: float
    factor: Array


def _factored(mu: Numbers, cov: Numbers, name: str) -> _Factored:
    """Return a Gaussian, checked, with Cholesky's factor with pivots, which ends at the numerical rank."""
    from scipy.linalg.lapack import dpstrf

    mean, covariance = as_array(mu), as_array(cov)
    if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"the {name} Gaussian must be (D,) and (D, D), it is {mean.shape} and {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise NonFiniteError(f"the {name} Gaussian contains NaN or infinite numbers; compute its statistics again")
    largest = float(np.abs(covariance).max())
    if (gap := float(np.abs(covariance - covariance.T).max())) > 1e-6 * largest:
        raise ValueError(f"the {name} covariance differs from its transpose by {gap:.3g}; it must be symmetric")
    upper, pivots, rank, _ = dpstrf((covariance + covariance.T) / 2, lower=0)
    factor: Array = np.zeros((len(covariance), rank))
    factor[pivots - 1] = np.triu(upper)[:rank].T
    left = float(np.abs(covariance - factor @ factor.T).max())
    # float32 rounds every entry by 6e-8 of itself, which may take D of them from a singular covariance.
    single = np.array_equal(covariance, covariance.astype(np.float32))
    if left > 1e-6 * largest and not (left <= len(mean) * 6e-8 * largest and single):
        raise ValueError(f"the {name} covariance is not positive semi-definite, by {left:.3g} of {largest:.3g}")
    return _Factored(mean, float(np.trace(covariance)), factor)


def _distance(a: _Factored, b: _Factored) -> float:
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"Gaussians of dimension {len(a.mean)} and {len(b.mean)} cannot be compared")
    spread, gap = a.trace + b.trace, a.mean - b.mean
    return max(0.0, float(gap @ gap) + spread - 2 * _nuclear_norm(a.factor.T @ b.factor, 1e-8 * spread))


def _nuclear_norm(matrix: Array, tolerance: float) -> float:
    """Return the sum of the singular values, to an absolute `tolerance`."""
    # The roots of the eigenvalues of M M^T are several times faster, but a rounding error of eps lambda_max becomes
    # eps lambda_max / sqrt(lambda) in the root: where these add up to more than is allowed, take singular values.
    if 0 in matrix.shape:
        return 0.0
    m = torch.from_numpy(matrix if matrix.shape[0] <= matrix.shape[1] else np.ascontiguousarray(matrix.T))
    values = torch.linalg.eigvalsh(m @ m.T)
    rounding = torch.finfo(torch.float64).eps * values[-1].clamp_min(0)
    errors = rounding / values.clamp_min(rounding).sqrt()
    if float(errors.sum()) > tolerance:
        return float(torch.linalg.svdvals(m).sum())
    return float(values.clamp_min(0).sqrt().sum())


@metric("fid", {"fid": Value("Fréchet distance")}, keeps="moments", against="moments", least=2)
def _fid(samples: Gaussian, reference: Gaussian) -> tuple[float]:
    """Fréchet distance."""
    return (frechet_distance(*samples, *reference),)


_INFINITY = {"fid_infinity": Value("Fréchet distance at infinitely many samples"), "fid_infinity_standard_error": ERROR}


@metric("fid-infinity", _INFINITY, against="moments", least=10, most=50_000)
def _fid_infinity(samples: Tensor, reference: Gaussian) -> tuple[float, ...]:
    """Fréchet distance extrapolated to infinitely many samples."""
    return fid_infinity(samples, *reference, smallest=min(SMALLEST, len(samples) // 2))[:2]
