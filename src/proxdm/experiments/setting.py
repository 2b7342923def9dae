"""What experiments share: checks of their plans, runs of particles, one thread for small tensors, versions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from platform import python_version

import torch

from proxdm._version import __version__
from proxdm.noise import GeneratorNoise
from proxdm.operators import Model
from proxdm.samplers import SamplerState, solve
from proxdm.sweep import Cell


def check_numbers(steps: Sequence[int], samples: int, most: int, seed: int, seeds: int) -> None:
    """Check numbers of a sweep.

    Args:
        steps: Numbers of steps N, each at least 1.
        samples: Particles of a run, in 1 ... `most`.
        most: The limit of an exact distance.
        seed: First seed.
        seeds: Number of seeds.

    Raises:
        ValueError: One is out of its range.
    """
    if not steps:
        raise ValueError("steps names no number of steps; give at least one, e.g. 10 100")
    for n in steps:
        if n != int(n) or n < 1:
            raise ValueError(f"steps = {n} must be a whole number of at least 1")
    if not 1 <= samples <= most:
        raise ValueError(
            f"samples = {samples} must lie in 1 ... {most:,}, the limit of an exact distance; 1000 are usual"
        )
    if seeds < 1:
        raise ValueError(f"seeds = {seeds} must be at least 1; three show the spread")
    if seed < 0 or seed + seeds > 2**63:
        raise ValueError(f"seed = {seed} must lie in 0 ... 2^63 - seeds")


def run_particles(
    cell: Cell, model: Model, shape: Sequence[int], callback: Callable[[SamplerState], None] | None = None
) -> tuple[SamplerState, float]:
    """Run a cell and return the last state and the seconds that it took.

    One fresh generator with the cell's seed gives x_T first, then one tensor per noisy step: all methods start from the
    same particles, and their differences are paired.

    Args:
        cell: Method, grid and seed.
        model: The exact operators.
        shape: Number of particles, dimensions.
        callback: Called with every state.
    """
    noise = GeneratorNoise(shape, torch.Generator().manual_seed(cell.seed), dtype=model.dtype)
    started = time.perf_counter()
    last = solve(cell.method.sampler, model, cell.grid, noise, callback=callback)
    return last, time.perf_counter() - started


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: small tensors only lose by sharing, and numbers do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of proxdm, Python and these installed packages, by name."""
    return {"proxdm": __version__, "python": python_version(), **{name: version(name) for name in packages}}
