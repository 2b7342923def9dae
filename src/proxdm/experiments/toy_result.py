"""What the synthetic experiment returns: distances per method, N and seed, and the particles behind them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

Particles = NDArray[np.float64]
"""Points of the plane, `(n, 2)`."""


@dataclass(frozen=True)
class Spread:
    """One number per seed.

    Attributes:
        values: The numbers, in the order of the seeds.
    """

    values: tuple[float, ...]

    def __str__(self) -> str:
        """Return the mean to three decimals, with `± deviation` where there are several seeds."""
        return f"{self.mean:.3f}" if self.std is None else f"{self.mean:.3f} ± {self.std:.3f}"

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """The sample standard deviation over the seeds; None with one seed."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Cell:
    """What one method reaches with one number of steps.

    Attributes:
        w1: W1 to the target, per seed.
        w2: W2 to the target, per seed.
        nfe: Measured evaluations of the score or prox per particle; 0 for exact draws.
        seconds: Mean time of one run of all particles, without the distances.
    """

    w1: Spread
    w2: Spread
    nfe: int
    seconds: float

    def record(self) -> dict[str, Any]:
        """Return the JSON form: means as `w1` and `w2`, then spreads and the values of every seed."""
        return {
            "w1": self.w1.mean,
            "w2": self.w2.mean,
            "nfe": self.nfe,
            "w1_std": self.w1.std,
            "w2_std": self.w2.std,
            "w1_seeds": list(self.w1.values),
            "w2_seeds": list(self.w2.values),
            "seconds": self.seconds,
        }


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
        methods: method -> N -> distances.
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
    methods: dict[str, dict[int, Cell]]
    skipped: dict[str, dict[int, str]]
    floor: Cell
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
                name: {str(steps): cell.record() for steps, cell in cells.items()}
                for name, cells in self.methods.items()
            },
            "skipped": {name: {str(n): why for n, why in reasons.items()} for name, reasons in self.skipped.items()},
            "floor": self.floor.record(),
            "seconds": self.seconds,
            "versions": self.versions,
        }
