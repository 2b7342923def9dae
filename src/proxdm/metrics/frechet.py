r"""The Fréchet distance between Gaussians, and the moments it needs, accumulated in one pass.

$$d^2 = |\mu_1 - \mu_2|^2 + \mathrm{tr}\,C_1 + \mathrm{tr}\,C_2 - 2\,\mathrm{tr}\,(C_1^{1/2} C_2\,C_1^{1/2})^{1/2}$$

is the squared W2 between `N(mu_1, C_1)` and `N(mu_2, C_2)` (Dowson & Landau 1982). Taken between the moments of
Inception features it is the FID (Heusel et al. 2017, arXiv 1706.08500). Features are `(n, D)`, mean `(D,)`,
covariance `(D, D)` with the divisor `n - 1`; all sums are in float64.

An estimate from n samples is biased upwards by a term that falls as `1/n`, so distances at different n cannot be
compared; :func:`fid_infinity` extrapolates to infinitely many (Chong & Forsyth 2020, arXiv 1911.07023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from proxdm.errors import NonFiniteError
from proxdm.metrics.blocks import blocks, check_features
from proxdm.metrics.registry import ERROR, Value, metric
from proxdm.schedules import as_float64

Array = NDArray[np.float64]
"""A float64 array."""

Gaussian = tuple[Array, Array]
"""Mean `(D,)` and covariance `(D, D)`."""

SMALLEST = 5000
"""The least number of samples in a fit of `fid-infinity`, unless told otherwise; in evaluations half of all, where
those are fewer than 10,000."""

Moment = Tensor | NDArray[Any] | ArrayLike
"""A mean `(D,)` or a covariance `(D, D)`: a tensor on any device, an array, or nested lists."""


class MomentAccumulator:
    """Mean and covariance of features that arrive in batches, in memory `O(D^2)` whatever their number.

    Batches are merged by the update of Chan, Golub & LeVeque (1983), so that the result does not depend on how the
    samples were split, and two accumulators (of two processes) merge in the same way.

    Args:
        dim: D, the number of features.
        device: Where the sums live; it must have float64.

    Attributes:
        count: Number of samples so far, n.

    Raises:
        ValueError: `dim` is below 1.
    """

    def __init__(self, dim: int, *, device: torch.device | str = "cpu") -> None:
        if dim < 1:
            raise ValueError(f"dim = {dim} must be at least 1")
        self.count = 0
        self._mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    @property
    def dim(self) -> int:
        """D, the number of features."""
        return len(self._mean)

    @property
    def mean(self) -> Tensor:
        """Mean `(D,)`, float64, of one sample or more."""
        if self.count < 1:
            raise ValueError(f"a mean needs 1 sample at least, there are {self.count}; add more")
        return self._mean.clone()

    @property
    def cov(self) -> Tensor:
        """Covariance `(D, D)` with the divisor `n - 1`, float64, symmetric, of two samples or more."""
        if self.count < 2:
            raise ValueError(f"a covariance needs 2 samples at least, there are {self.count}; add more")
        return (self._scatter + self._scatter.T) / (2 * (self.count - 1))

    def add(self, features: Tensor) -> None:
        """Take in a batch of features `(B, D)`.

        Raises:
            ValueError: The features are not `(B, dim)`.
            NonFiniteError: They contain NaN or infinite numbers; nothing is added.
        """
        wide = as_float64(check_features(features).to(self._mean.device))
        mean = wide.mean(0)
        centred = wide - mean
        self._combine(len(wide), mean, centred.T @ centred)

    def merge(self, other: MomentAccumulator) -> None:
        """Take in the samples of another accumulator, which stays as it is.

        Raises:
            ValueError: Its features have another dimension.
        """
        self._combine(other.count, other._mean, other._scatter)

    def state(self) -> dict[str, Tensor]:
        """Return the state as tensors, to send to another process: count `()`, mean `(D,)`, scatter `(D, D)`."""
        return {
            "count": torch.tensor(self.count, device=self._mean.device),
            "mean": self._mean.clone(),
            "scatter": self._scatter.clone(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> MomentAccumulator:
        """Return the accumulator that :meth:`state` was taken of."""
        restored = cls(len(state["mean"]), device=state["mean"].device)
        restored._combine(int(state["count"]), state["mean"], state["scatter"])
        return restored

    def _combine(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if len(mean) != self.dim:
            raise ValueError(f"features of dimension {len(mean)} do not fit an accumulator of dimension {self.dim}")
        if not count:
            return
        total = self.count + count
        shift = mean.to(self._mean.device) - self._mean
        self._scatter += scatter.to(shift.device) + torch.outer(shift, shift) * (self.count * count / total)
        self._mean += shift * (count / total)
        self.count = total


def frechet_distance(mu1: Moment, cov1: Moment, mu2: Moment, cov2: Moment) -> float:
    r"""Return the squared Fréchet distance between two Gaussians, at least 0 (the FID, for Inception features).

    With `C = L L^T`, the trace of the square root is that of `(L_1^T C_2 L_1)^{1/2}`: the sum of the singular values
    of `L_1^T L_2`. The factors have as many columns as the covariances have rank, so that fewer samples than
    dimensions lose no digits, as they do in the root of a singular product.

    Args:
        mu1: Mean `(D,)`.
        cov1: Covariance `(D, D)`, symmetric, no eigenvalue below 0 but for rounding.
        mu2: Mean `(D,)` of the other.
        cov2: Covariance `(D, D)` of the other.

    Raises:
        ValueError: Shapes do not fit, or a covariance is not symmetric or not positive semi-definite.
        NonFiniteError: NaN or infinite numbers.
    """
    return _distance(_factored(mu1, cov1, "first"), _factored(mu2, cov2, "second"))


@dataclass(frozen=True)
class FidInfinity:
    """A Fréchet distance extrapolated to infinitely many samples.

    Attributes:
        value: Intercept of the line `distance = value + slope / n`, the estimate at n = infinity.
        slope: Its slope in `1/n`.
        standard_error: Standard error of the intercept from the residuals of the fit (0 for two sizes).
        sizes: The numbers of samples n of the fit.
        distances: The distance at each of them.
    """

    value: float
    slope: float
    standard_error: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def fid_infinity(
    features: Tensor, mu: Moment, cov: Moment, *, points: int = 15, smallest: int = SMALLEST, seed: int = 0
) -> FidInfinity:
    """Return the distance of `features` to reference moments at infinitely many samples (arXiv 1911.07023, Sec. 3).

    At `points` evenly spaced sizes from `smallest` to n, the distance is taken of that many samples drawn without
    replacement; a line in 1/n gives the intercept. The reference keeps its own bias.

    Args:
        features: Features `(n, D)` of the samples.
        mu: Mean `(D,)` of the reference.
        cov: Covariance `(D, D)` of the reference.
        points: Number of sizes, at least 2.
        smallest: Least size, at least 2 and below n.
        seed: Seed of the draws.

    Raises:
        ValueError: The sizes do not fit the number of features, or shapes do not.
        NonFiniteError: NaN or infinite numbers.
    """
    if features.ndim != 2 or points < 2 or not 2 <= smallest < len(features):
        raise ValueError(
            f"points = {points} must be at least 2 and smallest = {smallest} from 2 to below the number of samples, "
            f"got features of shape {tuple(features.shape)}; the usual fit needs more than 5000 samples"
        )
    reference = _factored(mu, cov, "reference")
    sizes = sorted({round(float(size)) for size in np.linspace(smallest, len(features), points)})
    if len(sizes) < 2:
        raise ValueError(f"sizes from {smallest} to {len(features)} are all equal; take a smaller one as smallest")
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for size in sizes:
        chosen = torch.randperm(len(features), generator=generator)[:size].to(features.device)
        part = MomentAccumulator(features.shape[1])
        for _, rows in blocks(features[chosen], 4096):
            part.add(rows)
        distances.append(_distance(_factored(part.mean, part.cov, "sample"), reference))
    value, slope, error = _line(1 / np.asarray(sizes, dtype=np.float64), np.asarray(distances))
    return FidInfinity(value, slope, error, tuple(sizes), tuple(distances))


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """Return intercept, slope and the intercept's standard error of the least-squares line `y = a + b x`."""
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread))
    intercept = float(y.mean() - slope * x.mean())
    freedom = len(x) - 2
    if freedom == 0:
        return intercept, slope, 0.0
    variance = float(((y - intercept - slope * x) ** 2).sum()) / freedom
    return intercept, slope, float(np.sqrt(variance * (1 / len(x) + x.mean() ** 2 / (spread @ spread))))


