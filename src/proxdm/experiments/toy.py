r"""The synthetic experiment: exact score and exact prox samplers against a target of equal point masses.

The target is one of the thirteen Datasaurus sets (the paper's is "dino"): 142 atoms `(point - 50) / 50`. Every
diffused density `p_t` is then a Gaussian mixture, whose score and proximal operator are exact, so a distance to the
target measures the discretisation alone. Particles are float64; W1 and W2 to the target are exact. Source: arXiv
2507.08956, the section on the synthetic experiment.

Each (method, N, seed) takes its random numbers from one fresh generator with that seed, x_T first, then one tensor
per noisy step: all methods start from the same particles, and their differences are paired. The *floor* is what
the same number of exact draws from the target gives: no sampler is expected below it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from proxdm.data import datasaurus
from proxdm.errors import StepError, did_you_mean
from proxdm.experiments.setting import one_thread, versions
from proxdm.experiments.toy_result import Cell, Particles, Spread, ToyResult, Trajectory
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import MAX_PAIRS, w1, w2
from proxdm.mixtures import GaussianMixture, Mode
from proxdm.noise import GeneratorNoise
from proxdm.rules import RULES, Rule, ScoreRule
from proxdm.samplers import Model, SamplerState, check_steps, run
from proxdm.schedules import VPSDE, Time

STEPS: tuple[int, ...] = (5, 7, 10, 20, 30, 40)
"""The paper's numbers of steps."""

TRAJECTORY_STEPS = 10
"""The N whose trajectories are kept, where it is among the steps: coarse enough to tell the methods apart."""


@dataclass(frozen=True)
class Method:
    """A sampler of the experiment: a rule, the grid it runs on, and what it does at the last step.

    Attributes:
        name: Name in results, figures and the command line.
        rule: The discretisation.
        grid: Number of steps -> grid.
        last_noise: Whether the last step uses its noise.
    """

    name: str
    rule: Rule
    grid: Callable[[int], TimeGrid]
    last_noise: bool

    @property
    def uses_score(self) -> bool:
        """Whether it evaluates the score (else the prox)."""
        return isinstance(self.rule, ScoreRule)

    def undefined(self, steps: int, sde: VPSDE) -> str | None:
        """Return why the method is not defined for N = `steps`, in a sentence, or None if it is."""
        try:
            check_steps(self.rule, self.grid(steps), sde)
        except StepError as error:
            return str(error)
        return None


def methods_of(rules: dict[str, Rule]) -> dict[str, Method]:
    """Return the methods of the experiment, by name.

    Score rules run on the denoising grid without noise at the last step, prox rules on the uniform grid to 0 with
    it; Euler-Maruyama also in its canonical form and with eps = 1e-5. A rule that is added to
    :data:`proxdm.rules.RULES` joins under its own name, a score rule with the prefix `score-`.

    Args:
        rules: The table of rules.
    """
    euler = rules["euler-maruyama"]
    found = [
        Method("score-euler", euler, TimeGrid.uniform, last_noise=True),
        Method("score-denoise-1e-3", euler, TimeGrid.denoising, last_noise=False),
        Method("score-denoise-1e-5", euler, lambda n: TimeGrid.denoising(n, eps=1e-5), last_noise=False),
        Method("score-ode", rules["ode-euler"], TimeGrid.denoising, last_noise=False),
    ]
    others = {name: rule for name, rule in rules.items() if name not in ("euler-maruyama", "ode-euler")}
    for name, rule in others.items():
        if isinstance(rule, ScoreRule):
            found.append(Method(f"score-{name}", rule, TimeGrid.denoising, last_noise=False))
    for name, rule in others.items():
        if not isinstance(rule, ScoreRule):
            found.append(Method(name, rule, TimeGrid.uniform, last_noise=True))
    return {method.name: method for method in found}


METHODS: dict[str, Method] = methods_of(RULES)
"""Every method of the experiment, score methods first."""


