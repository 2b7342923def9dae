"""Proximal diffusion models: exact and learned proximal operators, their samplers, training and evaluation.

Notation: :mod:`proxdm.sde`. The short way to samples is :func:`proxdm.sample`.
"""

from proxdm._version import __version__
from proxdm.grids import TimeGrid
from proxdm.rules import RULES
from proxdm.samplers import ProxSampler, SamplerState, ScoreSampler, sample
from proxdm.sde import VPSDE

__all__ = [
    "RULES",
    "VPSDE",
    "ProxSampler",
    "SamplerState",
    "ScoreSampler",
    "TimeGrid",
    "__version__",
    "sample",
]
