r"""Wasserstein distances between weighted point sets: exact by linear programming, or sliced for large sets.

$$W_p(x, y) = \Big(\min_{\pi \ge 0} \sum_{ij} \pi_{ij}\,|x_i - y_j|^p\Big)^{1/p}, \qquad
\sum_j \pi_{ij} = a_i, \quad \sum_i \pi_{ij} = b_j,$$

with the Euclidean norm of the flattened points and weights `a` `(n,)` and `b` `(m,)` that sum to 1. The exact
distance is POT's network simplex (Bonneel et al. 2011; Flamary et al. 2021) in float64. Its cost matrix has
`n m` entries, so it is meant for a few thousand points; :func:`sliced_wasserstein` (Bonneel et al. 2015) averages
one-dimensional distances, which are a sort, and takes sets of any size.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from proxdm.errors import NonFiniteError, ProxdmError
from proxdm.metrics.registry import Value, metric

Order = Literal[1, 2]
"""p: 1 for the mean distance moved, 2 for the root mean squared distance."""

Points = Tensor | NDArray[Any] | ArrayLike
"""Points `(n, *dims)`: a tensor on any device, an array, or nested lists."""

MAX_PAIRS = 10_000 * 10_000
"""Largest `n m` of an exact distance: a cost matrix of 0.8 GB, and minutes of work."""

PROJECTED = 8_000_000
"""Numbers that a sliced distance holds at a time, about 64 MB; more directions are taken in chunks."""

ITERATIONS = 10_000_000
"""Pivots after which the network simplex gives up; a thousand points need some thousands."""

_Array = NDArray[np.float64]


class TransportError(ProxdmError, RuntimeError):
    """The solver stopped before the optimum: its value would be an upper bound only."""


def w1(x: Points, y: Points, *, x_weights: ArrayLike | None = None, y_weights: ArrayLike | None = None) -> float:
    """Return the exact W1: :func:`wasserstein` of order 1."""
    return wasserstein(x, y, 1, x_weights=x_weights, y_weights=y_weights)


def w2(x: Points, y: Points, *, x_weights: ArrayLike | None = None, y_weights: ArrayLike | None = None) -> float:
    """Return the exact W2: :func:`wasserstein` of order 2."""
    return wasserstein(x, y, 2, x_weights=x_weights, y_weights=y_weights)


def wasserstein(
    x: Points,
    y: Points,
    order: Order = 2,
    *,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
    max_iterations: int = ITERATIONS,
) -> float:
    """Return the exact Wasserstein distance of order 1 or 2.

    Args:
        x: Points `(n, *dims)`; flattened to `(n, d)`.
        y: Points `(m, *dims)`; flattened to `(m, d)`.
        order: p, 1 or 2.
        x_weights: Masses `(n,)` of x, at least 0, rescaled to sum 1; equal masses by default.
        y_weights: Masses `(m,)` of y, likewise.
        max_iterations: Pivots after which the solver gives up.

    Raises:
        ValueError: The sets are empty, of different dimension, or larger than :data:`MAX_PAIRS`; the weights do
            not fit; another order.
        NonFiniteError: A set or its weights contain NaN or infinite numbers.
        TransportError: The solver did not reach the optimum.
    """
    xs, ys = _pair(x, y, order)
    if len(xs) * len(ys) > MAX_PAIRS:
        raise ValueError(
            f"an exact distance between {len(xs)} and {len(ys)} points needs {len(xs) * len(ys):,} costs, the limit "
            f"is {MAX_PAIRS:,}; take fewer points or sliced_wasserstein"
        )
    a, b = _weights(x_weights, len(xs), "x"), _weights(y_weights, len(ys), "y")
    import ot
    from scipy.spatial.distance import cdist

    # Differences, not the expansion |x|^2 + |y|^2 - 2 x.y, whose rounding would dominate small distances.
    cost = cdist(xs, ys, "euclidean" if order == 1 else "sqeuclidean")
    _, log = ot.emd2(a, b, cost, numItermax=max_iterations, log=True)
    if log["warning"] is not None:
        raise TransportError(
            f"the exact distance between {len(xs)} and {len(ys)} points is not optimal after {max_iterations:,} "
            f"pivots ({str(log['warning']).rstrip('.')}); raise max_iterations"
        )
    return float(max(log["cost"], 0.0) ** (1 / order))


def sliced_wasserstein(
    x: Points,
    y: Points,
    order: Order = 2,
    *,
    projections: int = 500,
    seed: int = 0,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> float:
    r"""Return the sliced Wasserstein distance `(mean over directions θ of W_p(θ·x, θ·y)^p)^(1/p)`.

    It is a lower bound of the exact distance, `O(projections n (d + log n))`, and its error falls as
    `1 / sqrt(projections)`. In d dimensions a translation by `v` has sliced W2 `|v| / sqrt(d)`.

    Args:
        x: As of :func:`wasserstein`, in any number.
        y: Likewise.
        order: p, 1 or 2.
        projections: Number of directions, uniform on the sphere.
        seed: Seed of the directions: the same seed gives the same directions, whatever the sets.
        x_weights: As of :func:`wasserstein`.
        y_weights: Likewise.

    Raises:
        ValueError: As :func:`wasserstein`, or fewer than one projection.
        NonFiniteError: A set or its weights contain NaN or infinite numbers.
    """
    if projections < 1:
        raise ValueError(f"projections = {projections} must be at least 1; 500 are usual")
    xs, ys = _pair(x, y, order)
    a, b = _weights(x_weights, len(xs), "x"), _weights(y_weights, len(ys), "y")
    equal = len(xs) == len(ys) and x_weights is None and y_weights is None
    import ot

    theta: _Array = np.random.default_rng(seed).standard_normal((projections, xs.shape[1]))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    total = 0.0
    chunk = max(1, PROJECTED // (len(xs) + len(ys)))
    for start in range(0, projections, chunk):
        px, py = (theta[start : start + chunk] @ points.T for points in (xs, ys))
        if equal:
            distances = (np.abs(np.sort(px) - np.sort(py)) ** order).mean(axis=1)
        else:
            distances = np.asarray(ot.wasserstein_1d(px.T, py.T, a, b, p=order))
        total += float(distances.sum())
    return float((total / projections) ** (1 / order))


def _pair(x: Points, y: Points, order: int) -> tuple[_Array, _Array]:
    """Return both sets as float64 `(n, d)`, checked."""
    if order not in (1, 2):
        raise ValueError(f"order = {order} must be 1 or 2")
    xs, ys = _flat(x, "x"), _flat(y, "y")
    if xs.shape[1] != ys.shape[1]:
        raise ValueError(
            f"x has points of dimension {xs.shape[1]} and y of dimension {ys.shape[1]}; they must be equal"
        )
    return xs, ys


def _flat(points: Points, name: str) -> _Array:
    if isinstance(points, Tensor):
        points = points.detach().cpu().double().numpy()
    array = np.asarray(points, dtype=np.float64)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape} and holds no points; give at least one, shape (n, *dims)")
    flat = array.reshape(len(array), -1)
    if bad := int((~np.isfinite(flat).all(axis=1)).sum()):
        raise NonFiniteError(
            f"{bad} of the {len(flat)} points of {name} contain NaN or infinite numbers; a distance needs finite points"
        )
    return flat


def _weights(weights: ArrayLike | None, count: int, name: str) -> _Array:
    """Return masses `(count,)` with sum 1, checked."""
    if weights is None:
        return np.full(count, 1 / count)
    array = np.asarray(weights.detach().cpu() if isinstance(weights, Tensor) else weights, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(
            f"the weights of {name} have shape {array.shape}, but there are {count} points: give ({count},)"
        )
    if bad := int((~np.isfinite(array)).sum()):
        raise NonFiniteError(f"{bad} of the {count} weights of {name} are NaN or infinite; give finite weights")
    if (array < 0).any() or array.sum() <= 0:
        raise ValueError(
            f"the weights of {name} reach from {array.min():g} and sum to {array.sum():g}; they must be at least 0 "
            "and not all 0"
        )
    masses: _Array = array / array.sum()
    return masses


@metric("w2", {"w2": Value("W2")}, keeps="pixels", most=2_000)
def _w2(samples: Tensor, reference: Tensor) -> tuple[float]:
    """Exact Wasserstein distance."""
    return (w2(samples, reference),)


@metric("sliced-w2", {"sliced_w2": Value("sliced W2")}, keeps="pixels", most=10_000)
def _sliced_w2(samples: Tensor, reference: Tensor) -> tuple[float]:
    """Wasserstein distance averaged over projections."""
    return (sliced_wasserstein(samples, reference),)
