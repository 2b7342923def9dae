r"""The synthetic experiment: exact score and exact prox samplers against a target of equal point masses.

The target is one of the thirteen Datasaurus sets (the paper's is "dino"): 142 atoms `(point - 50) / 50`. Every
diffused density `p_t` is then a Gaussian mixture, whose score and proximal operator are exact, so a distance to the
target measures the discretisation alone. Particles are float64; W1 and W2 to the target are exact. Source: arXiv
2507.08956, the section on the synthetic experiment.

A seed gives x_T and the noise of all methods (:func:`proxdm.experiments.setting.run_particles`), so that their
differences are paired. The *floor* is what the same number of exact draws from the target gives: no sampler is expected
below it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

import numpy as np
import torch
from tyro.conf import arg

from proxdm.data import datasaurus
from proxdm.errors import did_you_mean
from proxdm.experiments.setting import check_numbers, one_thread, run_particles, versions
from proxdm.experiments.toy_result import Particles, ToyResult, Trajectory
from proxdm.metrics.wasserstein import MAX_PAIRS, w1, w2
from proxdm.mixtures import GaussianMixture, Mode
from proxdm.operators import FunctionModel, Model
from proxdm.runtime.spec import parse_call
from proxdm.samplers import SAMPLERS, SamplerState, find_sampler
from proxdm.schedules import Schedule
from proxdm.sweep import Cell, Method, Row, Summary, make_cells, reasons, summaries, sweep

STEPS: tuple[int, ...] = (5, 7, 10, 20, 30, 40)
"""The paper's numbers of steps."""

TRAJECTORY_STEPS = 10
"""The N whose trajectories are kept, where it is among the steps: coarse enough to tell the methods apart."""

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(find_sampler("euler-maruyama(last_noise=True)"), "uniform", "score-euler"),
        Method(find_sampler("euler-maruyama"), "denoising(eps=1e-3)", "score-denoise-1e-3"),
        Method(find_sampler("euler-maruyama"), "denoising(eps=1e-5)", "score-denoise-1e-5"),
        Method(find_sampler("ode-euler"), "denoising(eps=1e-3)", "score-ode"),
        *map(Method.of, ("prox-hybrid", "prox-backward", "prox-ode")),
    )
}
"""The methods of the paper by their names there, and prox-ode."""

ALL = "all"
"""In place of methods: those of the paper, and every other sampler."""


def find_methods(names: Sequence[str], grid: str | None = None) -> list[Method]:
    """Return methods by name, each once.

    Args:
        names: Names out of :data:`METHODS`, texts of samplers such as `ddim(eta=1)`, or :data:`ALL`.
        grid: Family of grids of all of them; None leaves each its own. On one grid the methods are the samplers.

    Raises:
        ValueError: An unknown name, or a parameter of a sampler that it does not have.
    """
    paper = METHODS if grid is None else {}
    known = (*paper, *SAMPLERS, ALL)
    if not names:
        raise ValueError(f"methods names none; give at least one of {', '.join(known)}")
    found: list[Method] = []
    for name in names:
        if name == ALL:
            there = {type(method.sampler) for method in paper.values()}
            found += [*paper.values(), *(Method.of(one, grid) for one, kind in SAMPLERS.items() if kind not in there)]
        elif name in paper:
            found.append(paper[name])
        elif ":" in name or parse_call(name)[0] in known:
            found.append(Method.of(name, grid))
        else:
            raise ValueError(f"unknown method {name!r}{did_you_mean(name, known)}; the methods are {', '.join(known)}")
    return list(dict.fromkeys(found))


def methods_help() -> str:
    """Return what may stand for methods, for help."""
    others = ", ".join(name for name in SAMPLERS if name not in METHODS)
    return (
        f"Methods: {', '.join(METHODS)}, or samplers with parameters as in 'ddim(eta=1)': {others}; or {ALL} of them."
    )


