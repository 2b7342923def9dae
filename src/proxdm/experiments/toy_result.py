"""What the synthetic experiment returns: distances per method, N and seed, and the particles behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxdm.sweep import Summary

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


@dataclass(frozen=True)
class ToyResult:
    """Everything that the experiment measured.

    Attributes:
        dataset: Name of the Datasaurus set.
        samples: Number of particles.
        seeds: The seeds.
        prox_mode: Which minimum the proximal operator takes: `global` or `local`.
        steps: The numbers of steps asked for, increasing.
        names: The methods asked for.
        methods: method -> N -> W1 and W2 (`metrics`), NFE and seconds.
        skipped: method -> N -> why the method is not defined there.
        floor: Distances of exact draws from the target.
        target: The atoms, `(142, 2)`.
        particles: method -> N -> final particles of the first seed, `(samples, 2)`.
        trajectories: method -> trajectory of the first seed at N = `trajectory_steps`.
        trajectory_steps: The N of the trajectories.
        seconds: Duration of the whole experiment.
        versions: Versions of the software that the numbers depend on.
    """

    dataset: str
    samples: int
    seeds: tuple[int, ...]
    prox_mode: str
    steps: tuple[int, ...]
    names: tuple[str, ...]
    methods: dict[str, dict[int, Summary]]
    skipped: dict[str, dict[int, str]]
    floor: Summary
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
            "samples": self.samples,
            "seed": self.seeds[0],
            "seeds": list(self.seeds),
            "prox_mode": self.prox_mode,
            "methods": {
                name: {str(n): cell.record() for n, cell in cells.items()} for name, cells in self.methods.items()
            },
            "skipped": {name: {str(n): why for n, why in reasons.items()} for name, reasons in self.skipped.items()},
            "floor": self.floor.record(),
            "seconds": self.seconds,
            "versions": self.versions,
        }