class _Factored(NamedTuple):
    """A Gaussian: mean `(D,)`, trace of the covariance, and `L` `(D, rank)` with `L L^T` the covariance."""

    mean: Array
    trace: float
    factor: Array
    name: str


def _factored(mu: Moment, cov: Moment, name: str) -> _Factored:
    """Return a Gaussian, checked, with Cholesky's factor with pivots, which ends at the numerical rank."""
    from scipy.linalg.lapack import dpstrf

    mean, covariance = (
        np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=np.float64)
        for value in (mu, cov)
    )
    if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"the {name} Gaussian has a mean of shape {mean.shape} and a covariance of shape {covariance.shape}; "
            "they must be (D,) and (D, D)"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise NonFiniteError(f"the {name} Gaussian contains NaN or infinite numbers; compute its statistics again")
    largest = float(np.abs(covariance).max())
    if (gap := float(np.abs(covariance - covariance.T).max())) > 1e-6 * largest:
        raise ValueError(f"the {name} covariance differs from its transpose by {gap:.3g}; it must be symmetric")
    upper, pivots, rank, _ = dpstrf((covariance + covariance.T) / 2, lower=0)
    factor: Array = np.zeros((len(covariance), rank))
    factor[pivots - 1] = np.triu(upper)[:rank].T
    if (left := float(np.abs(covariance - factor @ factor.T).max())) > 1e-6 * largest:
        raise ValueError(
            f"the {name} covariance is not positive semi-definite: {left:.3g} of entries up to {largest:.3g} are left "
            "by its Cholesky factor; compute its statistics again"
        )
    return _Factored(mean, float(np.trace(covariance)), factor, name)