@dataclass(frozen=True)
class ToyPlan:
    """The paper's synthetic experiment: exact score and prox samplers against a Datasaurus set.

    Measures W1 and W2 of every method at every number of steps, prints W2, and writes results.json, figures (PNG
    and SVG) and an animation (GIF).

    Raises:
        ValueError: An unknown name, or a number out of its range.
    """

    dataset: Annotated[str, arg(help=f"The target: one of {', '.join(datasaurus.NAMES)}.")] = "dino"

    steps: tuple[int, ...] = STEPS
    """Numbers of steps, each at least 1."""

    samples: int = 1000
    """Particles per run."""

    seed: int = 0
    """First seed; the others follow it."""

    seeds: int = 3
    """Number of seeds: distances are mean and spread over them."""

    methods: Annotated[tuple[str, ...], arg(help=methods_help)] = tuple(METHODS)

    prox_mode: Mode = "global"
    """Minimum that the exact prox takes: the lowest, or the one downhill from the point, as in the paper's code."""

    def __post_init__(self) -> None:
        """Check everything before any work is done."""
        datasaurus.load(self.dataset)
        find_methods(self.methods)
        check_numbers(self.steps, self.samples, MAX_PAIRS // datasaurus.POINTS, self.seed, self.seeds)
        if self.prox_mode not in get_args(Mode):
            raise ValueError(f"unknown prox_mode {self.prox_mode!r}; use {' or '.join(get_args(Mode))}")


def run_toy(plan: ToyPlan | None = None, *, schedule: Schedule | None = None, progress: bool = False) -> ToyResult:
    """Run the synthetic experiment.

    Args:
        plan: What to run; by default the paper's experiment. Where a method is not defined for an N, the result says
            why instead of giving distances.
        schedule: How the data are diffused; `VPSDE()` by default.
        progress: Show a progress bar over the runs (only where there is a terminal).
    """
    plan, started = plan or ToyPlan(), time.perf_counter()
    target = datasaurus.load(plan.dataset)
    mixture = GaussianMixture(torch.as_tensor(target), schedule=schedule)
    model = mixture if plan.prox_mode == "global" else _local(mixture)
    numbers, seeds = tuple(sorted({int(n) for n in plan.steps})), tuple(range(plan.seed, plan.seed + plan.seeds))
    follow = TRAJECTORY_STEPS if TRAJECTORY_STEPS in numbers else numbers[len(numbers) // 2]
    methods = find_methods(plan.methods)
    cells, skipped = make_cells(plan.dataset, methods, numbers, seeds, mixture.schedule)
    particles: dict[str, dict[int, Particles]] = {}
    trajectories: dict[str, Trajectory] = {}

    def measure(cell: Cell) -> Row:
        states: list[Particles] = []

        def keep(state: SamplerState) -> None:
            if cell.steps == follow or state.step == state.steps:
                states.append(state.x.numpy().copy())

        last, seconds = run_particles(cell, model, (plan.samples, target.shape[1]), keep)
        name, n = cell.method.name, cell.steps
        if cell.seed == plan.seed:
            particles.setdefault(name, {})[n] = states[-1]
            if n == follow:
                trajectories[name] = Trajectory(tuple(cell.grid.times.tolist()), np.stack(states))
        distances = {"w1": w1(states[-1], target), "w2": w2(states[-1], target)}
        return Row(
            sampler=name, grid=cell.grid.name, steps=n, nfe=last.nfe, seed=cell.seed, metrics=distances, seconds=seconds
        )

    def draw(seed: int) -> Row:
        begin = time.perf_counter()
        draws = mixture.sample(plan.samples, generator=torch.Generator().manual_seed(seed))
        distances = {"w1": w1(draws, target), "w2": w2(draws, target)}
        seconds = time.perf_counter() - begin
        return Row(sampler="draws", grid=None, steps=0, nfe=0, seed=seed, metrics=distances, seconds=seconds)

    with one_thread():
        rows = sweep(cells, measure, skipped=skipped, progress=progress)
        floor = Summary.of([draw(seed) for seed in seeds])
    return ToyResult(
        dataset=plan.dataset,
        samples=plan.samples,
        seeds=seeds,
        prox_mode=plan.prox_mode,
        steps=numbers,
        names=tuple(method.name for method in methods),
        methods=summaries(rows),
        skipped=reasons(skipped),
        floor=floor,
        target=target,
        particles=particles,
        trajectories=trajectories,
        trajectory_steps=follow,
        seconds=time.perf_counter() - started,
        versions=versions("torch", "numpy", "POT"),
    )


def _local(mixture: GaussianMixture) -> Model:
    """Return the mixture's operators, its prox the minimum found downhill from the point."""
    return FunctionModel(
        mixture.schedule,
        denoise=mixture.denoise,
        score=mixture.score,
        prox=lambda x, t, lam: mixture.solve_prox(x, t, lam, mode="local").u,
        device=mixture.device,
        dtype=mixture.dtype,
    )
