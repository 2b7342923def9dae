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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm.errors import NonFiniteError, StepError
from proxdm.experiments.convergence_plan import MIXTURE_STEPS, SAMPLES, SEEDS, STEPS, MixtureTarget, RatesPlan
from proxdm.experiments.convergence_result import GaussianRates, MixtureRates, RateRow, RatesResult
from proxdm.experiments.gaussian import GaussianTarget, NormalLaw, respond, respond_last
from proxdm.experiments.setting import one_thread, run_particles, versions
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import w2
from proxdm.mixtures import GaussianMixture
from proxdm.noise import sample_generator
from proxdm.samplers import Sampler
from proxdm.schedules import VPSDE, Schedule
from proxdm.sweep import Cell, Method, Row, Summary, make_cells, reasons, summaries, sweep

ORDER_STEPS: tuple[int, ...] = (100, 200, 400)
"""Numbers of steps that orders are fitted to."""

ORDER_ENDS = (20.0, 0.05)
"""First and last ratio sigma / alpha of :func:`order_grid`."""


def run_rates(
    plan: RatesPlan | None = None, *, schedule: Schedule | None = None, progress: bool = False
) -> RatesResult:
    """Measure everything in the plan.

    Args:
        plan: What to measure; by default every method on :data:`DEFAULT_TARGETS`.
        schedule: How the data are diffused; `VPSDE()` by default.
        progress: Show a progress bar (only where there is a terminal).
    """
    plan, started, known = plan or RatesPlan(), time.perf_counter(), schedule or VPSDE()
    methods = plan.chosen_methods()
    with one_thread():
        gaussians = [
            gaussian_rates(target, methods, plan.numbers(STEPS), schedule=known, progress=progress)
            for target in plan.gaussians
        ]
        mixtures = [
            mixture_rates(
                target,
                methods,
                plan.numbers(MIXTURE_STEPS),
                samples=plan.particles,
                seeds=plan.all_seeds,
                schedule=known,
                progress=progress,
            )
            for target in plan.mixtures
        ]
    return RatesResult(
        grid=plan.grid,
        gaussians=tuple(gaussians),
        mixtures=tuple(mixtures),
        seconds=time.perf_counter() - started,
        versions=versions("torch", "numpy", "POT"),
    )


def gaussian_rates(
    target: GaussianTarget,
    methods: Sequence[Method],
    steps: Sequence[int] = STEPS,
    *,
    schedule: Schedule | None = None,
    progress: bool = False,
) -> GaussianRates:
    """Return the errors of methods on a Gaussian target, in closed form, and their orders.

    Args:
        target: The target.
        methods: The methods (:func:`proxdm.experiments.toy.find_methods`).
        steps: Numbers of steps N, each at least 1.
        schedule: How the data are diffused; `VPSDE()` by default.
        progress: Show a progress bar (only where there is a terminal).
    """
    known = schedule or VPSDE()
    cells, skipped = make_cells(target.name, methods, steps, [0], known)

    def measure(cell: Cell) -> RateRow:
        sampler, grid, started = cell.method.sampler, cell.grid, time.perf_counter()
        whole = respond(sampler, target, known, grid)
        alone = respond_last(sampler, target, known, grid, whole)
        first, before, end = (target.law(grid.times[i], known) for i in (0, -2, -1))
        return RateRow(
            target=target.name,
            sampler=cell.method.name,
            grid=grid.name,
            steps=cell.steps,
            nfe=whole.nfe,
            seed=cell.seed,
            seconds=time.perf_counter() - started,
            metrics=whole.apply(_usual_start(first, known, grid)).distances(end),
            exact=whole.apply(first).distances(end),
            last_step=None if alone is None else alone.apply(before).distances(end),
        )

    rows = sweep(cells, measure, skipped=skipped, progress=progress)
    found: dict[str, dict[int, RateRow]] = {method.name: {} for method in methods}
    for row in rows:
        found[row.sampler][row.steps] = row
    return GaussianRates(
        target=target.name,
        formula=target.formula,
        mean=target.mean,
        std=target.std,
        methods=found,
        skipped=reasons(skipped),
        order_grid="log(σ/α) from log {:g} down to log {:g} as (i/N)²".format(*ORDER_ENDS),
        orders={method.name: order_errors(method.sampler, target, known) for method in methods},
    )


