"""Proximal diffusion models: exact and learned proximal operators, their samplers, training and evaluation.

Notation: :mod:`proxdm.schedules`. The short way to samples is :func:`proxdm.sample`.

Names are imported when they are first used: `proxdm --help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from proxdm._version import __version__

if TYPE_CHECKING:
    from proxdm.checkpoints.load import load, load_official
    from proxdm.grids import TimeGrid
    from proxdm.mixtures import GaussianMixture
    from proxdm.models import ProxModel, ScoreModel
    from proxdm.rules import RULES
    from proxdm.samplers import ProxSampler, SamplerState, ScoreSampler, sample
    from proxdm.schedules import VPSDE

_HOME = {
    "RULES": "proxdm.rules",
    "VPSDE": "proxdm.schedules",
    "GaussianMixture": "proxdm.mixtures",
    "ProxModel": "proxdm.models",
    "ProxSampler": "proxdm.samplers",
    "SamplerState": "proxdm.samplers",
    "ScoreModel": "proxdm.models",
    "ScoreSampler": "proxdm.samplers",
    "TimeGrid": "proxdm.grids",
    "load": "proxdm.checkpoints.load",
    "load_official": "proxdm.checkpoints.load",
    "sample": "proxdm.samplers",
}
"""Public names and the modules they live in."""

__all__ = [
    "RULES",
    "VPSDE",
    "GaussianMixture",
    "ProxModel",
    "ProxSampler",
    "SamplerState",
    "ScoreModel",
    "ScoreSampler",
    "TimeGrid",
    "__version__",
    "load",
    "load_official",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'proxdm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
