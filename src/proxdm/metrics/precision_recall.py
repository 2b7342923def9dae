r"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991).

The support of a set of features is taken to be the union of balls around its members, each as large as the distance to
the k-th nearest other member. Precision is the fraction of samples in the support of the reference (are they
realistic?), recall the fraction of the reference in the support of the samples (is everything covered?). Both need
sets of the same size to be comparable between models; the paper uses 50,000 and k = 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm.metrics.blocks import BLOCK, blocks, check_pair
from proxdm.metrics.neighbours import nearest, squared_distances
from proxdm.metrics.registry import Value, metric
from proxdm.schedules import as_float64

_ROUNDING = 1e-12


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall, each in [0, 1].

    Attributes:
        precision: Fraction of samples within the support of the reference.
        recall: Fraction of the reference within the support of the samples.
        k: Neighbours that set the radius of a ball.
    """

    precision: float
    recall: float
    k: int


def precision_recall(samples: Tensor, reference: Tensor, *, k: int = 3, block: int = BLOCK) -> PrecisionRecall:
    """Return precision and recall of samples against a reference, in memory for one block of distances.

    Args:
        samples: Features `(n, D)` of generated images, n above k.
        reference: Features `(m, D)` of real images, m above k.
        k: Neighbours that set the radius of a ball.
        block: Rows and columns of distances held at a time.

    Raises:
        ValueError: The sets do not fit each other, or have no more than k members.
        NonFiniteError: NaN or infinite features.
    """
    fake, real = check_pair(samples, reference)
    if k < 1 or min(len(fake), len(real)) <= k:
        raise ValueError(
            f"k = {k} must be at least 1 and below the size of both sets, which have {len(fake)} and {len(real)}; "
            "take more samples or a smaller k"
        )
    centre = as_float64(real.mean(0))
    fake_radii, real_radii = (_radii(features, centre, k, block) for features in (fake, real))
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for i, a in blocks(fake, block):
        rows = slice(i, i + len(a))
        for j, b in blocks(real, block):
            columns = slice(j, j + len(b))
            distances = squared_distances(a - centre, b - centre)
            precise[rows] |= (distances <= real_radii[columns]).any(dim=1)
            recalled[columns] |= (distances <= fake_radii[rows, None]).any(dim=0)
    return PrecisionRecall(float(precise.double().mean()), float(recalled.double().mean()), k)


def _radii(features: Tensor, centre: Tensor, k: int, block: int) -> Tensor:
    """Return the squared radius of every ball `(n,)`, enlarged by the rounding errors of squared distances."""
    radii = nearest(features, features, k, exclude_self=True, block=block).distances[:, -1]
    largest = max(float((rows - centre).square().sum(1).max()) for _, rows in blocks(features, block))
    return radii.square() + _ROUNDING * largest


_RECALL = Value("recall", better="higher", fraction=True)
_PRECISION = Value("precision", better="higher", fraction=True)


@metric("precision-recall", {"precision": _PRECISION, "recall": _RECALL}, least=4, most=10_000)
def _precision_recall(samples: Tensor, reference: Tensor) -> tuple[float, float]:
    """Fraction of samples among the data, and of data among the samples."""
    found = precision_recall(samples, reference)
    return found.precision, found.recall
