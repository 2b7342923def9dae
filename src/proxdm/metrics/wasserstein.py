r"""Wasserstein distances between weighted point sets: exact by linear programming, or sliced for large sets.

$$W_p(x, y) = \Big(\min_{\pi \ge 0} \sum_{ij} \pi_{ij}\,|x_i - y_j|^p\Big)^{1/p}, \qquad
\sum_j \pi_{ij} = a_i, \quad \sum_i \pi_{ij} = b_j,$$

with the Euclidean norm of the flattened points and weights `a` `(n,)` and `b` `(m,)` that sum to 1. The exact
distance is POT's network simplex (Bonneel et al. 2011; Flamary et al. 2021) in float64. Its cost matrix has
`n m` entries, so it is meant for a few thousand points; :func:`sliced_wasserstein` (Bonneel et al. 2015) averages
one-dimensional distances, which are a sort, and takes sets of any size.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from proxdm.errors import NonFiniteError, ProxdmError
from proxdm.metrics.checks import Array, Numbers, as_array
from proxdm.metrics.registry import Value, metric

Order = Literal[1, 2]

MAX_PAIRS = 10_000 * 10_000
"""Largest `n m` of an exact distance: a cost matrix of 0.8 GB, and minutes of work."""

PROJECTED = 8_000_000  # numbers that a sliced distance holds at a time, about 64 MB: directions in chunks
ITERATIONS = 10_000_000  # pivots after which the network simplex gives up; a thousand points need some thousands


class TransportError(ProxdmError, RuntimeError):
    """The solver stopped before the optimum: its value would be an upper bound only."""


def wasserstein(
    x: Numbers, y: Numbers, order: Order = 2, *, x_weights: ArrayLike | None = None, y_weights: ArrayLike | None = None
) -> float:
    """Return the exact Wasserstein distance of order 1 or 2 between points `(n, *dims)` and `(m, *dims)`.

    Weights `(n,)` and `(m,)`, at least 0, are rescaled to sum 1; the points are equally heavy by default.

    Raises:
        ValueError: The sets are empty, of different dimension, or larger than :data:`MAX_PAIRS`; the weights do
            not fit; another order.
        NonFiniteError: A set or its weights contain NaN or infinite numbers.
        TransportError: The solver did not reach the optimum in :data:`ITERATIONS` pivots.
    """
    import ot
    from scipy.spatial.distance import cdist

    xs, ys = _pair(x, y, order)
    if (pairs := len(xs) * len(ys)) > MAX_PAIRS:
        raise ValueError(
            f"an exact distance between {len(xs)} and {len(ys)} points needs {pairs:,} costs, the limit is "
            f"{MAX_PAIRS:,}; take fewer points or sliced_wasserstein"
        )
    a, b = _masses(x_weights, len(xs), "x"), _masses(y_weights, len(ys), "y")
    # Differences, not the expansion |x|^2 + |y|^2 - 2 x.y, whose rounding would dominate small distances.
    cost = cdist(xs, ys, "euclidean" if order == 1 else "sqeuclidean")
    _, log = ot.emd2(a, b, cost, numItermax=ITERATIONS, log=True)
    if log["warning"] is not None:
        raise TransportError(
            f"the distance between {len(xs)} and {len(ys)} points is not optimal after {ITERATIONS:,} pivots; take "
            "fewer points or sliced_wasserstein"
        )
    return float(max(log["cost"], 0.0) ** (1 / order))


w1, w2 = partial(wasserstein, order=1), partial(wasserstein, order=2)
"""The exact distances: :func:`wasserstein` of these orders."""


def sliced_wasserstein(x: Numbers, y: Numbers, order: Order = 2, *, projections: int = 500, seed: int = 0) -> float:
    r"""Return the sliced Wasserstein distance `(mean over directions θ of W_p(θ·x, θ·y)^p)^(1/p)`.

    It is a lower bound of the exact distance, `O(projections n (d + log n))`, and its error falls as
    `1 / sqrt(projections)`. In d dimensions a translation by `v` has sliced W2 `|v| / sqrt(d)`. The same seed gives the
    same directions, uniform on the sphere, whatever the sets.

    Raises:
        ValueError: As :func:`wasserstein`, for sets of any size; or fewer than one projection.
        NonFiniteError: A set contains NaN or infinite numbers.
    """
    import ot

    if projections < 1:
        raise ValueError(f"projections = {projections} must be at least 1; 500 are usual")
    xs, ys = _pair(x, y, order)
    theta: Array = np.random.default_rng(seed).standard_normal((projections, xs.shape[1]))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    total = 0.0
    chunk = max(1, PROJECTED // (len(xs) + len(ys)))
    for start in range(0, projections, chunk):
        px, py = (theta[start : start + chunk] @ points.T for points in (xs, ys))
        if len(xs) == len(ys):
            distances = (np.abs(np.sort(px) - np.sort(py)) ** order).mean(axis=1)
        else:
            distances = np.asarray(ot.wasserstein_1d(px.T, py.T, p=order))
        total += float(distances.sum())
    return float((total / projections) ** (1 / order))


def _pair(x: Numbers, y: Numbers, order: int) -> tuple[Array, Array]:
    """Return both sets `(n, d)`, float64, checked."""
    if order not in (1, 2):
        raise ValueError(f"order = {order} must be 1 or 2")
    xs, ys = _points(x, "x"), _points(y, "y")
    if xs.shape[1] != ys.shape[1]:
        raise ValueError(f"x of dimension {xs.shape[1]} and y of dimension {ys.shape[1]} cannot be compared")
    return xs, ys


def _points(points: Numbers, name: str) -> Array:
    array = as_array(points)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape} and holds no points; give at least one, shape (n, *dims)")
    flat = array.reshape(len(array), -1)
    if bad := int((~np.isfinite(flat).all(axis=1)).sum()):
        raise NonFiniteError(f"{bad} of the {len(flat)} points of {name} contain NaN or infinite numbers")
    return flat


def _masses(weights: ArrayLike | None, count: int, name: str) -> Array:
    """Return weights with sum 1, checked."""
    if weights is None:
        return np.full(count, 1 / count)
    array = as_array(weights)
    if array.shape != (count,):
        raise ValueError(f"weights of {name} of shape {array.shape} do not fit {count} points; give ({count},)")
    if bad := int((~np.isfinite(array)).sum()):
        raise NonFiniteError(f"{bad} of the {count} weights of {name} are NaN or infinite; give finite weights")
    if (array < 0).any() or array.sum() <= 0:
        raise ValueError(f"weights of {name} from {array.min():g} on must be at least 0, and not all 0")
    masses: Array = array / array.sum()
    return masses


@metric("w2", {"w2": Value("W2")}, keeps="pixels", most=2_000)
def _w2(samples: Tensor, reference: Tensor) -> tuple[float]:
    """Exact Wasserstein distance."""
    return (w2(samples, reference),)


@metric("sliced-w2", {"sliced_w2": Value("sliced W2")}, keeps="pixels", most=10_000)
def _sliced_w2(samples: Tensor, reference: Tensor) -> tuple[float]:
    """Wasserstein distance averaged over projections."""
    return (sliced_wasserstein(samples, reference),)
