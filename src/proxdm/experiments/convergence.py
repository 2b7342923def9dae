r"""Convergence rates: how fast the law of a sampler's output nears its target as the number of steps N grows.

On Gaussian targets the law of the output is known in closed form (:mod:`proxdm.experiments.gaussian`), and so are its
KL divergence and W2 to the target, at any N. They are taken from two starts: N(0, I), which is what samplers start
from, and p_1 itself, which leaves the error of the discretisation alone.

The theorem that the numbers can be held against is KL = O(1/N^2) for prox-backward (arXiv 2507.08956). On a Gaussian
target every rule of weak order 1 has that exponent, score rules too: what tells methods apart here is the constant,
and what happens at small N.

Usual grids end with a step to 0 that does not shrink with N (grid `rho`, grid `denoising`), at which errors stop. The
*order* of a method is therefore measured without it, on :func:`order_grid`: from the exact law at its first time, W2 to
the exact law at its last time falls as N^-order.

On mixtures the law of the output has no closed form: W2 is taken between particles and draws from the target, by exact
transport, for several seeds, and stands beside its *floor*, what as many exact independent draws give in place of the
particles. The draws compared with are stratified (:func:`stratified`): every component has its exact share of the
mass. All methods start from the same particles and are compared with the same draws, so their differences are paired.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import torch
from torch import Tensor
from tyro.conf import arg

from proxdm.data import datasaurus
from proxdm.errors import NonFiniteError, StepError, did_you_mean
from proxdm.experiments.gaussian import GaussianTarget, NormalLaw, respond, respond_last
from proxdm.experiments.setting import ParticlePlan, one_thread, run_particles, versions
from proxdm.experiments.toy import ALL, find_methods, methods_help
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import MAX_PAIRS, w2
from proxdm.mixtures import GaussianMixture
from proxdm.noise import sample_generator
from proxdm.samplers import Sampler
from proxdm.schedules import VPSDE, Schedule
from proxdm.sweep import Cell, Fit, Method, Results, Summary, fit_slope

STEPS: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of steps on Gaussian targets."""

MIXTURE_STEPS: tuple[int, ...] = (5, 10, 20, 50, 100)
"""Numbers of steps on mixtures, where a thousand particles take every step."""

ORDER_STEPS: tuple[int, ...] = (100, 200, 400)
"""Numbers of steps that orders are fitted to."""

ORDER_ENDS = (20.0, 0.05)
"""First and last ratio sigma / alpha of :func:`order_grid`; the first is lower where a schedule ends before it."""

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
    """A mixture with exact operators."""

    name: str  # Name in results and figures
    formula: str  # The target in words
    build: Callable[[], GaussianMixture]  # Makes it, float64


def three_gaussians() -> GaussianMixture:
    """Return three Gaussians in the plane, of different width: means (∓0.6, -0.4) and (0, 0.6)."""
    means = torch.tensor([[-0.6, -0.4], [0.6, -0.4], [0.0, 0.6]], dtype=torch.float64)
    return GaussianMixture(means, std=[0.1, 0.15, 0.2], weights=[0.3, 0.3, 0.4])


MIXTURES: dict[str, MixtureTarget] = {
    target.name: target
    for target in (
        MixtureTarget("mixture", "3 Gaussians in the plane, σ = 0.1, 0.15, 0.2", three_gaussians),
        MixtureTarget(
            "dino",
            f"{datasaurus.POINTS} equal point masses in the plane",
            lambda: GaussianMixture(torch.as_tensor(datasaurus.load("dino"))),
        ),
    )
}
"""Mixtures by name."""

ROUNDING: Mapping[str, float] = {"kl": 1e-24, "kl_reverse": 1e-24, "w2": 1e-12}
"""The distances; values below are rounding errors of float64 (relative errors of about 1e-12)."""

_KNOWN = (*TARGETS, *MIXTURES)
_NUMBERS = f"{' '.join(map(str, STEPS))}; on mixtures {' '.join(map(str, MIXTURE_STEPS))}"


