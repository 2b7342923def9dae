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
    """The particles of one run at every time of its grid."""

    times: tuple[float, ...]  # The N + 1 times, decreasing
    states: NDArray[np.float64]  # The particles at those times, `(N + 1, n, 2)`


@dataclass(frozen=True, kw_only=True)
class ToyResult(ParticleResult):
    """Everything that the experiment measured: W1 and W2, and particles of the first seed."""

    dataset: str  # Name of the Datasaurus set
    prox_mode: str  # Which minimum the proximal operator takes: `global` or `local`
    steps: tuple[int, ...]  # The numbers of steps asked for, increasing
    names: tuple[str, ...]  # The methods asked for
    target: Particles  # The atoms, `(142, 2)`
    particles: dict[str, dict[int, Particles]]  # method -> N -> final particles, `(samples, 2)`
    trajectories: dict[str, Trajectory]  # method -> trajectory at N = `trajectory_steps`
    trajectory_steps: int  # The N of the trajectories
    seconds: float  # Duration of the whole experiment
    versions: dict[str, str]  # Versions of the software that the numbers depend on

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
