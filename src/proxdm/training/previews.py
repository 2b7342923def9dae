"""Pictures of samples during training, always from the same noise, so that they can be compared from step to step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from proxdm import imaging
from proxdm.imaging import Pixels
from proxdm.models import LearnedModel, ScoreModel
from proxdm.noise import SeededNoise
from proxdm.rules import Rule, find_rule
from proxdm.runtime.files import replacing
from proxdm.samplers import check_steps, default_grid, run
from proxdm.training.settings import Settings

_HALF_SIDE, _BINS = 1.5, 128


def preview_rule(model: LearnedModel, settings: Settings, shape: tuple[int, ...]) -> Rule | None:
    """Return the sampler of the previews; None where none are wanted, or samples are neither pictures nor points.

    Raises:
        StepError: The sampler does not define some step of `logging.preview_steps`.
    """
    if not settings.logging.preview_every or not (imaging.is_image_shape(shape) or shape == (2,)):
        return None
    rule = find_rule(settings.sampler or ("ode-euler" if isinstance(model, ScoreModel) else "prox-hybrid"))
    check_steps(rule, default_grid(rule, settings.logging.preview_steps), model.sde)
    return rule


def draw_preview(model: LearnedModel, rule: Rule, settings: Settings, shape: tuple[int, ...], path: Path) -> Pixels:
    """Sample, write a picture, and return it.

    Args:
        model: The model, with the weights that are to be looked at; in evaluation mode afterwards.
        rule: Sampler.
        settings: How many samples, in how many steps, under which seed.
        shape: Shape of a sample: pictures make a grid, points of the plane a scatter plot of [-1.5, 1.5]^2.
        path: The PNG file.

    Raises:
        NonFiniteError: The samples contain NaN or infinite numbers.
    """
    logging, seed = settings.logging, settings.training.seed
    noise = SeededNoise(seed, range(logging.preview_samples), shape, device=model.device)
    model.eval()
    state = run(model, rule, default_grid(rule, logging.preview_steps), noise)
    samples = state.x.float()
    pixels = _scatter(samples) if shape == (2,) else imaging.grid(samples)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as part:
        metadata = {"sampler": rule.name, "steps": logging.preview_steps, "nfe": state.nfe, "seed": seed}
        imaging.save_png(pixels, part, metadata=metadata)
    return pixels


def _scatter(points: Tensor) -> Pixels:
    x, y = points.cpu().numpy().T
    counts, _, _ = np.histogram2d(-y, x, _BINS, [[-_HALF_SIDE, _HALF_SIDE]] * 2)
    return np.where(counts > 0, 0, 255).astype(np.uint8).repeat(2, 0).repeat(2, 1)
