"""What a run will need, before it is started: memory, counted and measured, and time, from a few real steps."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from proxdm.networks import parameter_count
from proxdm.pixels import to_model_range
from proxdm.runtime.words import duration
from proxdm.training.stepper import Stepper

_PROBE = 8
_PATIENCE = 3.0
"""Seconds that a whole step may take to be measured itself; longer ones are extrapolated from `_PROBE` samples."""


def estimate(stepper: Stepper) -> dict[str, str]:
    """Return what a run will need per process, in words, after a few of its steps: the stepper is used up."""
    training, data, place = stepper.settings.training, stepper.stream.data, stepper.place
    with torch.random.fork_rng([place.device] if place.device.type == "cuda" else []):
        share = training.batch_size // place.world
        first, second = (_activation_bytes(stepper, count) for count in (1, 2))
        seconds, measured = step_seconds(stepper)
    parameters = parameter_count(stepper.model.network)
    state = 4 * parameters * (4 + len(training.ema))  # weights, gradients, AdamW's two moments, averages
    activations = first + (min(training.micro_batch or share, share) - 1) * (second - first)
    samples = 0 if data.memory_mapped else data.images.nbytes
    how = "measured" if measured == training.batch_size else f"from {measured} samples"
    return {
        "parameters": f"{parameters:,}",
        "memory": f"{_size(state + activations + samples)}: weights, gradients, moments, averages {_size(state)}, "
        f"activations {_size(activations)}, data {_size(samples)}",
        "step": f"{seconds:.3g} s on {place.device} ({how}), batch {training.batch_size}",
        "time": f"{duration(seconds * training.steps)} for {training.steps:,} steps",
    }


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def step_seconds(stepper: Stepper) -> tuple[float, int]:
    """Return the duration of a step of the whole batch, and the number of samples of the step that was timed."""
    batch = stepper.settings.training.batch_size
    probe = min(batch, _PROBE * stepper.place.world)
    seconds = _timed(stepper, probe, 2) * batch / probe
    # The slowest process decides for all, or they would wait for each other for ever.
    if probe == batch or stepper.place.largest(round(seconds * 1000)) > 1000 * _PATIENCE:
        return seconds, probe
    return _timed(stepper, batch, 3), batch


def _timed(stepper: Stepper, batch: int, steps: int) -> float:
    """Return the duration of the fastest of some steps of a batch; the first only warms up."""
    stepper.settings = replace(stepper.settings, training=replace(stepper.settings.training, batch_size=batch))
    phase, durations = stepper.phase(0), []
    for step in range(steps):
        start = time.perf_counter()
        stepper.step(step, phase)
        stepper.look()
        durations.append(time.perf_counter() - start)
    return min(durations[1:])


def _activation_bytes(stepper: Stepper, count: int) -> int:
    """Return the size of what a forward pass of `count` samples keeps, parameters included."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device, data = stepper.place.device, stepper.stream.data
    x0 = to_model_range(data.images[:1].to(device)).expand(count, *data.shape)
    drawn = stepper.draws.draw(count, torch.Generator().manual_seed(0))
    shown = [value.to(device) for value in (drawn.t, drawn.lam) if value is not None]
    noise = list(torch.zeros(stepper.predict.noises, *x0.shape, device=device))
    stepper.model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        stepper.predict(stepper.model, x0, noise, *shown)
    return sum(kept.values())
