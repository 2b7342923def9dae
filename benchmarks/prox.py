"""Speed and quality of the exact prox on the Datasaurus, against one SciPy L-BFGS run per point.

    python benchmarks/prox.py            # every step of the uniform hybrid grid with N = 10
    python benchmarks/prox.py --toy      # and the wall time of `python -m proxdm toy`

Every method gets the same points: what the hybrid sampler hands to the prox when the particles follow the true
marginals. The best known objective of a point is the least over all methods, a dense grid, and descents from every
atom; a method finds the global minimum where its objective is within 1e-9 of that.

SciPy: L-BFGS-B from x with the analytic gradient, in float64, run on a subset of the points and scaled. It stands
there twice: with the objective as one writes it down (`scipy.special.logsumexp`; the baseline of the ratio), and with
one tuned by hand, which forms every intermediate once in bare NumPy. The last step lands on s = 0, where the
objective is infinite off the atoms and the prox a projection: it is not part of the totals.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

from proxdm.data import datasaurus
from proxdm.grids import TimeGrid
from proxdm.mixtures import GaussianMixture
from proxdm.samplers import find_sampler
from proxdm.schedules import VPSDE

FOUND = 1e-9
"""Excess over the best known objective below which a point counts as found."""


@dataclass(frozen=True)
class Problem:
    """One step of the sampler: the prox at time s with weight lam of the points x."""

    mixture: GaussianMixture
    x: Tensor
    s: float
    lam: float

    def objective(self, u: Tensor) -> Tensor:
        """Return `1/2 |u - x|^2 - lam log p_s(u)`; where the density is a sum of point masses, the first term."""
        half = (u - self.x[: len(u)]).square().sum(1) / 2
        return half if self.s == 0 else half - self.lam * self.mixture.log_prob(u, self.s)


def step_problem(mixture: GaussianMixture, t: float, s: float, points: int, seed: int) -> Problem:
    """Return the prox problem of the hybrid step from t to s, with particles drawn from p_t."""
    step = find_sampler("prox-hybrid").coefficients(mixture.schedule, t, s)
    generator = torch.Generator().manual_seed(seed)
    x = mixture.sample(points, t, generator=generator)
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return Problem(mixture, step.scale * x + step.noise * z, s, float(step.lam))


Function = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Objective and gradient at u."""


