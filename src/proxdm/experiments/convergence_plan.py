"""What convergence rates are measured: targets, methods and their grids, numbers of steps, all checked beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from tyro.conf import arg

from proxdm.data import datasaurus
from proxdm.errors import did_you_mean
from proxdm.experiments.gaussian import GaussianTarget
from proxdm.experiments.setting import check_numbers
from proxdm.experiments.toy import ALL, find_methods, methods_help
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import MAX_PAIRS
from proxdm.mixtures import GaussianMixture
from proxdm.schedules import Schedule
from proxdm.sweep import Method

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
        build: Schedule -> the mixture, float64.
    """

    name: str
    formula: str
    build: Callable[[Schedule], GaussianMixture]


def three_gaussians(schedule: Schedule) -> GaussianMixture:
    """Return three Gaussians in the plane, of different width: means (∓0.6, -0.4) and (0, 0.6)."""
    means = torch.tensor([[-0.6, -0.4], [0.6, -0.4], [0.0, 0.6]], dtype=torch.float64)
    return GaussianMixture(means, std=[0.1, 0.15, 0.2], weights=[0.3, 0.3, 0.4], schedule=schedule)


def dino(schedule: Schedule) -> GaussianMixture:
    """Return the equal point masses of the synthetic experiment."""
    return GaussianMixture(torch.as_tensor(datasaurus.load("dino")), schedule=schedule)


MIXTURES: dict[str, MixtureTarget] = {
    target.name: target
    for target in (
        MixtureTarget("mixture", "3 Gaussians in the plane, σ = 0.1, 0.15, 0.2", three_gaussians),
        MixtureTarget("dino", f"{datasaurus.POINTS} equal point masses in the plane", dino),
    )
}
"""Mixtures by name."""

DEFAULT_TARGETS: tuple[str, ...] = (*TARGETS, "mixture")

_NUMBERS = f"{' '.join(map(str, STEPS))}; on mixtures {' '.join(map(str, MIXTURE_STEPS))}"


@dataclass(frozen=True)
class RatesPlan:
    """Convergence rates: the error of every sampler against its number of steps, on targets with closed forms.

    On Gaussian targets KL and W2 of the output law are exact, from N(0, I) and from p_1, and a slope is fitted to the
    last three points; the order of each sampler is measured besides, on a grid that does not end in 0. On mixtures W2
    is measured by exact transport, beside what exact draws give. Prints tables and writes results.json and figures (PNG
    and SVG).

    Raises:
        ValueError: An unknown name, a number out of its range, or a setting that would be ignored.
    """

    targets: Annotated[
        tuple[str, ...], arg(name="target", help=f"Targets, out of {', '.join((*TARGETS, *MIXTURES))}.")
    ] = DEFAULT_TARGETS

    steps: Annotated[tuple[int, ...] | None, arg(help_behavior_hint=f"(default: {_NUMBERS})")] = None
    """Numbers of steps, each at least 1."""

    methods: Annotated[tuple[str, ...], arg(help=methods_help)] = (ALL,)

    grid: Annotated[str | None, arg(help_behavior_hint="(default: each its own)")] = None
    """Family of times of every sampler, e.g. uniform or 'power(rho=3)'; methods are then samplers by their names."""

    samples: Annotated[int | None, arg(help_behavior_hint=f"(default: {SAMPLES})")] = None
    """Particles of a run on mixtures."""

    seed: Annotated[int | None, arg(help_behavior_hint="(default: 0)")] = None
    """First seed on mixtures; the others follow it."""

    seeds: Annotated[int | None, arg(help_behavior_hint=f"(default: {SEEDS})")] = None
    """Number of seeds on mixtures: distances are mean and spread over them."""

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
        if self.grid is not None:
            TimeGrid.named(self.grid, 1)
        self.chosen_methods()
        given = {"samples": self.samples, "seed": self.seed, "seeds": self.seeds}
        if not self.mixtures and (idle := [name for name, value in given.items() if value is not None]):
            raise ValueError(
                f"{idle[0]} = {given[idle[0]]} has an effect on mixtures only ({', '.join(MIXTURES)}), and no target "
                "is one; leave it out"
            )
        steps = STEPS if self.steps is None else self.steps
        check_numbers(steps, self.particles, int(MAX_PAIRS**0.5), self.seed or 0, self._count)

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
        return tuple(range(first, first + self._count))

    @property
    def _count(self) -> int:
        return SEEDS if self.seeds is None else self.seeds

    def numbers(self, default: Sequence[int]) -> list[int]:
        """Return the numbers of steps, increasing."""
        return sorted({int(n) for n in (default if self.steps is None else self.steps)})

    def chosen_methods(self) -> list[Method]:
        """Return the methods (:func:`proxdm.experiments.toy.find_methods`)."""
        return find_methods(self.methods, self.grid)