@dataclass(frozen=True)
class RatesPlan(ParticlePlan):
    """Convergence rates: the error of every sampler against its number of steps, on targets with closed forms.

    On Gaussian targets KL and W2 of the output law are exact, from N(0, I) and from p_1, and a slope is fitted to the
    last three points; the order of each sampler is measured besides, on a grid that does not end in 0. On mixtures W2
    is measured by exact transport, beside what exact draws give. Prints tables and writes results.json and figures (PNG
    and SVG).

    Raises:
        ValueError: An unknown name, a number out of its range, or a setting that would be ignored.
    """

    targets: Annotated[tuple[str, ...], arg(name="target", help=f"Targets, out of {', '.join(_KNOWN)}.")] = (
        *TARGETS,
        "mixture",
    )
    # Numbers of steps, each at least 1.
    steps: Annotated[tuple[int, ...] | None, arg(help_behavior_hint=f"(default: {_NUMBERS})")] = None
    methods: Annotated[tuple[str, ...], arg(help=methods_help)] = (ALL,)
    # Family of times of every sampler, e.g. uniform or 'power(rho=3)'; methods are then samplers by their names.
    grid: Annotated[str | None, arg(help_behavior_hint="(default: each its own)")] = None

    def __post_init__(self) -> None:
        """Check everything before any work is done."""
        if not self.targets:
            raise ValueError(f"target names none; give at least one of {', '.join(_KNOWN)}")
        for name in self.targets:
            if name not in _KNOWN:
                hint = did_you_mean(name, _KNOWN)
                raise ValueError(f"unknown target {name!r}{hint}; the targets are {', '.join(_KNOWN)}")
        if self.grid is not None:
            TimeGrid.named(self.grid, 1)
        find_methods(self.methods, self.grid)
        self.check_numbers(self.numbers(STEPS), int(MAX_PAIRS**0.5))
        for one in () if set(self.targets) & set(MIXTURES) else fields(ParticlePlan):
            if (value := getattr(self, one.name)) != one.default:
                raise ValueError(
                    f"{one.name} = {value} has an effect on mixtures only ({', '.join(MIXTURES)}), and no target is "
                    "one; leave it out"
                )

    def numbers(self, default: Sequence[int]) -> list[int]:
        """Return the numbers of steps, increasing."""
        return sorted(set(default if self.steps is None else self.steps))


@dataclass(frozen=True, kw_only=True)
class GaussianRates(Results):
    """The errors of every method on one Gaussian target.

    Distances of the law q of the output from the target p are `kl` = KL(q || p) and `kl_reverse` = KL(p || q), in nats,
    infinite where a law has no density, and `w2`. Metrics of these names are from the start that samplers take;
    `exact_kl` ... from p_1, or the exact law at the first time, without initialisation error; `last_kl` ... of the last
    step alone, from the exact law at its time, which are not there where it needs a history. Where the last step does
    not shrink as N grows (the denoising grid), no N brings the error below these for long.
    """

    mean: tuple[float, ...]  # Mean of the target, in the eigen-directions of its covariance
    std: tuple[float, ...]  # Its standard deviations in those directions
    order_grid: str  # The grid of `orders`, in words
    # method -> N -> W2 on that grid, from the exact law at its first time to that at its last
    orders: dict[str, dict[int, float]]

    def fit(self, method: str, metric: str = "kl") -> Fit | None:
        """Return the power law of one method; None where its errors are rounding errors."""
        return fit_slope(self.values(method, metric), ROUNDING[metric.removeprefix("exact_")])

    def order(self, method: str) -> Fit | None:
        """Return the power law of W2 in `orders`, whose exponent is minus the global order of the method."""
        return fit_slope(self.orders[method], ROUNDING["w2"])

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "formula": self.formula,
            "mean": list(self.mean),
            "std": list(self.std),
            "methods": {name: self._of_method(name) for name in self.names},
            "order_grid": self.order_grid,
            "skipped": self.skipped,
        }

    def _of_method(self, name: str) -> dict[str, Any]:
        """Return the JSON form of one method; what is not finite is None there."""

        def cell(of: Summary) -> dict[str, Any]:
            plain, exact, last = (
                _finite({one: of.metrics[start + one].mean for one in ROUNDING if start + one in of.metrics})
                for start in ("", "exact_", "last_")
            )
            return {**plain, "exact_start": exact, "last_step": last or None, "nfe": of.nfe, "grid": of.grid}

        def fits(start: str) -> dict[str, Any]:
            return {one: fit and asdict(fit) for one in ROUNDING for fit in [self.fit(name, start + one)]}

        order = self.order(name)
        return {
            "steps": {n: cell(of) for n, of in self.methods[name].items()},
            "fits": {"normal": fits(""), "exact": fits("exact_")},
            "order": {"w2": _finite(self.orders[name]), "fit": order and asdict(order)},
        }


@dataclass(frozen=True)
class RatesResult:
    """Everything that was measured."""

    grid: str | None  # The grid of all methods, or None: each method on its own
    gaussians: tuple[GaussianRates, ...]  # Errors on Gaussian targets, in closed form
    mixtures: tuple[Results, ...]  # W2 on mixtures, to stratified draws, by Monte Carlo
    seconds: float  # Duration of all of it
    versions: dict[str, str]  # Versions of the software that the numbers depend on

    def record(self) -> dict[str, Any]:
        """Return everything in the form of `results.json`."""

        def mixture(found: dict[str, Any]) -> dict[str, Any]:
            return {**found, "methods": {name: {"steps": cells} for name, cells in found["methods"].items()}}

        return {
            "grid": self.grid,
            "quadrature": None,  # of all methods, in older files; now in the names of the samplers
            "gaussians": {one.target: one.record() for one in self.gaussians},
            "mixtures": {one.target: {"formula": one.formula, **mixture(one.record())} for one in self.mixtures},
            "seconds": self.seconds,
            "versions": self.versions,
        }


