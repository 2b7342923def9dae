"""Grids of samples during training, always from the same noise, so that they can be compared from step to step."""

from __future__ import annotations

from pathlib import Path

from proxdm import imaging
from proxdm.config import Config
from proxdm.models import LearnedModel
from proxdm.noise import SeededNoise
from proxdm.runtime.files import replacing
from proxdm.samplers import solve


def can_preview(config: Config) -> bool:
    """Return whether the samples are pictures."""
    return imaging.is_image_shape(config.model.shape)


def save_preview(model: LearnedModel, config: Config, path: Path) -> None:
    """Sample and write a grid.

    Args:
        model: The model, with the weights that are to be looked at; in evaluation mode afterwards.
        config: Says how many samples, in how many steps, under which seed.
        path: The PNG file.

    Raises:
        NonFiniteError: The samples contain NaN or infinite numbers.
    """
    logging, sampler = config.logging, config.preview_sampler
    noise = SeededNoise(config.training.seed, range(logging.preview_samples), config.model.shape, device=model.device)
    model.eval()
    state = solve(sampler, model, sampler.grid(model.schedule, logging.preview_steps), noise)
    path.parent.mkdir(exist_ok=True)
    metadata = {"sampler": repr(sampler), "steps": logging.preview_steps, "nfe": state.nfe, "seed": config.training.seed}
    with replacing(path) as part:
        imaging.save_grid(state.x.float(), part, metadata=metadata)
