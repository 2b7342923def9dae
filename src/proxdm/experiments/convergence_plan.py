"""What convergence rates are measured: targets, methods and their grids, numbers of steps, all checked beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from proxdm.data import datasaurus
from proxdm.errors import did_you_mean
from proxdm.experiments.gaussian import GaussianTarget
from proxdm.experiments.toy import METHODS, Method
from proxdm.grids import GRID_NAMES, GridName, TimeGrid
from proxdm.metrics.wasserstein import MAX_PAIRS
from proxdm.mixtures import GaussianMixture
from proxdm.rules import RULES, Quadrature, ScoreRule
from proxdm.schedules import VPSDE

STEPS: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of steps on Gaussian targets."""

MIXTURE_STEPS: tuple[int, ...] = (5, 10, 20, 50, 100)
"""Numbers of steps on mixtures, where a thousand particles take every step."""

SAMPLES = 1000
"""Particles on mixtures: an exact distance takes a fraction of a second."""

SEEDS = 3
"""Seeds on mixtures."""

TARGETS: dict[str, GaussianTarget] = {
    target.name: target
    for target in (
        GaussianTarget("isotropic", mean=(0.5, 0.5), std=(0.5, 0.5)),
        GaussianTarget("anisotropic", mean=(0.5, -0.5, 0.5, -0.5), std=(1.0, 0.5, 0.2, 0.1)),
    )
}
"""Gaussian targets by name: the spread of natural images in [-1, 1], and directions from wide to narrow."""


@dataclass(frozen=True)
class MixtureTarget:
    """A mixture with exact operators.

    Attributes:
        name: Name in results and figures.
        formula: The target in words.
        build: Forward process -> the mixture, float64.
    """

    name: str
    formula: str
    build: Callable[[VPSDE], GaussianMixture]


def three_gaussians(sde: VPSDE) -> GaussianMixture:
    """Return three Gaussians in the plane, of different width: means (∓0.6, -0.4) and (0, 0.6)."""
    means = torch.tensor([[-0.6, -0.4], [0.6, -0.4], [0.0, 0.6]], dtype=torch.float64)
    return GaussianMixture(means, std=[0.1, 0.15, 0.2], weights=[0.3, 0.3, 0.4], sde=sde)


def dino(sde: VPSDE) -> GaussianMixture:
    """Return the equal point masses of the synthetic experiment."""
    return GaussianMixture(torch.as_tensor(datasaurus.load("dino")), sde=sde)


MIXTURES: dict[str, MixtureTarget] = {
    target.name: target
    for target in (
        MixtureTarget("mixture", "3 Gaussians in the plane, σ = 0.1, 0.15, 0.2", three_gaussians),
        MixtureTarget("dino", f"{datasaurus.POINTS} equal point masses in the plane", dino),
    )
}
"""Mixtures by name."""

DEFAULT_TARGETS: tuple[str, ...] = (*TARGETS, "mixture")


