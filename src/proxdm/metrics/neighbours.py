r"""Nearest neighbours in feature space, and what they say about copies of the training set.

A generator that memorises puts its samples nearer to the training set than fresh data of the same source lie.
:func:`memorisation` compares the distances of samples to their nearest training image with those of a test set, the
baseline (Meehan, Chaudhuri & Dasgupta 2020, arXiv 2004.05675), and counts samples that are near copies of one training
image: nearest distance below a third of the second nearest (Yoon et al. 2023, *Diffusion probabilistic models
generalize when they fail to memorize*, with distances between pixels).

Features are `(n, D)`. Distances are Euclidean, searched in blocks in float64 and, for the neighbours found, taken
again from the difference, so that a copy has the distance 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm.metrics.blocks import BLOCK, blocks, check_pair
from proxdm.metrics.registry import Value, metric
from proxdm.schedules import as_float64

COPY_RATIO = 1 / 3
"""A sample whose nearest training image is nearer than this fraction of the second nearest counts as a copy."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest points of each query, the nearest first.

    Attributes:
        distances: `(n, k)`, float64, Euclidean.
        indices: `(n, k)`, which points they are.
    """

    distances: Tensor
    indices: Tensor


@dataclass(frozen=True, eq=False)
class Memorisation:
    """How near samples lie to the training set, against a test set as the baseline.

    Attributes:
        sample_distances: `(n,)`, distance of every sample to its nearest training image.
        sample_indices: `(n,)`, which image that is.
        test_distances: `(m,)`, the same distance of every test image.
        closer: Probability that a sample lies nearer to the training set than a test image, ties counted half: 0.5
            where nothing is copied, 1 where all is; below 0.5 the samples are farther off than real data.
        z_score: The Mann-Whitney statistic of `closer` in standard deviations from 0.5; above 3 is no accident.
        copied: Fraction of samples whose nearest training image is nearer than a third of the second nearest.
        test_copied: The same of the test set: duplicates within the data set.
    """

    sample_distances: Tensor
    sample_indices: Tensor
    test_distances: Tensor
    closer: float
    z_score: float
    copied: float
    test_copied: float


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return `|x_i - y_j|^2` `(n, m)`, at least 0, by `|x|^2 + |y|^2 - 2 x.y`: for float64 features of small mean."""
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * (x @ y.T)).clamp_min(0)


def nearest(
    queries: Tensor, points: Tensor, k: int = 1, *, exclude_self: bool = False, block: int = BLOCK
) -> Neighbours:
    """Return the k nearest points of every query, in memory for one block of distances.

    Args:
        queries: Features `(n, D)`.
        points: Features `(m, D)`.
        k: How many.
        exclude_self: Query i and point i are the same sample, which is no neighbour of itself.
        block: Rows and columns of distances held at a time.

    Raises:
        ValueError: The sets do not fit each other, or there are fewer than k points.
        NonFiniteError: NaN or infinite features.
    """
    q, p = check_pair(queries, points)
    available = len(p) - exclude_self
    if exclude_self and len(q) != len(p):
        raise ValueError(f"exclude_self is for queries that are the points, got {len(q)} queries and {len(p)} points")
    if not 1 <= k <= available or block < 1:
        raise ValueError(
            f"k = {k} must be from 1 to the {available} other points there are, and block = {block} at least 1"
        )
    centre = as_float64(p.mean(0))
    found = [
        _search(rows - centre, p, centre, k, start if exclude_self else None, block) for start, rows in blocks(q, block)
    ]
    indices = torch.cat(found)
    # Searching leaves rounding errors of about 1e-8 |x|; the difference has none for copies.
    columns = [_distances_to(q, p, indices[:, j], block) for j in range(k)]
    distances, order = torch.stack(columns, dim=1).sort(dim=1, stable=True)
    return Neighbours(distances, indices.gather(1, order))


