"""From a trained model and a few settings to a sampler, its grid and a decoder: what sampling and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from proxdm.checkpoints.portable import model_config
from proxdm.config import Config, ModelConfig
from proxdm.grids import TimeGrid
from proxdm.imaging import is_image_shape
from proxdm.models import LearnedModel
from proxdm.operators import Ask
from proxdm.samplers import SAMPLERS, Sampler, find_sampler

USUAL_STEPS = 20
"""Steps where neither the user nor the training says otherwise."""

Decoder = Callable[[Tensor], Tensor]
"""From samples of a model `(B, *)` to pictures in [-1, 1]."""


def default_sampler(config: Config | ModelConfig) -> Sampler:
    """Return the sampler of a model unless one says otherwise: the one it was trained for.

    Score models: `euler-maruyama`. Prox models: the sampler of their training draws, else `prox-hybrid`.
    """
    if model_config(config).kind == "score":
        return find_sampler("euler-maruyama")
    trained = config.conditioning.rule if isinstance(config, Config) else None
    return find_sampler(trained or "prox-hybrid")


def default_steps(config: Config | ModelConfig) -> int:
    """Return the number of steps to sample with unless one says otherwise: 20, or the nearest that was trained on."""
    trained = config.conditioning.steps if isinstance(config, Config) and config.conditioning.draw == "knots" else ()
    return min(trained, key=lambda steps: abs(steps - USUAL_STEPS), default=USUAL_STEPS)


def fitting_samplers(kind: Literal["score", "prox"]) -> list[str]:
    """Return the names of the samplers that ask for what models of this kind were trained for."""
    return [name for name, sampler in SAMPLERS.items() if (sampler.operator == "prox") == (kind == "prox")]


@dataclass(frozen=True)
class GridChoice:
    """Which times to go through, before the sampler and the number of steps are known.

    Attributes:
        name: Kind of grid; None is the usual one of the sampler.
        eps: Last time before 0 of the denoising and log-snr grids; None is 0.001. Without a name it chooses the
            denoising grid for score samplers.
        rho: Exponent of the power grid; None is 2.
    """

    name: str | None = None
    eps: float | None = None
    rho: float | None = None

    def __post_init__(self) -> None:
        """Reject settings that would be ignored.

        Raises:
            ValueError: A parameter of another grid than the chosen one.
        """
        if self.rho is not None and self.name != "power":
            raise ValueError(f"rho = {self.rho:g} has an effect on the power grid only; choose it, or leave rho out")
        if self.eps is not None and self.name not in (None, "denoising", "log-snr"):
            raise ValueError(f"eps = {self.eps:g} has an effect on the denoising and log-snr grids only; leave it out")

    def make(self, rule: Sampler, steps: int, model: LearnedModel) -> TimeGrid:
        """Return the grid of a sampler with N = `steps`.

        Raises:
            ValueError: The grid cannot be made, or a setting would be ignored.
        """
        name = self.name
        if name is None and self.eps is not None:
            if not rule.operator != "prox":
                raise ValueError(
                    f"eps = {self.eps:g} has an effect on the denoising and log-snr grids only, and {rule} takes "
                    "the uniform grid by default: choose the grid, or leave eps out"
                )
            name = "denoising"
        if name is None:
            return rule.grid(model.schedule, steps)
        eps, rho = (1e-3 if self.eps is None else self.eps), (2.0 if self.rho is None else self.rho)
        given = {"power": f"(rho={rho})", "denoising": f"(eps={eps})", "log-snr": f"(eps={eps})"}.get(name, "")
        return TimeGrid.named(f"{name}{given}", steps, model.schedule)


def choose_rule(name: str | None, model: LearnedModel) -> Sampler:
    """Return the sampler of that name, or the one that the model was trained for, if it takes the model.

    Raises:
        OperatorError: It needs a score and the model has a prox, or the other way round.
        ValueError: There is no such sampler.
    """
    rule = default_sampler(model.config) if name is None else find_sampler(name)
    Ask(model, rule.operator)
    return rule


def outside_training(model: LearnedModel, rule: Sampler, grid: TimeGrid) -> str | None:
    """Return one line on the steps that the network was not trained for, or None if there are none, or none is known.

    Args:
        model: The model.
        rule: The sampler.
        grid: Its times.
    """
    if not isinstance(model.config, Config):
        return None
    return model.config.training_range().describe_unseen(rule, grid)


def has_latents(model: LearnedModel) -> bool:
    """Return whether the samples of a model are latents `(C, H, W)` of an autoencoder."""
    shape = model_config(model.config).shape
    raw = isinstance(model.config, Config) and model.config.data.values == "raw"
    return len(shape) == 3 and (raw or (shape[0] == 4 and not is_image_shape(shape)))


def make_decoder(model: LearnedModel, vae: str) -> tuple[tuple[int, int, int], Decoder]:
    """Return the shape of the pictures of a model, and what turns its samples into them.

    Args:
        model: The model.
        vae: Autoencoder of latent models: a name on the hub, or a folder.

    Raises:
        ValueError: The samples are no pictures, or the autoencoder has other latents.
        DataError: The autoencoder cannot be had.
    """
    shape: Sequence[int] = model_config(model.config).shape
    latents = has_latents(model)
    if not latents and not is_image_shape(shape):
        raise ValueError(f"samples of shape {tuple(shape)} are no pictures of 1 or 3 channels")
    channels, height, width = shape
    if not latents:
        return (channels, height, width), lambda x: x
    from proxdm.data.vae import decode_latents, load_vae

    coder = load_vae(vae, device=model.device)
    if (its := int(coder.module.config.latent_channels)) != channels:
        raise ValueError(
            f"the autoencoder {vae} has latents of {its} channels, and the model's have {channels}; name another "
            "(--vae)"
        )
    scale = coder.reduction
    return (3, height * scale, width * scale), lambda x: torch.cat(list(decode_latents(x, coder)))
