r"""Nearest neighbours in feature space: copies of the training set, and improved precision and recall.

A sample is a near copy of one training image where its nearest distance is below a third of the second nearest (Yoon et
al. 2023, *Diffusion probabilistic models generalize when they fail to memorize*, with distances between pixels).

Precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991) take the support of a set to be the union of balls
around its members, each as large as the distance to the k-th nearest other member. Precision is the fraction of samples
in the support of the reference (are they realistic?), recall the fraction of the reference in the support of the
samples (is everything covered?). Only sets of the same size are comparable; the paper uses 50,000 and k = 3.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from proxdm.metrics.checks import BLOCK, check_features, check_pair
from proxdm.metrics.registry import Value, metric

COPY_RATIO = 1 / 3
"""A sample whose nearest training image is nearer than this fraction of the second nearest counts as a copy."""

_ROUNDING = 1e-12


class Neighbours(NamedTuple):
    """The k nearest points of each query, the nearest first: Euclidean distances, float64, and indices, `(n, k)`."""

    distances: Tensor
    indices: Tensor


class PrecisionRecall(NamedTuple):
    """Precision and recall, each in [0, 1]."""

    precision: float
    recall: float


def nearest(queries: Tensor | None, points: Tensor, k: int = 1) -> Neighbours:
    """Return the k nearest points `(m, D)` of every query `(n, D)`; of every point, but for itself, without queries."""
    from sklearn.neighbors import NearestNeighbors

    q, p = (None, check_features(points)) if queries is None else check_pair(queries, points)
    available = len(p) - (q is None)
    if not 1 <= k <= available:
        raise ValueError(f"k = {k} must be from 1 to the {available} other points there are")
    centre = p.mean(0)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit((p - centre).cpu().numpy())
    found = search.kneighbors(None if q is None else (q - centre).cpu().numpy(), return_distance=False)
    indices = torch.from_numpy(found).to(p.device)
    # Searching leaves rounding errors of about 1e-8 |x|; the difference has none for copies.
    columns = [((p if q is None else q) - p[column]).norm(dim=1) for column in indices.T]
    distances, order = torch.stack(columns, dim=1).sort(dim=1, stable=True)
    return Neighbours(distances, indices.gather(1, order))


def copied(neighbours: Neighbours) -> float:
    """Return the fraction of near copies: nearest distance 0, or below a third of the second nearest."""
    first, second = neighbours.distances[:, 0], neighbours.distances[:, 1]
    return float(((first < COPY_RATIO * second) | (first == 0)).double().mean())


def precision_recall(samples: Tensor, reference: Tensor, *, k: int = 3, block: int = BLOCK) -> PrecisionRecall:
    """Return precision and recall of samples `(n, D)` against `(m, D)`, in memory for `block` squared distances."""
    fake, real = check_pair(samples, reference)
    centre = real.mean(0)
    fake_radii, real_radii = _squared_radii(fake, centre, k), _squared_radii(real, centre, k)
    precise, recalled = (torch.zeros(len(x), dtype=torch.bool, device=x.device) for x in (fake, real))
    for i, j in itertools.product(range(0, len(fake), block), range(0, len(real), block)):
        rows, columns = slice(i, i + block), slice(j, j + block)
        x, y = fake[rows] - centre, real[columns] - centre
        distances = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * (x @ y.T)).clamp_min(0)
        precise[rows] |= (distances <= real_radii[columns]).any(dim=1)
        recalled[columns] |= (distances <= fake_radii[rows, None]).any(dim=0)
    return PrecisionRecall(float(precise.double().mean()), float(recalled.double().mean()))


def _squared_radii(features: Tensor, centre: Tensor, k: int) -> Tensor:
    """Return the squared radius of every ball `(n,)`, enlarged by the rounding errors of squared distances."""
    largest = float((features - centre).square().sum(1).max())
    return nearest(None, features, k).distances[:, -1].square() + _ROUNDING * largest


_NEAREST = Value("distance to the nearest image", better=None)
_COPIED = Value("fraction of near copies", better=None, fraction=True)
_RECALL = Value("recall", better="higher", fraction=True)
_PRECISION = Value("precision", better="higher", fraction=True)


@metric("nearest", {"nearest": _NEAREST, "copied": _COPIED}, against="all", most=10_000)
def _nearest(samples: Tensor, reference: Tensor) -> tuple[float, float]:
    """Distance to the nearest images of the reference, and fraction of copies."""
    found = nearest(samples, reference, 2)
    return float(found.distances[:, 0].mean()), copied(found)


def copying(samples: Tensor, seen: Tensor, held: Tensor) -> tuple[float, float]:
    """Return median ratio of distances, and share, of samples nearer to pictures that were seen than to held ones.

    The distance to the nearest of the seen pictures over that to the nearest of the held ones: 1 and 0.5 mean that
    nothing is copied. Both sets must be of the same law and size.
    """
    if len(seen) != len(held):
        raise ValueError(f"{len(seen)} seen and {len(held)} held pictures: nearest distances need as many of both")
    ours, theirs = (nearest(samples.flatten(1), one.flatten(1)).distances[:, 0] for one in (seen, held))
    ratio = ours / theirs.clamp(min=1e-300)
    return float(ratio.median()), float(((ours < theirs).double() + (ours == theirs).double() / 2).mean())


_RATIO = Value("nearest seen over nearest held picture, median", better=None)
_SHARE = Value("share nearer to a seen picture", better=None, fraction=True)


@metric("copying", {"copy_ratio": _RATIO, "copy_share": _SHARE}, keeps="pixels", against="held", most=10_000)
def _copying(samples: Tensor, pair: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Nearest of the reference against nearest of as many held images (1 and 0.5: nothing is copied)."""
    return copying(samples, *pair)


@metric("precision-recall", {"precision": _PRECISION, "recall": _RECALL}, least=4, most=10_000)
def _precision_recall(samples: Tensor, reference: Tensor) -> tuple[float, ...]:
    """Fraction of samples among the data, and of data among the samples."""
    return precision_recall(samples, reference)
