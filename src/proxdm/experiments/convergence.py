r"""Convergence rates: how fast the law of a sampler's output nears its target as the number of steps N grows.

On Gaussian targets the law of the output is known in closed form (:mod:`proxdm.experiments.gaussian`), and so are its
KL divergence and W2 to the target, at any N. They are taken from two starts: N(0, I), which is what samplers start
from, and p_1 itself, which leaves the error of the discretisation alone.

The theorem that the numbers can be held against is KL = O(1/N^2) for prox-backward (arXiv 2507.08956). On a Gaussian
target every rule of weak order 1 has that exponent, score rules too: what tells methods apart here is the constant,
and what happens at small N.

On mixtures the law of the output has no closed form: W2 is taken between particles and draws from the target, by exact
transport, for several seeds, and stands beside its *floor*, what as many exact independent draws give in place of the
particles. The draws compared with are stratified (:func:`stratified`): every component has its exact share of the
mass. All methods start from the same particles and are compared with the same draws, so their differences are paired.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from tqdm import tqdm

from proxdm.errors import StepError
from proxdm.experiments.convergence_plan import MIXTURE_STEPS, SAMPLES, SEEDS, STEPS, MixtureTarget, RatesPlan
from proxdm.experiments.convergence_result import GaussianRates, MixtureCell, MixtureRates, RateCell, RatesResult
from proxdm.experiments.gaussian import GaussianTarget, NormalLaw, affine_steps
from proxdm.experiments.setting import one_thread, versions
from proxdm.experiments.toy import Method
from proxdm.experiments.toy_result import Spread
from proxdm.metrics.wasserstein import w2
from proxdm.mixtures import GaussianMixture
from proxdm.noise import GeneratorNoise, sample_generator
from proxdm.rules import Quadrature
from proxdm.samplers import check_steps, run
from proxdm.schedules import VPSDE


def run_rates(plan: RatesPlan, *, sde: VPSDE | None = None, progress: bool = False) -> RatesResult:
    """Measure everything in the plan.

    Args:
        plan: What to measure.
        sde: Forward process.
        progress: Show a progress bar (only where there is a terminal).
    """
    started = time.perf_counter()
    schedule, methods = sde or VPSDE(), plan.chosen_methods()
    with one_thread():
        gaussians = [
            gaussian_rates(target, methods, plan.numbers(STEPS), sde=schedule, quadrature=plan.quadrature)
            for target in plan.gaussians
        ]
        mixtures = [
            mixture_rates(
                target,
                methods,
                plan.numbers(MIXTURE_STEPS),
                samples=plan.particles,
                seeds=plan.all_seeds,
                sde=schedule,
                quadrature=plan.quadrature,
                progress=progress,
            )
            for target in plan.mixtures
        ]
    return RatesResult(
        grid=plan.grid,
        quadrature=plan.quadrature,
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
    sde: VPSDE | None = None,
    quadrature: Quadrature | None = None,
) -> GaussianRates:
    """Return the errors of methods on a Gaussian target, from N(0, I) and from p_1, in closed form.

    Args:
        target: The target.
        methods: The methods, e.g. `METHODS.values()` of :mod:`proxdm.experiments.toy`.
        steps: Numbers of steps N, each at least 1.
        sde: Forward process.
        quadrature: Overrides the rules' choice of gamma.
    """
    schedule = sde or VPSDE()
    jobs, skipped = _plan(methods, steps, schedule, quadrature)
    data = target.law(0.0, schedule)
    cells: dict[str, dict[int, RateCell]] = {method.name: {} for method in methods}
    for method, n in jobs:
        grid = method.grid(n)
        moves = affine_steps(target, method, n, schedule, quadrature)
        first, before_last = float(grid.times[0]), float(grid.times[-2])
        cells[method.name][n] = RateCell(
            normal=moves.apply(NormalLaw.standard(len(target.std))).distances(data),
            exact=moves.apply(target.law(first, schedule)).distances(data),
            last_step=moves.apply(target.law(before_last, schedule), first=-1).distances(data),
            grid=grid.name,
        )
    return GaussianRates(target.name, target.formula, target.mean, target.std, cells, skipped)


def mixture_rates(
    target: MixtureTarget,
    methods: Sequence[Method],
    steps: Sequence[int] = MIXTURE_STEPS,
    *,
    samples: int = SAMPLES,
    seeds: Sequence[int] = tuple(range(SEEDS)),
    sde: VPSDE | None = None,
    quadrature: Quadrature | None = None,
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
        sde: Forward process.
        quadrature: Overrides the rules' choice of gamma.
        progress: Show a progress bar (only where there is a terminal).
    """
    schedule = sde or VPSDE()
    mixture = target.build(schedule)
    jobs, skipped = _plan(methods, steps, schedule, quadrature)
    references = {seed: stratified(mixture, samples, sample_generator(seed, 0)) for seed in seeds}
    cells: dict[str, dict[int, MixtureCell]] = {method.name: {} for method in methods}
    bar = tqdm(jobs, desc=target.name, unit="cell", leave=False, disable=None if progress else True)
    for method, n in bar:
        bar.set_postfix_str(f"{method.name}, N = {n}")
        distances, seconds, nfe = [], [], 0
        for seed in seeds:
            noise = GeneratorNoise((samples, mixture.dim), torch.Generator().manual_seed(seed), dtype=mixture.dtype)
            started = time.perf_counter()
            last = run(mixture, method.rule, method.grid(n), noise, last_noise=method.last_noise, quadrature=quadrature)
            seconds.append(time.perf_counter() - started)
            distances.append(references[seed].w2(last.x))
            nfe = last.nfe
        cells[method.name][n] = MixtureCell(Spread(tuple(distances)), nfe, fmean(seconds), method.grid(n).name)
    started = time.perf_counter()
    draws = [mixture.sample(samples, generator=sample_generator(seed, 1)) for seed in seeds]
    seconds_each = (time.perf_counter() - started) / len(draws)
    floor = Spread(tuple(references[seed].w2(x) for x, seed in zip(draws, seeds, strict=True)))
    return MixtureRates(
        target=target.name,
        formula=target.formula,
        samples=samples,
        seeds=tuple(seeds),
        methods=cells,
        skipped=skipped,
        floor=MixtureCell(floor, 0, seconds_each, None),
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
        GaussianMixture(mean[None], std, sde=mixture.sde).sample(int(count), generator=generator)
        for mean, std, count in zip(mixture.means, stds, counts, strict=True)
    ]
    return Reference(torch.cat(parts), (mixture.weights / counts).repeat_interleave(counts))


def _plan(
    methods: Sequence[Method], steps: Sequence[int], sde: VPSDE, quadrature: Quadrature | None
) -> tuple[list[tuple[Method, int]], dict[str, dict[int, str]]]:
    """Return which (method, N) to run, and method -> N -> why not for the others."""
    jobs: list[tuple[Method, int]] = []
    skipped: dict[str, dict[int, str]] = {}
    for method in methods:
        for n in steps:
            try:
                check_steps(method.rule, method.grid(n), sde, quadrature)
            except StepError as error:
                skipped.setdefault(method.name, {})[n] = str(error)
            else:
                jobs.append((method, n))
    return jobs, skipped
