"""A prior as a figure: the gain of a model over it with the starts that follow, its components and its samples."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from proxdm.imaging import grid
from proxdm.pixels import is_image_shape, to_uint8
from proxdm.plotting.style import axes_at, drawing, heading, save
from proxdm.priors import MixturePrior, Prior, start_for, warm_start
from proxdm.priors.gain import THRESHOLDS

PICTURES = 24


def prior_samples(prior: Prior, count: int) -> Tensor:
    """Return samples of the prior itself, float32 `(count, *)`: its flow from noise to the data."""
    z = torch.randn(count, *prior.shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([warm_start(prior, part.double(), 0.0).float() for part in torch.split(z, 256)])


def component_pictures(prior: Prior) -> tuple[Tensor, str]:
    """Return the heaviest centres of a mixture, or mean and leading directions of a Gaussian, and what they are."""
    if isinstance(prior, MixturePrior):
        order = prior.log_weights.argsort(descending=True)[:PICTURES]
        pictures = prior.mean + prior.centres[order] @ prior.basis.T
        what = f"centres of {len(order)} of {prior.components} components, the heaviest first"
    else:
        mean, basis, variances = (getattr(prior, name) for name in ("mean", "basis", "variances"))
        steps = 2 * variances[: PICTURES - 1].sqrt() * basis[:, : PICTURES - 1]
        pictures, what = torch.cat([mean[None], mean + steps.T]), "mean, and mean plus 2 deviations along directions"
    return pictures.reshape(-1, *prior.shape).float(), what


def draw_prior(prior: Prior, stem: Path) -> list[Path]:
    """Write the figure as `stem.png` and `stem.svg`, and return the paths."""
    pictured = is_image_shape(prior.shape)
    with drawing(8.4 if pictured else 4.2, 3.4) as figure:
        if prior.curve is not None:
            axes = axes_at(figure, 0.6, 0.5, 3.3, 2.3)
            axes.semilogx(prior.curve.ratios, prior.curve.gains, "o-", color="#0b3c6f", markersize=3, clip_on=False)
            axes.axhline(1, color="#6b6b6b", linewidth=0.8)
            for number, level in enumerate(THRESHOLDS, 1):
                start = start_for(prior.curve, number)
                axes.plot([start], [level], "D", color="#d94801", markersize=5)
                label = f"N = {number}" + (" and more" if number == len(THRESHOLDS) else "")
                if number != len(THRESHOLDS) - 1:  # the last two are close
                    axes.annotate(label, (start, level), (6, -3), textcoords="offset points", fontsize=7)
            axes.set_xticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("ratio s = σ/α")
            axes.set_ylim(bottom=0)
            heading(figure, 0.2, 0.12, "What the network leaves of the prior's error, and where to start")
        if pictured:
            pictures, what = component_pictures(prior)
            for top, images, title in ((0.4, pictures, what), (1.95, prior_samples(prior, PICTURES), "samples of it")):
                axes = axes_at(figure, 4.3, top, 3.9, 1.3)
                axes.imshow(grid(to_uint8(images), columns=12), cmap="gray", interpolation="nearest")
                axes.set_axis_off()
                axes.set_anchor("N")
                heading(figure, 4.3, top - 0.22, title, fontsize=8)
        return save(figure, stem)
