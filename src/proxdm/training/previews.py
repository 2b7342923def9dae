"""Pictures of samples during training, always from the same noise, so that they can be compared from step to step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from proxdm import imaging
from proxdm.imaging import Pixels
from proxdm.models import LearnedModel
from proxdm.noise import SeededNoise
from proxdm.runtime.files import replacing
from proxdm.samplers import Sampler, find_sampler, solve
from proxdm.training.settings import Settings

_HALF_SIDE, _BINS = 1.5, 128


def preview_sampler(model: LearnedModel, settings: Settings, shape: tuple[int, ...]) -> Sampler | None:
    """Return the sampler of the previews; None where none are wanted, or samples are neither pictures nor points."""
    if not settings.logging.preview_every or not (imaging.is_image_shape(shape) or shape == (2,)):
        return None
    sampler = find_sampler(settings.sampler or ("prox-hybrid" if model.kind == "prox" else "ode-euler"))
    sampler.check(model.schedule, sampler.grid(model.schedule, settings.logging.preview_steps))
    return sampler


def draw_preview(
    model: LearnedModel, sampler: Sampler, settings: Settings, shape: tuple[int, ...], path: Path
) -> Pixels:
    """Sample, write a picture, and return it."""
    logging, seed = settings.logging, settings.training.seed
    noise = SeededNoise(seed, range(logging.preview_samples), shape, device=model.device)
    model.eval()
    state = solve(sampler, model, sampler.grid(model.schedule, logging.preview_steps), noise)
    samples = state.x.float()
    pixels = _scatter(samples) if shape == (2,) else imaging.grid(samples)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as part:
        metadata = {"sampler": repr(sampler), "steps": logging.preview_steps, "nfe": state.nfe, "seed": seed}
        imaging.save_png(pixels, part, metadata=metadata)
    return pixels


def _scatter(points: Tensor) -> Pixels:
    x, y = points.cpu().numpy().T
    counts, _, _ = np.histogram2d(-y, x, _BINS, [[-_HALF_SIDE, _HALF_SIDE]] * 2)
    return np.where(counts > 0, 0, 255).astype(np.uint8).repeat(2, 0).repeat(2, 1)
