"""What the synthetic experiment returns: distances per method, N and seed, and the particles behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxdm.experiments.setting import ParticleResult

Particles = NDArray[np.float64]
"""Points of the plane, `(n, 2)`."""


@dataclass(frozen=True)
class Trajectory:
    """The particles of one run at every time of its grid.

    Attributes:
        times: The N + 1 times, decreasing.
        states: The particles at those times, `(N + 1, n, 2)`.
    """

    times: tuple[float, ...]
    states: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ToyResult(ParticleResult):
    """Everything that the experiment measured: W1 and W2, and particles of the first seed.

    Attributes:
        dataset: Name of the Datasaurus set.
        prox_mode: Which minimum the proximal operator takes: `global` or `local`.
        steps: The numbers of steps asked for, increasing.
        names: The methods asked for.
        target: The atoms, `(142, 2)`.
        particles: method -> N -> final particles, `(samples, 2)`.
        trajectories: method -> trajectory at N = `trajectory_steps`.
        trajectory_steps: The N of the trajectories.
        seconds: Duration of the whole experiment.
        versions: Versions of the software that the numbers depend on.
    """

    dataset: str
    prox_mode: str
    steps: tuple[int, ...]
    names: tuple[str, ...]
    target: Particles
    particles: dict[str, dict[int, Particles]]
    trajectories: dict[str, Trajectory]
    trajectory_steps: int
    seconds: float
    versions: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Return the numbers in the form of `results.json` (no particles)."""
        return {
            "dataset": self.dataset,
            "seed": self.seeds[0],
            "prox_mode": self.prox_mode,
            "methods": {name: {n: cell.record() for n, cell in cells.items()} for name, cells in self.methods.items()},
            **super().record(),
            "seconds": self.seconds,
            "versions": self.versions,
        }
