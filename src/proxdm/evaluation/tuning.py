"""The best grid of a sampler on a model: coordinate descent over start, end and rho of the family `rho`.

Every sampler gets the same budget, the same samples and the same first point but for its start: the ratio of t = 1, at
most 80, or with a prior the start of its gain curve. A coordinate is multiplied or divided by a factor, which shrinks
when a round of all three brings nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from proxdm.checkpoints.load import Opened, open_source
from proxdm.errors import NonFiniteError, check_least
from proxdm.evaluation.plan import EvaluationPlan
from proxdm.evaluation.run import open_job
from proxdm.generation import Say, method_name, warn
from proxdm.grids import LARGEST_START, TimeGrid, grid_parameters
from proxdm.metrics.registry import METRICS
from proxdm.priors import few_step_shape, start_for
from proxdm.runtime.processes import Place, choose_device
from proxdm.schedules import Schedule
from proxdm.sweep import Cell, Method

FACTORS = (2.5, 2.5, 1.8)
"""First factors of start, end and rho."""

Point = tuple[float, ...]  # Start, end and rho


@dataclass(frozen=True)
class TuningPlan(EvaluationPlan):
    """What to tune; the objective is the first value of the first metric."""

    samples: Annotated[int, arg(aliases=("-n",))] = 600  # Samples behind one value of the objective.
    budget: int = 20  # Grids tried for every sampler and number of steps.

    def __post_init__(self) -> None:
        """Check also the budget, and that there is something to go by."""
        super().__post_init__()
        check_least(1, budget=self.budget)
        if self.grid is not None:
            raise ValueError(f"--grid = {self.grid} is what is looked for; leave it out")
        if next(iter(METRICS.find(self.metrics[0]).values.values())).better is None:
            raise ValueError(f"the metric {self.metrics[0]} has no better or worse; tune by another, such as fid")


@dataclass(frozen=True)
class Tuned:
    """The best grid that was found."""

    sampler: str  # Name of the method, with ` and prior` if it has one
    steps: int  # N
    grid: str  # Text of the grid
    value: float  # Of the objective there
    first: float  # Of the objective on the first grid
    tried: int  # Grids tried


def tune(
    source: str | Path | Opened,
    plan: TuningPlan,
    *,
    device: str = "auto",
    progress: bool = False,
    say: Say = warn,
) -> list[Tuned]:
    """Return the best grid of every sampler and number of steps of a plan; nothing is written."""
    place = Place(choose_device(device))
    opened = source if isinstance(source, Opened) else open_source(source, device=place.device)
    job = open_job(plan, str(source), opened, place, None, progress)
    name, value = next(iter(METRICS.find(plan.metrics[0]).values.items()))
    sign = -1.0 if value.better == "higher" else 1.0
    found = []
    for method in plan.methods(opened.model):
        for steps in dict.fromkeys(plan.steps):

            def objective(grid: TimeGrid, method: Method = method) -> float:
                row = job.measure(Cell(method, grid, plan.seed), None, overwrite=False)
                assert row is not None
                return row.metrics[name]

            one = search(method, steps, opened.model.schedule, objective, plan.budget, sign)
            found.append(one)
            say(f"{one.sampler} N = {steps}: {name} {one.first:.4g} -> {one.value:.4g} on {one.grid}")
    return found


def search(
    method: Method,
    steps: int,
    schedule: Schedule,
    objective: Callable[[TimeGrid], float],
    budget: int,
    sign: float = 1.0,
) -> Tuned:
    """Return the best grid by coordinate descent; `sign` -1 looks for the greatest value."""
    values: dict[str, float] = {}

    def value_at(point: Point) -> float:
        if (grid := _grid(point, steps, schedule)) is None:
            return math.inf
        text = grid.name.replace(f"({steps}, ", "(")
        if text not in values:
            try:
                values[text] = sign * objective(grid)
            except NonFiniteError:
                values[text] = math.inf
        return values[text]

    point, power = _first(method, steps, schedule), 1.0
    best = first = value_at(point)
    while len(values) < budget and power > 0.1:
        before = best
        for i in range(min(steps, 3)):  # one step has a start alone, two have an end, too
            start = best
            for way in (1, -1):
                while len(values) < budget:
                    factor = FACTORS[i] ** (way * power)
                    other = tuple(v * factor if j == i else v for j, v in enumerate(point))
                    if (value := value_at(other)) >= best:
                        break
                    point, best = other, value
                if best < start:
                    break
        if best == before:
            power /= 2
    name, text = method_name(method.sampler, method.prior), min(values, key=values.__getitem__, default="")
    return Tuned(name, steps, text, sign * best, sign * first, len(values))


def _first(method: Method, steps: int, schedule: Schedule) -> Point:
    """Return the grid that the sampler would have by default, of the family `rho`."""
    if method.prior is None or method.prior.curve is None:
        usual = grid_parameters("rho")
        return min(float(schedule.ratio(1.0)), LARGEST_START), usual["end"], usual["rho"]
    start = method.start or start_for(method.prior.curve, steps)
    return start, *few_step_shape(steps, start)


def _grid(point: Point, steps: int, schedule: Schedule) -> TimeGrid | None:
    """Return the grid of a point, None where there is none."""
    start, end, rho = (float(f"{value:.4g}") for value in point)
    if not 0 < end < start <= float(schedule.ratio(1.0)) * (1 + 1e-12) or not 0.1 < rho < 50:
        return None
    return TimeGrid.rho(steps, start, end, rho, schedule)