def order_grid(steps: int, schedule: Schedule) -> TimeGrid:
    """Return N steps between the ratios :data:`ORDER_ENDS`, whose logarithm goes as `(i / N)^2`, and none to 0.

    The first steps, which multistep methods take at a lower order, are of length N^-2, so that they do not show.

    Args:
        steps: N.
        schedule: Whose ratios are meant.
    """
    first, last = map(math.log, ORDER_ENDS)
    part = torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()
    return TimeGrid(schedule.time_of_ratio(torch.exp(first + part * (last - first))), f"order({steps})")


def order_errors(sampler: Sampler, target: GaussianTarget, schedule: Schedule) -> dict[int, float]:
    """Return N -> W2 on :func:`order_grid` between the output, started from the exact law, and the exact law at its end.

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
    target: MixtureTarget,
    methods: Sequence[Method],
    steps: Sequence[int] = MIXTURE_STEPS,
    *,
    samples: int = SAMPLES,
    seeds: Sequence[int] = tuple(range(SEEDS)),
    schedule: Schedule | None = None,
    progress: bool = False,
) -> MixtureRates:
    """Return W2 of methods on a mixture.

    Every seed gives x_T and the noise of the steps (one generator, in sampling order), the draws that the particles
    are compared with, and the draws of the floor.

    Args:
        target: The mixture.
        methods: The methods.
        steps: Numbers of steps N, each at least 1.
        samples: Particles of a run, and draws that they are compared with.
        seeds: The seeds.
        schedule: How the data are diffused; `VPSDE()` by default.
        progress: Show a progress bar (only where there is a terminal).
    """
    mixture = target.build(schedule or VPSDE())
    cells, skipped = make_cells(target.name, methods, steps, seeds, mixture.schedule)
    references = {seed: stratified(mixture, samples, sample_generator(seed, 0)) for seed in seeds}

    def row(x: Tensor, seed: int, seconds: float, **more: object) -> Row:
        known = {"sampler": "draws", "grid": None, "steps": 0, "nfe": 0, "target": target.name} | more
        return Row(seed=seed, seconds=seconds, metrics={"w2": references[seed].w2(x)}, **known)  # type: ignore[arg-type]

    def measure(cell: Cell) -> Row:
        last, seconds = run_particles(cell, mixture, (samples, mixture.dim))
        of = {"sampler": cell.method.name, "grid": cell.grid.name, "steps": cell.steps, "nfe": last.nfe}
        return row(last.x, cell.seed, seconds, **of)

    def draw(seed: int) -> Row:
        started = time.perf_counter()
        draws = mixture.sample(samples, generator=sample_generator(seed, 1))
        return row(draws, seed, time.perf_counter() - started)

    rows = sweep(cells, measure, skipped=skipped, progress=progress)
    return MixtureRates(
        target=target.name,
        formula=target.formula,
        samples=samples,
        seeds=tuple(seeds),
        methods={method.name: {} for method in methods} | summaries(rows),
        skipped=reasons(skipped),
        floor=Summary.of([draw(seed) for seed in seeds]),
    )


@dataclass(frozen=True)
class Reference:
    """Draws from a mixture with their masses.

    Attributes:
        points: The draws, `(m, *)`.
        masses: float64 `(m,)`, sum 1.
    """

    points: Tensor
    masses: Tensor

    def w2(self, particles: Tensor) -> float:
        """Return W2 between particles of equal mass `(n, *)` and the draws."""
        return w2(particles, self.points, y_weights=self.masses)


def stratified(mixture: GaussianMixture, n: int, generator: torch.Generator) -> Reference:
    """Draw from every component by itself: how much mass it has is exact, where in it the draws lie is random.

    Independent draws would hit the components in random proportions, and that accident would be most of a distance.

    Args:
        mixture: The mixture.
        n: Number of draws, as near as shares of at least one draw allow.
        generator: Source of the random numbers.
    """
    counts = (mixture.weights * n).round().clamp(min=1).long()
    stds = mixture.std.expand(mixture.components)
    parts = [
        GaussianMixture(mean[None], std, schedule=mixture.schedule).sample(int(count), generator=generator)
        for mean, std, count in zip(mixture.means, stds, counts, strict=True)
    ]
    return Reference(torch.cat(parts), (mixture.weights / counts).repeat_interleave(counts))


def _usual_start(exact: NormalLaw, schedule: Schedule, grid: TimeGrid) -> NormalLaw:
    """Return the law of what samplers start from, N(0, I) on variance-preserving schedules."""
    std = schedule.initial_std(grid.times[0])
    return NormalLaw(torch.zeros_like(exact.mean), torch.ones_like(exact.variance) * std.square())
