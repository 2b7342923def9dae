"""Proximal diffusion models: exact and learned proximal operators, their samplers, training and evaluation.

Notation: :mod:`proxdm.schedules`. The short way to samples is :func:`proxdm.sample`.

Names are imported when they are first used: `proxdm --help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from proxdm._version import __version__
from proxdm.runtime.hooks import HOOKS

if TYPE_CHECKING:
    from proxdm.checkpoints.load import load, load_official
    from proxdm.grids import TimeGrid
    from proxdm.mixtures import GaussianMixture
    from proxdm.models import ProxModel, ScoreModel
    from proxdm.operators import implicit_prox, prox_from_denoiser
    from proxdm.priors import GaussianPrior, MixturePrior, fit_prior
    from proxdm.samplers import (
        SAMPLERS,
        ProxSampler,
        Sampler,
        SamplerState,
        ScoreSampler,
        find_sampler,
        register,
        sample,
        solve,
    )
    from proxdm.schedules import VE, VPSDE, Cosine, Discrete, Flow

_HOME = {
    "SAMPLERS": "proxdm.samplers",
    "VE": "proxdm.schedules",
    "VPSDE": "proxdm.schedules",
    "Cosine": "proxdm.schedules",
    "Discrete": "proxdm.schedules",
    "Flow": "proxdm.schedules",
    "GaussianMixture": "proxdm.mixtures",
    "GaussianPrior": "proxdm.priors",
    "MixturePrior": "proxdm.priors",
    "ProxModel": "proxdm.models",
    "ProxSampler": "proxdm.samplers",
    "Sampler": "proxdm.samplers",
    "SamplerState": "proxdm.samplers",
    "ScoreModel": "proxdm.models",
    "ScoreSampler": "proxdm.samplers",
    "TimeGrid": "proxdm.grids",
    "find_sampler": "proxdm.samplers",
    "fit_prior": "proxdm.priors",
    "load": "proxdm.checkpoints.load",
    "load_official": "proxdm.checkpoints.load",
    "implicit_prox": "proxdm.operators",
    "prox_from_denoiser": "proxdm.operators",
    "register": "proxdm.samplers",
    "sample": "proxdm.samplers",
    "solve": "proxdm.samplers",
}
"""Public names and the modules they live in."""

HOOKS |= {
    "load": "proxdm.checkpoints.load:load",
    "save_model": "proxdm.checkpoints.portable:save_model",
    "push": "proxdm.publishing:push",
    "open_pipeline": "proxdm.integrations.diffusers.pipelines:open_pipeline",
}

__all__ = [
    "SAMPLERS",
    "VE",
    "VPSDE",
    "Cosine",
    "Discrete",
    "Flow",
    "GaussianMixture",
    "GaussianPrior",
    "MixturePrior",
    "ProxModel",
    "ProxSampler",
    "Sampler",
    "SamplerState",
    "ScoreModel",
    "ScoreSampler",
    "TimeGrid",
    "__version__",
    "find_sampler",
    "fit_prior",
    "implicit_prox",
    "load",
    "load_official",
    "prox_from_denoiser",
    "register",
    "sample",
    "solve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'proxdm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
