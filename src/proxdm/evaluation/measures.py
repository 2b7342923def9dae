"""Metrics by name: what each keeps of the samples while they stream by, on how many of them it is taken, and how.

A new metric is one function from :class:`Material` to numbers and one line in :data:`MEASURES`.

`fid` is taken on the moments of all samples, in memory `O(D^2)` whatever their number. `kid` and `precision-recall`
keep the features of the first 10,000 samples; `w2` keeps the first 2,000 images, and `sliced-w2` the first 10,000, both
as uint8, and compare pixels in [-1, 1] whatever the features are. They are compared with as many images of the
reference, chosen once at random where it has more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from proxdm.data.images import to_model_range
from proxdm.evaluation.reference import Reference
from proxdm.metrics.statistics import ReferenceStatistics

Keeps = Literal["moments", "features", "pixels"]
"""What a metric needs of the samples: the moments of the features of all of them, or features or pixels of some."""

KID_SUBSET = 1000
"""Samples in one subset of the kernel distance, or all of the smaller set if there are fewer."""


@dataclass(frozen=True, eq=False)
class Material:
    """What is left of the samples of a row.

    Attributes:
        moments: Moments of the features of all of them; None unless a metric needs them.
        features: Features of the first ones, `(k, D)`; empty unless a metric needs them.
        pixels: The first ones, uint8 `(l, C, H, W)`.
        reference: What to compare with.
    """

    moments: ReferenceStatistics | None
    features: Tensor
    pixels: Tensor
    reference: Reference


@dataclass(frozen=True)
class Measure:
    """A metric.

    Attributes:
        name: Name in the API and on the command line.
        keeps: What it needs.
        least: Number of samples that it needs at least.
        most: Number of samples, and of reference images, that it takes at most; None is all.
        values: Names of its values.
        compute: `(material, most) -> values by name`.
    """

    name: str
    keeps: Keeps
    least: int
    most: int | None
    values: tuple[str, ...]
    compute: Callable[[Material, int | None], dict[str, float]]


def _fid(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.frechet import frechet_distance

    ours, theirs = material.moments, material.reference.statistics
    assert ours is not None
    return {"fid": frechet_distance(ours.mu, ours.sigma, theirs.mu, theirs.sigma)}


def _kid(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.kernel import kid

    ours, theirs = material.features[:most], material.reference.features(most)
    found = kid(ours, theirs, subset_size=min(KID_SUBSET, len(ours), len(theirs)))
    return {"kid": found.value, "kid_standard_error": found.standard_error}


def _precision_recall(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.precision_recall import precision_recall

    found = precision_recall(material.features[:most], material.reference.features(most))
    return {"precision": found.precision, "recall": found.recall}


def _w2(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.wasserstein import w2

    ours, theirs = material.pixels[:most], material.reference.pixels(most)
    return {"w2": w2(to_model_range(ours), to_model_range(theirs))}


def _sliced_w2(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.wasserstein import sliced_wasserstein

    ours, theirs = material.pixels[:most], material.reference.pixels(most)
    return {"sliced_w2": sliced_wasserstein(to_model_range(ours), to_model_range(theirs))}


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("fid", "moments", 2, None, ("fid",), _fid),
        Measure("w2", "pixels", 1, 2_000, ("w2",), _w2),
        Measure("sliced-w2", "pixels", 1, 10_000, ("sliced_w2",), _sliced_w2),
        Measure("kid", "features", 2, 10_000, ("kid", "kid_standard_error"), _kid),
        Measure("precision-recall", "features", 4, 10_000, ("precision", "recall"), _precision_recall),
    )
}
"""Every metric by name."""


def kept(metrics: tuple[str, ...], keeps: Keeps, samples: int) -> int:
    """Return of how many samples features or pixels must be kept for these metrics."""
    needed = [min(samples, MEASURES[name].most or samples) for name in metrics if MEASURES[name].keeps == keeps]
    return max(needed, default=0)
