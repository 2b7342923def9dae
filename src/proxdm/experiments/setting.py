"""What experiments share: runs of particles against an exact floor, one thread for small tensors, versions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from platform import python_version
from typing import Any

import torch
from torch import Tensor

from proxdm._version import __version__
from proxdm.grids import check_steps
from proxdm.mixtures import GaussianMixture
from proxdm.noise import GeneratorNoise
from proxdm.samplers import SamplerState, solve
from proxdm.sweep import Cell, Method, Results, Row


@dataclass(frozen=True, kw_only=True)
class ParticlePlan:
    """How many particles, and which random numbers: options of experiments on mixtures."""

    samples: int = 1000  # Particles of a run on a mixture.
    seed: int = 0  # First seed of a mixture; the others follow it.
    seeds: int = 3  # Number of seeds: distances are mean and spread over them.

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(self.seed, self.seed + self.seeds))

    def check_numbers(self, steps: Sequence[int], most: int) -> None:
        """Check the numbers, and numbers of steps; `most` is the number of particles of an exact distance."""
        if not steps:
            raise ValueError("steps names no number of steps; give at least one, e.g. 10 100")
        for n in steps:
            check_steps(n)
        if not 1 <= self.samples <= most:
            raise ValueError(
                f"samples = {self.samples} must lie in 1 ... {most:,}, the limit of an exact distance; 1000 are usual"
            )
        if self.seeds < 1:
            raise ValueError(f"seeds = {self.seeds} must be at least 1; three show the spread")
        if self.seed < 0 or self.seed + self.seeds > 2**63:
            raise ValueError(f"seed = {self.seed} must lie in 0 ... 2^63 - seeds")


def run_particles(
    plan: ParticlePlan,
    mixture: GaussianMixture,
    methods: Sequence[Method],
    steps: Sequence[int],
    distances: Callable[[Tensor, int], dict[str, float]],
    generator: Callable[[int], torch.Generator],
    *,
    callback: Callable[[Cell, SamplerState], None] = lambda cell, state: None,
    target: str,
    formula: str = "",
    progress: bool = False,
) -> Results:
    """Run methods on a mixture.

    One fresh generator with the seed gives x_T first, then one tensor per noisy step: all methods start from the same
    particles, and their differences are paired.
    """

    def measure(cell: Cell) -> tuple[dict[str, float], int, float]:
        source = torch.Generator().manual_seed(cell.seed)
        noise = GeneratorNoise((plan.samples, *mixture.event_shape), source, dtype=mixture.dtype)
        started = time.perf_counter()
        last = solve(cell.method.sampler, mixture, cell.grid, noise, callback=lambda state: callback(cell, state))
        seconds = time.perf_counter() - started
        return distances(last.x, cell.seed), last.nfe, seconds

    def draw(seed: int) -> Row:
        started = time.perf_counter()
        x = mixture.sample(plan.samples, generator=generator(seed))
        seconds = time.perf_counter() - started
        return Row(sampler="draws", grid=None, steps=0, nfe=0, seed=seed, metrics=distances(x, seed), seconds=seconds)

    draws, seeds = tuple(map(draw, plan.all_seeds)), plan.all_seeds
    more: Any = {"formula": formula, "samples": plan.samples, "draws": draws, "seeds": seeds, "progress": progress}
    return Results.of(target, methods, steps, mixture.schedule, measure, **more)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: small tensors only lose by sharing, and numbers do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on, by name."""
    others = {name: version(name) for name in ("torch", "numpy", "POT")}
    return {"proxdm": __version__, "python": python_version(), **others}