def run_toy(
    dataset: str = "dino",
    *,
    steps: Sequence[int] = STEPS,
    samples: int = 1000,
    seed: int = 0,
    seeds: int = 3,
    methods: Sequence[str] | None = None,
    prox_mode: Mode = "global",
    sde: VPSDE | None = None,
    progress: bool = False,
) -> ToyResult:
    """Run the synthetic experiment.

    Args:
        dataset: One of the thirteen Datasaurus sets.
        steps: Numbers of steps N, each at least 1.
        samples: Particles per run.
        seed: First seed; the others follow it.
        seeds: Number of seeds.
        methods: Names out of :data:`METHODS`; all of them by default. Where a method is not defined for an N, the
            result says why instead of giving distances.
        prox_mode: `global` takes the proximal operator itself, the lowest minimum; `local` the minimum found
            downhill from the point, as the paper's code does.
        sde: Forward process.
        progress: Show a progress bar over the runs (only where there is a terminal).

    Raises:
        ValueError: An unknown name, or a number out of its range.
    """
    numbers = check_arguments(
        dataset, steps=steps, samples=samples, seed=seed, seeds=seeds, methods=methods, prox_mode=prox_mode
    )
    started = time.perf_counter()
    target = datasaurus.load(dataset)
    mixture = GaussianMixture(torch.as_tensor(target), sde=sde)
    chosen = [METHODS[name] for name in (METHODS if methods is None else dict.fromkeys(methods))]
    all_seeds = tuple(range(seed, seed + seeds))
    jobs, skipped = _plan(chosen, numbers, mixture.sde)
    follow = TRAJECTORY_STEPS if TRAJECTORY_STEPS in numbers else numbers[len(numbers) // 2]
    model = mixture if prox_mode == "global" else _LocalProx(mixture)

    cells: dict[str, dict[int, Cell]] = {}
    particles: dict[str, dict[int, Particles]] = {}
    trajectories: dict[str, Trajectory] = {}
    bar = tqdm(total=len(jobs) * seeds, unit="run", leave=False, disable=None if progress else True)
    with one_thread(), bar:
        for method, n in jobs:
            runs = []
            for current in all_seeds:
                bar.set_description(f"{method.name}, N = {n}")
                keep = n == follow and current == seed
                runs.append(_run_once(method, n, current, samples, model, target, keep=keep))
                bar.update()
            cells.setdefault(method.name, {})[n] = _cell(runs)
            particles.setdefault(method.name, {})[n] = runs[0].states[-1]
            if n == follow:
                times = tuple(method.grid(n).times.tolist())
                trajectories[method.name] = Trajectory(times, np.stack(runs[0].states))
        floor = _cell([_draw(current, samples, mixture, target) for current in all_seeds])
    return ToyResult(
        dataset=dataset,
        samples=samples,
        seeds=all_seeds,
        prox_mode=prox_mode,
        steps=numbers,
        methods=cells,
        skipped=skipped,
        floor=floor,
        target=target,
        particles=particles,
        trajectories=trajectories,
        trajectory_steps=follow,
        seconds=time.perf_counter() - started,
        versions=versions("torch", "numpy", "POT"),
    )


def check_arguments(
    dataset: str,
    *,
    steps: Sequence[int],
    samples: int,
    seed: int,
    seeds: int,
    methods: Sequence[str] | None,
    prox_mode: str = "global",
) -> tuple[int, ...]:
    """Check the arguments of :func:`run_toy` before any work is done, and return the steps, increasing.

    Raises:
        ValueError: An unknown name, or a number out of its range.
    """
    datasaurus.load(dataset)
    if methods is not None and not methods:
        raise ValueError(f"methods names none; give at least one of {', '.join(METHODS)}")
    for name in methods or ():
        if name not in METHODS:
            raise ValueError(
                f"unknown method {name!r}{did_you_mean(name, METHODS)}; the methods are {', '.join(METHODS)}"
            )
    if not steps:
        raise ValueError("steps names no number of steps; give at least one, e.g. 5 10 20")
    for n in steps:
        if n != int(n) or n < 1:
            raise ValueError(f"steps = {n} must be a whole number of at least 1")
    most = MAX_PAIRS // datasaurus.POINTS
    if not 1 <= samples <= most:
        raise ValueError(
            f"samples = {samples} must lie in 1 ... {most:,}, the limit of an exact distance; 1000 are usual"
        )
    if seeds < 1:
        raise ValueError(f"seeds = {seeds} must be at least 1; three show the spread")
    if seed < 0 or seed + seeds > 2**63:
        raise ValueError(f"seed = {seed} must lie in 0 ... 2^63 - seeds")
    if prox_mode not in get_args(Mode):
        raise ValueError(f"unknown prox_mode {prox_mode!r}; use {' or '.join(get_args(Mode))}")
    return tuple(sorted({int(n) for n in steps}))


@dataclass(frozen=True)
class _LocalProx:
    """A mixture whose prox takes the minimum found downhill from the point."""

    mixture: GaussianMixture

    @property
    def sde(self) -> VPSDE:
        return self.mixture.sde

    @property
    def device(self) -> torch.device:
        return self.mixture.device

    @property
    def dtype(self) -> torch.dtype:
        return self.mixture.dtype

    def score(self, x: Tensor, t: Time) -> Tensor:
        return self.mixture.score(x, t)

    def prox(self, x: Tensor, t: Time, lam: Time) -> Tensor:
        return self.mixture.solve_prox(x, t, lam, mode="local").u


def _plan(
    methods: Sequence[Method], numbers: Sequence[int], sde: VPSDE
) -> tuple[list[tuple[Method, int]], dict[str, dict[int, str]]]:
    """Return which (method, N) to run, and method -> N -> why not for the others."""
    jobs: list[tuple[Method, int]] = []
    skipped: dict[str, dict[int, str]] = {}
    for method in methods:
        for n in numbers:
            if (why := method.undefined(n, sde)) is None:
                jobs.append((method, n))
            else:
                skipped.setdefault(method.name, {})[n] = why
    return jobs, skipped


@dataclass(frozen=True)
class _Run:
    """One run: particles (all states, or the last alone), distances, NFE, seconds."""

    states: list[Particles]
    w1: float
    w2: float
    nfe: int
    seconds: float


def _run_once(method: Method, n: int, seed: int, samples: int, model: Model, target: Particles, *, keep: bool) -> _Run:
    states: list[Particles] = []

    def collect(state: SamplerState) -> None:
        if keep or state.step == state.steps:
            states.append(state.x.numpy().copy())

    noise = GeneratorNoise((samples, target.shape[1]), torch.Generator().manual_seed(seed), dtype=model.dtype)
    started = time.perf_counter()
    last = run(model, method.rule, method.grid(n), noise, last_noise=method.last_noise, callback=collect)
    seconds = time.perf_counter() - started
    return _Run(states, w1(states[-1], target), w2(states[-1], target), last.nfe, seconds)


def _draw(seed: int, samples: int, mixture: GaussianMixture, target: Particles) -> _Run:
    started = time.perf_counter()
    draws = mixture.sample(samples, generator=torch.Generator().manual_seed(seed))
    return _Run([], w1(draws, target), w2(draws, target), 0, time.perf_counter() - started)


def _cell(runs: Sequence[_Run]) -> Cell:
    return Cell(
        w1=Spread(tuple(run.w1 for run in runs)),
        w2=Spread(tuple(run.w2 for run in runs)),
        nfe=runs[0].nfe,
        seconds=fmean(run.seconds for run in runs),
    )