@dataclass(frozen=True)
class RatesPlan:
    """What to measure: every target with every method at every number of steps.

    Attributes:
        targets: Names out of :data:`TARGETS` and :data:`MIXTURES`.
        steps: Numbers of steps N; None is :data:`STEPS` on Gaussian targets and :data:`MIXTURE_STEPS` on mixtures.
        methods: Names of methods; None is all of them. They are those of the synthetic experiment, each on its own
            grid, or with `grid` the rules.
        grid: Name of the grid of all methods; None gives each its own.
        eps: Last time before 0 of the denoising and log-snr grids; None is 0.001.
        rho: Exponent of the power grid; None is 2.
        quadrature: How gamma is computed in all methods; None leaves it to each rule.
        samples: Particles on mixtures; None is :data:`SAMPLES`.
        seed: First seed on mixtures; None is 0.
        seeds: Number of seeds on mixtures; None is :data:`SEEDS`.

    Raises:
        ValueError: An unknown name, a number out of its range, or a setting that would be ignored.
    """

    targets: tuple[str, ...] = DEFAULT_TARGETS
    steps: tuple[int, ...] | None = None
    methods: tuple[str, ...] | None = None
    grid: GridName | None = None
    eps: float | None = None
    rho: float | None = None
    quadrature: Quadrature | None = None
    samples: int | None = None
    seed: int | None = None
    seeds: int | None = None

    def __post_init__(self) -> None:
        """Check everything before any work is done."""
        known = [*TARGETS, *MIXTURES]
        if not self.targets:
            raise ValueError(f"target names none; give at least one of {', '.join(known)}")
        for name in self.targets:
            if name not in known:
                raise ValueError(
                    f"unknown target {name!r}{did_you_mean(name, known)}; the targets are {', '.join(known)}"
                )
        if self.steps is not None and not self.steps:
            raise ValueError("steps names no number of steps; give at least one, e.g. 10 100 1000")
        for n in self.steps or ():
            if n != int(n) or n < 1:
                raise ValueError(f"steps = {n} must be a whole number of at least 1")
        if self.quadrature is not None and self.quadrature not in get_args(Quadrature):
            raise ValueError(f"unknown quadrature {self.quadrature!r}; use {' or '.join(get_args(Quadrature))}")
        self.chosen_methods()
        self._check_monte_carlo()

    def _check_monte_carlo(self) -> None:
        given = {"samples": self.samples, "seed": self.seed, "seeds": self.seeds}
        if not self.mixtures and (idle := [name for name, value in given.items() if value is not None]):
            raise ValueError(
                f"{idle[0]} = {given[idle[0]]} has an effect on mixtures only ({', '.join(MIXTURES)}), and no target "
                "is one; leave it out"
            )
        most = int(MAX_PAIRS**0.5)
        if not 1 <= self.particles <= most:
            raise ValueError(
                f"samples = {self.particles} must lie in 1 ... {most:,}, the limit of an exact distance; 1000 are usual"
            )
        first, count = self.seed or 0, SEEDS if self.seeds is None else self.seeds
        if count < 1:
            raise ValueError(f"seeds = {count} must be at least 1; three show the spread")
        if first < 0 or first + count > 2**63:
            raise ValueError(f"seed = {first} must lie in 0 ... 2^63 - seeds")

    @property
    def gaussians(self) -> list[GaussianTarget]:
        """The Gaussian targets."""
        return [TARGETS[name] for name in dict.fromkeys(self.targets) if name in TARGETS]

    @property
    def mixtures(self) -> list[MixtureTarget]:
        """The mixtures."""
        return [MIXTURES[name] for name in dict.fromkeys(self.targets) if name in MIXTURES]

    @property
    def particles(self) -> int:
        """Particles on mixtures."""
        return SAMPLES if self.samples is None else self.samples

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds on mixtures."""
        first = self.seed or 0
        return tuple(range(first, first + (SEEDS if self.seeds is None else self.seeds)))

    def numbers(self, default: Sequence[int]) -> list[int]:
        """Return the numbers of steps, increasing."""
        return sorted({int(n) for n in (default if self.steps is None else self.steps)})

    def chosen_methods(self) -> list[Method]:
        """Return the methods.

        Raises:
            ValueError: An unknown name, or a setting of the grid that is wrong or would be ignored.
        """
        known = methods_on(self.grid, eps=self.eps, rho=self.rho)
        if self.methods is None:
            return list(known.values())
        if not self.methods:
            raise ValueError(f"methods names none; give at least one of {', '.join(known)}")
        for name in self.methods:
            if name not in known:
                which = "the methods" if self.grid is None else f"the methods on one grid ({self.grid})"
                raise ValueError(f"unknown method {name!r}{did_you_mean(name, known)}; {which} are {', '.join(known)}")
        return [known[name] for name in dict.fromkeys(self.methods)]


def methods_on(
    grid: GridName | None = None, *, eps: float | None = None, rho: float | None = None, sde: VPSDE | None = None
) -> dict[str, Method]:
    """Return the methods by name: on their own grids those of the synthetic experiment, else every rule on one grid.

    On one grid the methods bear the names of their rules, and end with noise as their samplers do by default.

    Args:
        grid: Name of the grid of all methods; None gives each its own.
        eps: Last time before 0 of the denoising and log-snr grids, 0.001 by default.
        rho: Exponent of the power grid, 2 by default.
        sde: Forward process, of the log-snr grid.

    Raises:
        ValueError: An unknown grid, or a setting that would be ignored.
    """
    if rho is not None and grid != "power":
        raise ValueError(f"rho = {rho:g} has an effect on the power grid only; choose it, or leave rho out")
    if eps is not None and grid not in ("denoising", "log-snr"):
        raise ValueError(f"eps = {eps:g} has an effect on the denoising and log-snr grids only; leave it out")
    if grid is None:
        return METHODS
    if grid not in GRID_NAMES:
        raise ValueError(f"unknown grid {grid!r}; the grids are {', '.join(GRID_NAMES)}")
    name = grid
    first, power = (1e-3 if eps is None else eps), (2.0 if rho is None else rho)

    def times(steps: int) -> TimeGrid:
        return TimeGrid.named(name, steps, eps=first, rho=power, sde=sde)

    times(1)  # a wrong eps or rho shows here, not in the middle of the work
    return {rule.name: Method(rule.name, rule, times, not isinstance(rule, ScoreRule)) for rule in RULES.values()}
