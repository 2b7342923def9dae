r"""The synthetic experiment: exact score and exact prox samplers against a target of equal point masses.

The target is one of the thirteen Datasaurus sets (the paper's is "dino"): 142 atoms `(point - 50) / 50`. Every
diffused density `p_t` is then a Gaussian mixture, whose score and proximal operator are exact, so a distance to the
target measures the discretisation alone. Particles are float64; W1 and W2 to the target are exact. Source: arXiv
2507.08956, the section on the synthetic experiment.

A seed gives x_T and the noise of all methods (:func:`proxdm.experiments.setting.run_particles`). The *floor* is what
the same number of exact draws from the target gives: no sampler is expected below it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tyro.conf import arg

from proxdm.data import datasaurus
from proxdm.errors import check_choices, did_you_mean
from proxdm.experiments.setting import ParticlePlan, one_thread, run_particles, versions
from proxdm.metrics.wasserstein import MAX_PAIRS, w1, w2
from proxdm.mixtures import GaussianMixture, Mode
from proxdm.runtime.registry import parse_call
from proxdm.samplers import SAMPLERS, SamplerState, find_sampler
from proxdm.schedules import Time
from proxdm.sweep import Cell, Method, Results

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
    """Return methods by name, each once."""
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
class ToyPlan(ParticlePlan):
    """The paper's synthetic experiment: exact score and exact prox samplers against a Datasaurus set.

    Measures W1 and W2 of every method at every number of steps, prints W2, and writes results.json, figures (PNG
    and SVG) and an animation (GIF).

    Raises:
        ValueError: An unknown name, or a number out of its range.
    """

    dataset: Annotated[str, arg(help=f"The target: one of {', '.join(datasaurus.NAMES)}.")] = "dino"
    steps: tuple[int, ...] = STEPS  # Numbers of steps, each at least 1.
    methods: Annotated[tuple[str, ...], arg(help=methods_help)] = tuple(METHODS)
    # Minimum that the exact prox takes: the lowest, or the one downhill from the point, as in the paper's code.
    prox_mode: Mode = "global"

    def __post_init__(self) -> None:
        """Check everything before any work is done."""
        datasaurus.load(self.dataset)
        find_methods(self.methods)
        self.check_numbers(self.steps, MAX_PAIRS // datasaurus.POINTS)
        check_choices(self)


Particles = NDArray[np.float64]
"""Points of the plane, `(n, 2)`."""


@dataclass(frozen=True)
class Trajectory:
    """The particles of one run at every time of its grid."""

    times: tuple[float, ...]  # The N + 1 times, decreasing
    states: NDArray[np.float64]  # The particles at those times, `(N + 1, n, 2)`


@dataclass(frozen=True, kw_only=True)
class ToyResult(Results):
    """Everything that the experiment measured: W1 and W2, and particles of the first seed."""

    prox_mode: str  # Which minimum the proximal operator takes: `global` or `local`
    points: Particles  # The atoms, `(142, 2)`
    particles: dict[str, dict[int, Particles]]  # method -> N -> final particles, `(samples, 2)`
    trajectories: dict[str, Trajectory]  # method -> trajectory at N = `trajectory_steps`
    trajectory_steps: int  # The N of the trajectories
    seconds: float  # Duration of the whole experiment
    versions: dict[str, str]  # Versions of the software that the numbers depend on

    def record(self) -> dict[str, Any]:
        """Return the numbers in the form of `results.json` (no particles)."""
        found = super().record()
        return {
            "dataset": self.target,
            "seed": self.seeds[0],
            "prox_mode": self.prox_mode,
            **found,
            "methods": {name: cells for name, cells in found["methods"].items() if cells},
            "seconds": self.seconds,
            "versions": self.versions,
        }


class _Downhill(GaussianMixture):
    """A mixture whose prox is the minimum found downhill from the point."""

    def prox(self, x: Tensor, t: Time, lam: Time) -> Tensor:
        return self.solve_prox(x, t, lam, mode="local").u


def run_toy(plan: ToyPlan, *, progress: bool = False) -> ToyResult:
    """Run the synthetic experiment."""
    started, methods, steps = time.perf_counter(), find_methods(plan.methods), sorted(set(plan.steps))
    points, kind = datasaurus.load(plan.dataset), GaussianMixture if plan.prox_mode == "global" else _Downhill
    follow = TRAJECTORY_STEPS if TRAJECTORY_STEPS in steps else steps[len(steps) // 2]
    particles: dict[str, dict[int, Particles]] = {}
    states: dict[str, list[Particles]] = {}
    times: dict[str, tuple[float, ...]] = {}

    def keep(cell: Cell, state: SamplerState) -> None:
        if cell.seed == plan.seed and cell.steps == follow:
            times[cell.method.name] = tuple(cell.grid.times.tolist())
            states.setdefault(cell.method.name, []).append(state.x.numpy().copy())
        if cell.seed == plan.seed and state.step == state.steps:
            particles.setdefault(cell.method.name, {})[cell.steps] = state.x.numpy().copy()

    with one_thread():
        found = run_particles(
            plan,
            kind(torch.as_tensor(points)),
            methods,
            steps,
            lambda x, seed: {"w1": w1(x, points), "w2": w2(x, points)},
            torch.Generator().manual_seed,
            callback=keep,
            target=plan.dataset,
            progress=progress,
        )
    return ToyResult(
        **vars(found),
        prox_mode=plan.prox_mode,
        points=points,
        particles=particles,
        trajectories={name: Trajectory(times[name], np.stack(of)) for name, of in states.items() if name in particles},
        trajectory_steps=follow,
        seconds=time.perf_counter() - started,
        versions=versions(),
    )