def written_down(means: NDArray[np.float64], v: float, lam: float, x: NDArray[np.float64]) -> Function:
    """Return the objective in SciPy's own terms."""

    def function(u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = -((u - means) ** 2).sum(1) / (2 * v)
        log_density = logsumexp(logits)
        score = np.exp(logits - log_density) @ (means - u) / v
        return 0.5 * ((u - x) ** 2).sum() - lam * log_density, u - x - lam * score

    return function


def tuned(means: NDArray[np.float64], v: float, lam: float, x: NDArray[np.float64]) -> Function:
    """Return the objective in as few NumPy calls as can be."""

    def function(u: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        difference = means - u
        logits = np.einsum("kd,kd->k", difference, difference) / (-2 * v)
        top = logits.max()
        weights = np.exp(logits - top)
        total = weights.sum()
        away = u - x
        value = 0.5 * (away @ away) - lam * (top + np.log(total))
        return value, away - (lam / (v * total)) * (weights @ difference)

    return function


def scipy_prox(problem: Problem, starts: Tensor, make: Callable[..., Function]) -> Tensor:
    """Return one L-BFGS-B run from each start; at s = 0, where there is no gradient, the nearest atom by numpy."""
    atoms = problem.mixture.means.numpy()
    if problem.s == 0:
        return torch.from_numpy(np.stack([atoms[((atoms - x) ** 2).sum(1).argmin()] for x in starts.numpy()]))
    schedule, lam = problem.mixture.schedule, problem.lam
    means, v = float(schedule.alpha_bar(problem.s)) ** 0.5 * atoms, float(schedule.noise_variance(problem.s))
    options = {"ftol": 1e-15, "gtol": 1e-9}
    runs = [
        minimize(make(means, v, lam, x), start, jac=True, method="L-BFGS-B", options=options).x
        for start, x in zip(starts.numpy(), problem.x.numpy(), strict=False)
    ]
    return torch.from_numpy(np.stack(runs))


def best_known(problem: Problem, count: int, candidates: list[Tensor]) -> Tensor:
    """Return the least objective known for the first `count` points."""
    best = torch.stack([problem.objective(u[:count]) for u in candidates]).amin(0)
    if problem.s == 0:
        return best
    means = float(problem.mixture.schedule.alpha_bar(problem.s)) ** 0.5 * problem.mixture.means
    x = problem.x[:count]
    ends = torch.cat([means, x])
    axes = [torch.linspace(float(low), float(high), 300) for low, high in zip(ends.amin(0), ends.amax(0), strict=True)]
    grid = torch.cartesian_prod(*axes).double()
    cost = -problem.lam * problem.mixture.log_prob(grid, problem.s)
    lowest = torch.stack([((grid - row).square().sum(1) / 2 + cost).min() for row in x])
    return torch.minimum(best, lowest)


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call after one warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@dataclass(frozen=True)
class Measured:
    """One method on one step: seconds per point, share of points found, largest excess over the best known."""

    per_point: float
    found: float
    excess: float


def measure(problem: Problem, subset: int, repeats: int) -> dict[str, Measured]:
    """Time the methods and judge them on the first `subset` points."""
    mixture, x, s, lam = problem.mixture, problem.x, problem.s, problem.lam
    ours = {mode: mixture.solve_prox(x, s, lam, mode).u for mode in ("global", "local")}
    time_of = {
        "global": seconds(lambda: mixture.prox(x, s, lam), repeats) / len(x),
        "local": seconds(lambda: mixture.solve_prox(x, s, lam, "local"), repeats) / len(x),
    }
    for name, make in (("scipy", written_down), ("by hand", tuned)):
        start = time.perf_counter()
        ours[name] = scipy_prox(problem, x[:subset], make)
        time_of[name] = (time.perf_counter() - start) / subset
    again = [scipy_prox(problem, ours["global"][:subset], tuned)]
    best = best_known(problem, subset, list(ours.values()) + again)
    out = {}
    for name, u in ours.items():
        excess = problem.objective(u[:subset]) - best
        out[name] = Measured(time_of[name], float((excess < FOUND).double().mean()), float(excess.max()))
    return out


def machine() -> str:
    """Return the machine and the versions in one line."""
    return (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, numpy {np.__version__}, scipy {scipy.__version__}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


METHODS = ("global", "local", "scipy", "by hand")


def table(n: int, points: int, subset: int, repeats: int) -> None:
    """Print one line per step and the totals of the steps that do not land on s = 0."""
    mixture = GaussianMixture(torch.as_tensor(datasaurus.load("dino")), schedule=VPSDE())
    print(f"dino, 142 atoms, {points} points a step; SciPy and quality on the first {subset} of them")
    print(f"{'':16}{'points per second':^40}{'global against':^20}{'global minimum found':^40}{'largest excess':^36}")
    names = "".join(f"{name:>10}" for name in METHODS)
    print(f"{'s':>6}{'lam':>8}  {names}{'scipy':>10}{'by hand':>10}{names}{names}")
    rows: list[dict[str, Measured]] = []
    for index, (t, s) in enumerate(TimeGrid.uniform(n).pairs()):
        problem = step_problem(mixture, t, s, points, seed=index)
        row = measure(problem, subset, repeats)
        print_line(f"{s:6.3g}{problem.lam:8.3g}", row)
        if s > 0:
            rows.append(row)
    means = {
        name: Measured(
            sum(row[name].per_point for row in rows) / len(rows),
            sum(row[name].found for row in rows) / len(rows),
            max(row[name].excess for row in rows),
        )
        for name in METHODS
    }
    print_line(f"{'all, s > 0':>14}", means)
    total = 1e3 * means["global"].per_point * len(rows) * points
    print(f"a run of N = {n} steps with {points} points: {total:.0f} ms in the exact prox before its projection")


def print_line(label: str, row: dict[str, Measured]) -> None:
    """Print speeds, the ratios of global mode to SciPy, shares found and excesses."""
    speeds = "".join(f"{1 / row[name].per_point:10,.0f}" for name in METHODS)
    ratios = "".join(f"{row[name].per_point / row['global'].per_point:9.0f}x" for name in ("scipy", "by hand"))
    shares = "".join(f"{100 * row[name].found:9.1f}%" for name in METHODS)
    excess = "".join(f"{max(row[name].excess, 0):10.1e}" for name in METHODS)
    print(f"{label}  {speeds}{ratios}{shares}{excess}", flush=True)


def toy() -> None:
    """Run the default toy experiment in a process of its own and print its wall time."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "proxdm", "toy", "--out", f"{folder}/toy"]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        wall = time.perf_counter() - start
    if done.returncode:
        print(f"the toy experiment failed with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return
    print(f"python -m proxdm toy: {wall:.1f} s wall time")


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="N of the uniform grid")
    parser.add_argument("--points", type=int, default=1000, help="points per step")
    parser.add_argument("--subset", type=int, default=200, help="points for SciPy and for the quality")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of which the median counts")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; torch's choice by default")
    parser.add_argument("--toy", action="store_true", help="time `python -m proxdm toy` as well")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    print(machine())
    table(arguments.steps, arguments.points, min(arguments.subset, arguments.points), arguments.repeats)
    if arguments.toy:
        toy()


if __name__ == "__main__":
    main()
