"""What is left of the samples of a row, and what a metric makes of it.

Metrics keep moments of the features of all samples, in memory `O(D^2)` whatever their number, or features or pixels
(uint8) of the first ones, up to their limits. They are compared with as many images of the reference, chosen once at
random where it has more, or with all of them (:mod:`proxdm.metrics.registry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from proxdm.evaluation.reference import Reference
from proxdm.metrics.registry import METRICS, Keeps, Metric
from proxdm.metrics.statistics import ReferenceStatistics
from proxdm.pixels import to_model_range


@dataclass(frozen=True, eq=False)
class Material:
    """What is left of the samples of a row."""

    moments: ReferenceStatistics | None  # Moments of the features of all of them; None unless a metric needs them
    features: Tensor  # Features of the first ones, `(k, D)`; empty unless a metric needs them
    pixels: Tensor  # The first ones, uint8 `(l, C, H, W)`
    reference: Reference  # What to compare with
    labels: Tensor | None = None  # Classes of the first ones that the model was asked for, `(k,)`

    def measure(self, metric: Metric) -> dict[str, float]:
        """Return the values of a metric by name."""
        most, reference = metric.most, self.reference
        ours: Any
        theirs: Any
        if metric.keeps == "moments":
            assert self.moments is not None, f"{metric.name} was not asked for when samples were drawn"
            ours = self.moments.mu, self.moments.sigma
        else:
            ours = self.features[:most] if metric.keeps == "features" else to_model_range(self.pixels[:most])
        if metric.against == "classes":
            ours, theirs = (ours, self.labels), reference.labelled(None)
        elif metric.against == "held":
            theirs = tuple(map(to_model_range, reference.pair(most)))
        elif metric.against == "moments":
            theirs = reference.statistics.mu, reference.statistics.sigma
        else:
            count = most if metric.against == "some" else None
            pixels = metric.keeps == "pixels"
            theirs = to_model_range(reference.pixels(count)) if pixels else reference.features(count)
        return dict(zip(metric.values, metric.compute(ours, theirs), strict=True))


def kept(metrics: Sequence[str], keeps: Keeps, samples: int) -> int:
    """Return of how many samples features or pixels must be kept for these metrics."""
    needed = [min(samples, METRICS[name].most or samples) for name in metrics if METRICS[name].keeps == keeps]
    return max(needed, default=0)
