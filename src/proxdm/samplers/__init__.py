"""Samplers: one class each, one loop. `SAMPLERS` has them by name; see :mod:`proxdm.samplers.base`."""

from __future__ import annotations

from proxdm.samplers import adams, exponential, external, multistep, paper  # each adds its samplers to the table
from proxdm.samplers.base import SAMPLERS, Sampler, SamplerState, find_sampler, register, sample, solve
from proxdm.samplers.paper import ProxSampler, ScoreSampler

__all__ = [
    "SAMPLERS",
    "ProxSampler",
    "Sampler",
    "SamplerState",
    "ScoreSampler",
    "adams",
    "exponential",
    "external",
    "find_sampler",
    "multistep",
    "paper",
    "register",
    "sample",
    "solve",
]
