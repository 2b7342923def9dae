"""Metrics by name: what each keeps of the samples while they stream by, on how many of them it is taken, and how.

A new metric is one function from :class:`Material` to numbers and one line in :data:`MEASURES`.

`fid` is taken on the moments of all samples, in memory `O(D^2)` whatever their number; `fid-infinity` keeps the
features of the first 50,000. Both need no more of the reference than its statistics.

`kid` and `precision-recall` keep the features of the first 10,000 samples; `w2` keeps the first 2,000 images, and
`sliced-w2` the first 10,000, both as uint8, and compare pixels in [-1, 1] whatever the features are. They are compared
with as many images of the reference, chosen once at random where it has more.

`nearest` looks for the nearest of all images of the reference to each of the first 10,000 samples: the mean distance
between their features, and the fraction of samples that are near copies (:mod:`proxdm.metrics.neighbours`). With the
training set as the reference this says what was memorised; neither more nor less of the distance is better.
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

Against = Literal["moments", "some", "all"]
"""What a metric needs of the reference: moments, as many images as it takes samples at most, or all images."""

SMALLEST = 5000
"""The least number of samples in the fit of `fid-infinity`, but half of all where those are fewer than 10,000."""

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
        against: What it needs of the reference.
        most: Number of samples, and of reference images where it takes some, that it takes at most; None is all.
        values: Names of its values.
        compute: `(material, most) -> values by name`.
    """

    name: str
    keeps: Keeps
    against: Against
    least: int
    most: int | None
    values: tuple[str, ...]
    compute: Callable[[Material, int | None], dict[str, float]]

    def used(self, samples: int, reference: Reference) -> list[int | None]:
        """Return the numbers of samples, of so many, and of reference images (None: not known) that it is taken on."""
        return [
            min(samples, self.most or samples),
            reference.used(self.most if self.against == "some" else None),
        ]


def _fid(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.frechet import frechet_distance

    ours, theirs = material.moments, material.reference.statistics
    assert ours is not None
    return {"fid": frechet_distance(ours.mu, ours.sigma, theirs.mu, theirs.sigma)}


def _fid_infinity(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.frechet import fid_infinity

    ours, theirs = material.features[:most], material.reference.statistics
    found = fid_infinity(ours, theirs.mu, theirs.sigma, smallest=min(SMALLEST, len(ours) // 2))
    return {"fid_infinity": found.value, "fid_infinity_standard_error": found.standard_error}


def _kid(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.kernel import kid

    ours, theirs = material.features[:most], material.reference.features(most)
    found = kid(ours, theirs, subset_size=min(KID_SUBSET, len(ours), len(theirs)))
    return {"kid": found.value, "kid_standard_error": found.standard_error}


def _precision_recall(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.precision_recall import precision_recall

    found = precision_recall(material.features[:most], material.reference.features(most))
    return {"precision": found.precision, "recall": found.recall}


def _nearest(material: Material, most: int | None) -> dict[str, float]:
    from proxdm.metrics.neighbours import copied, nearest

    found = nearest(material.features[:most], material.reference.features(None), 2)
    return {"nearest": float(found.distances[:, 0].mean()), "copied": copied(found)}


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
        Measure("fid", "moments", "moments", 2, None, ("fid",), _fid),
        Measure(
            "fid-infinity",
            "features",
            "moments",
            10,
            50_000,
            ("fid_infinity", "fid_infinity_standard_error"),
            _fid_infinity,
        ),
        Measure("w2", "pixels", "some", 1, 2_000, ("w2",), _w2),
        Measure("sliced-w2", "pixels", "some", 1, 10_000, ("sliced_w2",), _sliced_w2),
        Measure("kid", "features", "some", 2, 10_000, ("kid", "kid_standard_error"), _kid),
        Measure("precision-recall", "features", "some", 4, 10_000, ("precision", "recall"), _precision_recall),
        Measure("nearest", "features", "all", 1, 10_000, ("nearest", "copied"), _nearest),
    )
}
"""Every metric by name."""


def kept(metrics: tuple[str, ...], keeps: Keeps, samples: int) -> int:
    """Return of how many samples features or pixels must be kept for these metrics."""
    needed = [min(samples, MEASURES[name].most or samples) for name in metrics if MEASURES[name].keeps == keeps]
    return max(needed, default=0)