def run_rates(plan: RatesPlan, *, progress: bool = False) -> RatesResult:
    """Measure everything in the plan."""
    started, methods, names = time.perf_counter(), find_methods(plan.methods, plan.grid), dict.fromkeys(plan.targets)
    with one_thread():
        gaussians = [
            gaussian_rates(TARGETS[name], methods, plan.numbers(STEPS), progress=progress)
            for name in names
            if name in TARGETS
        ]
        mixtures = [
            mixture_rates(MIXTURES[name], methods, plan, progress=progress) for name in names if name in MIXTURES
        ]
    return RatesResult(
        grid=plan.grid,
        gaussians=tuple(gaussians),
        mixtures=tuple(mixtures),
        seconds=time.perf_counter() - started,
        versions=versions(),
    )


def gaussian_rates(
    target: GaussianTarget,
    methods: Sequence[Method],
    steps: Sequence[int],
    *,
    schedule: Schedule | None = None,
    progress: bool = False,
) -> GaussianRates:
    """Return the errors of methods on a Gaussian target, in closed form, and their orders."""
    known = schedule or VPSDE()

    def measure(cell: Cell) -> tuple[dict[str, float], int, float]:
        sampler, grid, started = cell.method.sampler, cell.grid, time.perf_counter()
        whole = respond(sampler, target, known, grid)
        alone = respond_last(sampler, target, known, grid, whole)
        first, before, end = (target.law(grid.times[i], known) for i in (0, -2, -1))
        # What samplers start from: N(0, I) on variance-preserving schedules
        std = known.initial_std(grid.times[0])
        usual = NormalLaw(torch.zeros_like(first.mean), torch.ones_like(first.variance) * std.square())
        laws = {"": whole.apply(usual), "exact_": whole.apply(first)}
        if alone is not None:
            laws["last_"] = alone.apply(before)
        found = {start + name: value for start, law in laws.items() for name, value in law.distances(end).items()}
        return found, whole.nfe, time.perf_counter() - started

    orders = {sampler: order_errors(sampler, target, known) for sampler in {method.sampler for method in methods}}
    return GaussianRates.of(
        target.name,
        methods,
        steps,
        known,
        measure,
        progress=progress,
        formula=target.formula,
        mean=target.mean,
        std=target.std,
        order_grid=order_grid(1, known).name,
        orders={method.name: orders[method.sampler] for method in methods},
    )


def order_grid(steps: int, schedule: Schedule) -> TimeGrid:
    """Return N steps between the ratios :data:`ORDER_ENDS`, whose logarithm goes as `(i / N)^2`, and none to 0.

    The first steps, which multistep methods take at a lower order, are of length N^-2, so that they do not show.
    """
    first, last = min(ORDER_ENDS[0], float(schedule.ratio(1.0))), ORDER_ENDS[1]
    part = torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()
    times = schedule.time_of_ratio(first * (last / first) ** part).clamp(max=1.0)
    return TimeGrid(times, f"log(σ/α) from log {first:.3g} down to log {last:g} as (i/N)²")


def order_errors(sampler: Sampler, target: GaussianTarget, schedule: Schedule) -> dict[int, float]:
    """Return N -> W2 on :func:`order_grid`, from the exact law at its first time to the exact law at its last.

    It is empty where the sampler does not take that grid.
    """
    found = {}
    for n in ORDER_STEPS:
        grid = order_grid(n, schedule)
        first, last = (target.law(grid.times[i], schedule) for i in (0, -1))
        try:
            found[n] = respond(sampler, target, schedule, grid).apply(first).w2(last)
        except (StepError, NonFiniteError):
            return {}
    return found


def mixture_rates(
    target: MixtureTarget, methods: Sequence[Method], plan: RatesPlan, *, progress: bool = False
) -> Results:
    """Return W2 of methods on a mixture, between particles and draws from it, and of as many independent draws.

    Every seed gives x_T and the noise of the steps (:func:`proxdm.experiments.setting.run_particles`), the draws that
    the particles are compared with, and the draws of the floor.
    """
    mixture = target.build()
    references = {seed: stratified(mixture, plan.samples, sample_generator(seed, 0)) for seed in plan.all_seeds}

    def distance(x: Tensor, seed: int) -> dict[str, float]:
        points, masses = references[seed]
        return {"w2": w2(x, points, y_weights=masses)}

    return run_particles(
        plan,
        mixture,
        methods,
        plan.numbers(MIXTURE_STEPS),
        distance,
        lambda seed: sample_generator(seed, 1),
        target=target.name,
        formula=target.formula,
        progress=progress,
    )


def stratified(mixture: GaussianMixture, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw from every component by itself: how much mass it has is exact, where in it the draws lie is random.

    Independent draws would hit the components in random proportions, and that accident would be most of a distance.
    """
    counts = (mixture.weights * n).round().clamp(min=1).long()
    stds = mixture.std.expand(mixture.components)
    parts = [
        GaussianMixture(mean[None], std, schedule=mixture.schedule).sample(int(count), generator=generator)
        for mean, std, count in zip(mixture.means, stds, counts, strict=True)
    ]
    return torch.cat(parts), (mixture.weights / counts).repeat_interleave(counts)


def _finite(values: Mapping[Any, float]) -> dict[Any, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