def copied(neighbours: Neighbours) -> float:
    """Return the fraction of queries that are near copies: nearest distance 0, or below a third of the second nearest.

    Args:
        neighbours: The two nearest points of every query at least.
    """
    first, second = neighbours.distances[:, 0], neighbours.distances[:, 1]
    return float(((first < COPY_RATIO * second) | (first == 0)).double().mean())


def memorisation(samples: Tensor, train: Tensor, test: Tensor, *, block: int = BLOCK) -> Memorisation:
    """Return how near samples lie to the training set, compared with a test set.

    Args:
        samples: Features `(n, D)` of generated images.
        train: Features `(m, D)` of the training set, m at least 2.
        test: Features `(l, D)` of images of the same source that were not trained on.
        block: Rows and columns of distances held at a time.

    Raises:
        ValueError: The sets do not fit each other, or there are fewer than two training images.
        NonFiniteError: NaN or infinite features.
    """
    if len(train) < 2:
        raise ValueError(f"the training set has {len(train)} images; nearest and second nearest need 2 at least")
    ours, theirs = (nearest(features, train, 2, block=block) for features in (samples, test))
    a, b = ours.distances[:, 0], theirs.distances[:, 0]
    closer, z_score = _mann_whitney(a, b)
    return Memorisation(
        sample_distances=a,
        sample_indices=ours.indices[:, 0],
        test_distances=b,
        closer=closer,
        z_score=z_score,
        copied=copied(ours),
        test_copied=copied(theirs),
    )


def _search(queries: Tensor, points: Tensor, centre: Tensor, k: int, first: int | None, block: int) -> Tensor:
    """Return the indices `(b, k)` of the points nearest to centred queries; if those are points, from `first` on."""
    best = queries.new_empty(len(queries), 0)
    indices = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start, part in blocks(points, block):
        distances = squared_distances(queries, part - centre)
        if first is not None:
            rows = torch.arange(len(queries), device=queries.device)
            own = rows + first - start
            inside = (own >= 0) & (own < len(part))
            distances[rows[inside], own[inside]] = math.inf
        numbers = torch.arange(start, start + len(part), device=queries.device).expand(len(queries), -1)
        best, indices = torch.cat([best, distances], dim=1), torch.cat([indices, numbers], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
        indices = indices.gather(1, order)
    return indices


def _distances_to(queries: Tensor, points: Tensor, indices: Tensor, block: int) -> Tensor:
    """Return `|q_i - p_{indices_i}|` `(n,)`, float64."""
    parts = [
        (rows - as_float64(points[indices[start : start + len(rows)]])).norm(dim=1)
        for start, rows in blocks(queries, block)
    ]
    return torch.cat(parts)


def _mann_whitney(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return `P(a < b) + P(a = b) / 2` and its z-score under the hypothesis that both have one distribution."""
    a, ordered = a.contiguous(), b.sort().values
    above = len(b) - torch.searchsorted(ordered, a, right=True)
    not_below = len(b) - torch.searchsorted(ordered, a)
    n, m = len(a), len(b)
    probability = float((above + not_below).double().mean()) / (2 * m)
    ties = torch.unique(torch.cat([a, b]), return_counts=True)[1]
    total = n + m
    tied = float((ties.double() ** 3 - ties).sum()) / (total * (total - 1))
    variance = (total + 1 - tied) / (12 * n * m)
    return probability, (probability - 0.5) / math.sqrt(variance) if variance > 0 else 0.0


_NEAREST = Value("distance to the nearest image", better=None)
_COPIED = Value("fraction of near copies", better=None, fraction=True)


@metric("nearest", {"nearest": _NEAREST, "copied": _COPIED}, against="all", most=10_000)
def _nearest(samples: Tensor, reference: Tensor) -> tuple[float, float]:
    """Distance to the nearest images of the reference, and fraction of copies."""
    found = nearest(samples, reference, 2)
    return float(found.distances[:, 0].mean()), copied(found)
