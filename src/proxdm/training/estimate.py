"""What a run will need, before it is started: memory, counted and measured, and time, from a few real steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from proxdm.config import Config
from proxdm.data.images import ImageData, to_model_range
from proxdm.losses import phase_at
from proxdm.runtime.processes import Place
from proxdm.training.stepper import Stepper

_PROBE = 8
_PATIENCE = 3.0
"""Seconds that a whole step may take to be measured itself; longer ones are extrapolated from `_PROBE` images."""


@dataclass(frozen=True)
class Estimate:
    """Needs of a run, per process where it has several.

    Attributes:
        parameters: Parameters of the network.
        state_bytes: Weights, gradients, AdamW's two moments, and averages.
        activation_bytes: What one forward pass keeps for the backward pass.
        data_bytes: Images in memory.
        step_seconds: Duration of an optimiser step.
        measured_images: Images of the step that was timed; below the batch size, the duration is extrapolated.
        total_seconds: Duration of the whole run.
    """

    parameters: int
    state_bytes: int
    activation_bytes: int
    data_bytes: int
    step_seconds: float
    measured_images: int
    total_seconds: float

    @property
    def total_bytes(self) -> int:
        """All memory counted here; kernels need some workspace besides."""
        return self.state_bytes + self.activation_bytes + self.data_bytes


def estimate(config: Config, data: ImageData, place: Place) -> Estimate:
    """Return what a run will need, after a few of its steps; nothing is written.

    Args:
        config: The run.
        data: Training images.
        place: Where this process computes.
    """
    training = config.training
    with torch.random.fork_rng([place.device] if place.device.type == "cuda" else []):
        stepper = Stepper(config, data, place)
        share = training.batch_size // place.world
        micro = min(training.micro_batch or share, share)
        first, second = (_activation_bytes(stepper, data, count) for count in (1, 2))
        seconds, images = _step_seconds(stepper)
    parameters = sum(parameter.numel() for parameter in stepper.model.network.parameters())
    return Estimate(
        parameters=parameters,
        state_bytes=4 * parameters * (4 + len(training.ema)),
        activation_bytes=first + (micro - 1) * (second - first),
        data_bytes=0 if data.memory_mapped else data.images.nbytes,
        step_seconds=seconds,
        measured_images=images,
        total_seconds=seconds * training.steps,
    )


def _step_seconds(stepper: Stepper) -> tuple[float, int]:
    """Return the duration of a step of the whole batch, and the number of images of the step that was timed."""
    config, world = stepper.config, stepper.place.world
    batch = config.training.batch_size
    probe = min(batch, _PROBE * world)
    try:
        stepper.config = replace(config, training=replace(config.training, batch_size=probe))
        seconds = _timed(stepper, 2) * batch / probe
        # The slowest process decides for all, or they would wait for each other for ever.
        slow = stepper.place.largest(round(seconds * 1000)) > 1000 * _PATIENCE
        stepper.config = config
        if probe == batch or slow:
            return seconds, probe
        return _timed(stepper, 3), batch
    finally:
        stepper.config = config


def _timed(stepper: Stepper, steps: int) -> float:
    """Return the duration of the fastest of some steps; the first only warms up."""
    phase, durations = phase_at(stepper.config.objective, 0, stepper.config.training.steps), []
    for step in range(steps):
        start = time.perf_counter()
        stepper.step(step, phase)
        stepper.look()
        durations.append(time.perf_counter() - start)
    return min(durations[1:])


def _activation_bytes(stepper: Stepper, data: ImageData, count: int) -> int:
    """Return the size of what a forward pass of `count` images keeps, parameters included."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = stepper.place.device
    x0 = to_model_range(data.images[:1].to(device)).expand(count, *data.shape)
    conditions = stepper.draws.draw(count, torch.Generator().manual_seed(0))
    shown = [value.to(device) for value in (conditions.t, conditions.lam) if value is not None]
    noise = list(torch.zeros(stepper.objective.noises, *x0.shape, device=device))
    stepper.model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        stepper.objective(stepper.model, x0, noise, *shown)
    return sum(kept.values())
