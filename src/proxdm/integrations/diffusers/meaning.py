"""What a scheduler's configuration says of a network: its noise schedule, the meaning of its output, its times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from proxdm.errors import ProxdmError
from proxdm.schedules import Discrete, Flow, Schedule

PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v", "flow_prediction": "flow"}
"""Parametrisations of score models by diffusers' `prediction_type`."""

LEAST_ALPHA_BAR = 2.0**-24
"""At most this stands for 0 at the end of a table of betas with "zero terminal SNR", as in diffusers' own solvers."""

BETAS = {"beta_schedule", "trained_betas"}
"""What a scheduler with a table of betas has in its configuration."""


class DiffusersError(ProxdmError, ValueError):
    """A pipeline, model or scheduler of diffusers is none that can be used here."""


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """Return the noise schedule in the configuration of any scheduler with a table of betas, or of a rectified flow.

    EDM's and variance-exploding ones have neither (DiffusersError).
    """
    if prediction_of(config) == "flow":
        return Flow()
    if not BETAS & set(config):
        raise DiffusersError(
            f"the scheduler {config.get('_class_name', 'without a name')} has no table of betas, and is no rectified "
            "flow: name the one that the network was trained with, scheduler=DDPMScheduler(...)"
        )
    known = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    plain = DDPMScheduler(
        **{key: config[key] for key in known if config.get(key) is not None},
        rescale_betas_zero_snr=bool(config.get("rescale_betas_zero_snr")),
    )
    bars = plain.alphas_cumprod.double()  # theirs, rounded as the network has seen them
    if bars[-1] == 0:
        bars[-1] = min(LEAST_ALPHA_BAR, float(bars[-2]) / 2)
    return Discrete(tuple((1 - bars / torch.cat([bars.new_ones(1), bars[:-1]])).tolist()))


def prediction_of(config: Mapping[str, Any]) -> str:
    """Return the name of the parametrisation of a score network (:data:`proxdm.models.SCORE_PARAMETRISATIONS`)."""
    flow = "shift" in config and not BETAS & set(config)  # FlowMatch*: configurations do not always say their class
    named = "flow_prediction" if flow else config.get("prediction_type") or "epsilon"
    if named not in PREDICTIONS:
        raise DiffusersError(f"prediction_type = {named!r} must be one of {', '.join(PREDICTIONS)}")
    return PREDICTIONS[named]


def index_of(schedule: Schedule, t: Tensor, length: int) -> Tensor:
    """Return what diffusers calls the timestep of a time t, whole numbers where they are within rounding."""
    index = t * length - (0 if isinstance(schedule, Flow) else 1)
    whole = index.round()
    return torch.where((index - whole).abs() < 1e-3, whole, index).clamp(min=0)


def time_of(schedule: Schedule, index: Tensor, length: int) -> Tensor:
    """Return the time of a timestep, float64."""
    return (index.double() + (0 if isinstance(schedule, Flow) else 1)) / length