def _distance(a: _Factored, b: _Factored) -> float:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"the {a.name} Gaussian has dimension {len(a.mean)}, the {b.name} {len(b.mean)}; they must be of the same "
            "features"
        )
    spread, gap = a.trace + b.trace, a.mean - b.mean
    return max(0.0, float(gap @ gap) + spread - 2 * _nuclear_norm(a.factor.T @ b.factor, 1e-8 * spread))


def _nuclear_norm(matrix: Array, tolerance: float) -> float:
    """Return the sum of the singular values, to an absolute `tolerance`.

    The roots of the eigenvalues of `M M^T` are several times faster than singular values, but a rounding error of
    `eps lambda_max` becomes `eps lambda_max / sqrt(lambda)` in the root: where these add up to more than is allowed,
    the singular values are computed.
    """
    if 0 in matrix.shape:
        return 0.0
    m = torch.from_numpy(matrix if matrix.shape[0] <= matrix.shape[1] else np.ascontiguousarray(matrix.T))
    values = torch.linalg.eigvalsh(m @ m.T)
    rounding = torch.finfo(torch.float64).eps * values[-1].clamp_min(0)
    errors = rounding / values.clamp_min(rounding).sqrt()
    if float(errors.sum()) > tolerance:
        return float(torch.linalg.svdvals(m).sum())
    return float(values.clamp_min(0).sqrt().sum())


@metric("fid", {"fid": Value("Fréchet distance (FID)")}, keeps="moments", against="moments", least=2)
def _fid(samples: Gaussian, reference: Gaussian) -> tuple[float]:
    """Fréchet distance."""
    return (frechet_distance(*samples, *reference),)


_INFINITY = Value("Fréchet distance at infinitely many samples")


@metric(
    "fid-infinity",
    {"fid_infinity": _INFINITY, "fid_infinity_standard_error": ERROR},
    against="moments",
    least=10,
    most=50_000,
)
def _fid_infinity(samples: Tensor, reference: Gaussian) -> tuple[float, float]:
    """Fréchet distance extrapolated to infinitely many samples."""
    found = fid_infinity(samples, *reference, smallest=min(SMALLEST, len(samples) // 2))
    return found.value, found.standard_error
