"""Sweeps: method x number of steps x seed. The one engine under `toy`, `rates` and `evaluate`.

A :class:`Method` is a sampler with the times it goes through, a :class:`Cell` one of its runs, what is measured there a
:class:`Row`. Rows of the same cell but for the seed are summed up by means and deviations, :class:`Summary`; everything
that was found on one target is :class:`Results`, with the power laws (:class:`Fit`) that values follow as N grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, Self, TypeVar

import numpy as np
from tqdm.auto import tqdm

from proxdm.errors import NonFiniteError, StepError
from proxdm.grids import TimeGrid
from proxdm.operators import evaluations_each
from proxdm.priors.base import Prior
from proxdm.samplers import Sampler, find_sampler
from proxdm.samplers.base import choose_grid
from proxdm.schedules import Schedule, ScheduleError


@dataclass(frozen=True)
class Method:
    """A sampler and its times."""

    sampler: Sampler  # The sampler
    # Family of grids, such as `power(rho=3)`, or pairs of N and one; None is the sampler's own
    grid: str | tuple[tuple[int, str], ...] | None = None
    label: str = ""  # Name in results and figures; empty is the sampler's
    prior: Prior | None = None  # Brings the samples to the first time for nothing (:mod:`proxdm.priors`)
    start: float | None = None  # Ratio sigma / alpha to start from, with a prior; None is that of its gain curve
    cut: bool = False  # Start at the highest knot below, with fewer steps, instead of taking as many from there
    classes: tuple[str, ...] = ()  # Of a model of classes, those that the samples have in turn; none are all in turn
    guidance: float = 1.0  # w of classifier-free guidance (:func:`proxdm.operators.of_classes`)

    @classmethod
    def of(cls, text: str, grid: str | None = None) -> Method:
        """Return the method of a sampler's text, e.g. `ddim(eta=0.5)`."""
        return cls(find_sampler(text), grid)

    @property
    def name(self) -> str:
        """Its name in results."""
        return self.label or repr(self.sampler)

    def evaluations(self, grid: TimeGrid) -> int:
        """Return the evaluations of the network that the grid takes, for estimates."""
        return evaluations_each(self.guidance) * self.sampler.evaluations(grid)

    def times(self, schedule: Schedule, steps: int) -> TimeGrid:
        """Return its times for N = `steps`."""
        known = dict(self.grid) if isinstance(self.grid, tuple) else {steps: self.grid}
        if steps not in known:
            raise ValueError(f"no grid is tuned for {self.name} at N = {steps}, only for {', '.join(map(str, known))}")
        grid: TimeGrid | str | None = known[steps]
        if self.cut and self.start is not None:
            grid = choose_grid(self.sampler, schedule, steps, grid)
        return choose_grid(self.sampler, schedule, steps, grid, self.prior, self.start)


@dataclass(frozen=True)
class Cell:
    """One run."""

    method: Method  # How
    grid: TimeGrid  # The times
    seed: int  # Of all random numbers

    @property
    def steps(self) -> int:
        """N."""
        return self.grid.steps

    def __str__(self) -> str:
        """Return it in words, for progress and messages."""
        return f"{self.method.name} N={self.steps} seed {self.seed}"


@dataclass(frozen=True)
class Skipped:
    """A number of steps for which a method is not defined."""

    sampler: str  # Name of the method
    steps: int  # N
    reason: str  # What is wrong, in one line


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured in one run."""

    sampler: str  # Name of the method
    grid: str | None  # Times it went through, by name and parameters; None where there are none (exact draws)
    steps: int  # N
    nfe: int  # Network evaluations of each sample, measured
    seed: int  # Of all random numbers
    metrics: Mapping[str, float]  # Values by name
    seconds: float  # Time of the run

    @property
    def told(self) -> str:
        """What the model was told besides, in words: rows of other words are no seeds of one cell."""
        return ""


Measured = TypeVar("Measured", bound=Row)

FITTED = 3
"""Points of a fit: those with the largest N."""

STRAIGHT = 0.1
"""A slope is an order only if the slopes between neighbouring points differ from it by at most this."""


@dataclass(frozen=True)
class Spread:
    """One number per seed."""

    values: tuple[float, ...]  # The numbers, in the order of the seeds

    @classmethod
    def of(cls, rows: Iterable[Row], metric: str) -> Spread:
        """Return the values of a metric."""
        return cls(tuple(row.metrics[metric] for row in rows))

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """The sample standard deviation over the seeds; None with one seed."""
        return stdev(self.values) if len(self.values) > 1 else None

    def text(self, mean: str = ".3f", std: str = ".3f") -> str:
        """Return the mean, with `± deviation` where there are several seeds, in the given formats."""
        return f"{self.mean:{mean}}" if self.std is None else f"{self.mean:{mean}} ± {self.std:{std}}"

    def __str__(self) -> str:
        """Return mean and deviation to the second figure of the latter; of one seed, or no deviation, four figures."""
        if not self.std:
            return self.text(".4g", ".0f")
        decimals = f".{min(max(1 - math.floor(math.log10(self.std)), 0), 12)}f"
        return self.text(decimals, decimals)


@dataclass(frozen=True)
class Summary:
    """Rows that differ in their seeds only, as one."""

    metrics: Mapping[str, Spread]  # Values of every seed, by name
    nfe: int  # Network evaluations of each sample, measured; 0 for exact draws
    seconds: float  # Mean time of a run
    grid: str | None  # Times gone through, by name and parameters; None where there are none

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Summary:
        """Sum up at least one row."""
        spreads = {name: Spread.of(rows, name) for name in rows[0].metrics}
        return cls(spreads, rows[0].nfe, fmean(row.seconds for row in rows), rows[0].grid)

    @property
    def w2(self) -> Spread:
        """The metric `w2`."""
        return self.metrics["w2"]

    def record(self) -> dict[str, Any]:
        """Return the JSON form: of every metric the mean under its name, `_std` and `_seeds`, all values."""
        values: dict[str, Any] = {}
        for name, spread in self.metrics.items():
            values |= {name: spread.mean, f"{name}_std": spread.std, f"{name}_seeds": list(spread.values)}
        return {**values, "nfe": self.nfe, "seconds": self.seconds, "grid": self.grid}


def by_cell(rows: Iterable[Measured]) -> dict[tuple[str, int], list[Measured]]:
    """Return rows that differ in their seeds only, by sampler and N, in the order in which they come."""
    groups: dict[tuple[str, int], list[Measured]] = {}
    for row in rows:
        groups.setdefault((f"{row.sampler} {row.told}".strip(), row.steps), []).append(row)
    return groups


@dataclass(frozen=True)
class Fit:
    """A power law `value = c N^slope`, fitted by least squares in logarithms."""

    slope: float  # The exponent
    steps: tuple[int, ...]  # The N it was fitted to
    local_slopes: tuple[float, ...]  # Slopes between neighbouring points of the fit
    straight: bool  # Whether the slope is one: those differ from it by at most :data:`STRAIGHT`


def fit_slope(values: Mapping[int, float], rounding: float = 0.0) -> Fit | None:
    """Return the power law through the :data:`FITTED` points of largest N, or through fewer if there are fewer.

    Values up to `rounding` are rounding errors, and no points; of less than two points there is no law.
    """
    points = [(n, value) for n, value in sorted(values.items()) if math.isfinite(value) and value > rounding][-FITTED:]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points, dtype=np.float64)).T
    slope, local = float(np.polyfit(x, y, 1)[0]), tuple((np.diff(y) / np.diff(x)).tolist())
    straight = all(abs(one - slope) <= STRAIGHT for one in local)
    return Fit(slope, tuple(n for n, _ in points), local, straight)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a sweep has found on one target: what is written to files, and shown in tables and figures."""

    target: str  # Name of the target
    formula: str = ""  # The target in words
    names: tuple[str, ...]  # The methods that were asked for
    steps: tuple[int, ...]  # The numbers of steps that were asked for, increasing
    seeds: tuple[int, ...] = (0,)  # The seeds
    samples: int = 0  # Particles of a run; 0 where the law of the output is known
    rows: tuple[Row, ...]  # What was measured
    undefined: tuple[Skipped, ...] = ()  # What was not, as the method is not defined there
    # What as many exact draws give, a row a seed; none where the law of the output is known
    draws: tuple[Row, ...] = ()

    @classmethod
    def of(
        cls,
        target: str,
        methods: Sequence[Method],
        steps: Iterable[int],
        schedule: Schedule,
        measure: Callable[[Cell], tuple[Mapping[str, float], int, float]],
        *,
        seeds: Sequence[int] = (0,),
        progress: bool = False,
        **more: Any,
    ) -> Self:
        """Measure every cell: metrics, network evaluations and seconds; `more` are the other fields."""
        numbers, names = sorted(set(steps)), tuple(method.name for method in methods)
        cells, undefined = make_cells(methods, numbers, seeds, schedule)

        def row(cell: Cell) -> Row:
            metrics, nfe, seconds = measure(cell)
            where: Any = {"sampler": cell.method.name, "grid": cell.grid.name, "steps": cell.steps, "seed": cell.seed}
            return Row(**where, metrics=metrics, nfe=nfe, seconds=seconds)

        rows = tuple(sweep(cells, row, skipped=undefined, title=target, progress=progress))
        asked: Any = {"target": target, "names": names, "steps": tuple(numbers), "seeds": tuple(seeds)}
        return cls(**asked, rows=rows, undefined=tuple(undefined), **more)

    @cached_property
    def methods(self) -> dict[str, dict[int, Summary]]:
        """What the rows sum up to, by method and N; every method that was asked for is there."""
        found: dict[str, dict[int, Summary]] = {name: {} for name in self.names}
        for (name, steps), group in by_cell(self.rows).items():
            found[name][steps] = Summary.of(group)
        return found

    @cached_property
    def skipped(self) -> dict[str, dict[int, str]]:
        """Why methods are not defined, by method and N."""
        found: dict[str, dict[int, str]] = {}
        for one in self.undefined:
            found.setdefault(one.sampler, {})[one.steps] = one.reason
        return found

    @cached_property
    def floor(self) -> Summary:
        """What exact draws give: no method is expected below it."""
        return Summary.of(self.draws)

    def values(self, method: str, metric: str) -> dict[int, float]:
        """Return the means of a metric by N."""
        return {n: cell.metrics[metric].mean for n, cell in self.methods[method].items()}

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "methods": {name: {n: cell.record() for n, cell in of.items()} for name, of in self.methods.items()},
            "samples": self.samples,
            "seeds": list(self.seeds),
            "skipped": self.skipped,
            "floor": self.floor.record(),
        }


def make_cells(
    methods: Sequence[Method], steps: Sequence[int], seeds: Sequence[int], schedule: Schedule
) -> tuple[list[Cell], list[Skipped]]:
    """Return the runs by method, then steps, then seed, and those that are not defined."""
    cells, skipped = [], []
    for method in dict.fromkeys(methods):
        for n in dict.fromkeys(steps):
            grid = method.times(schedule, n)
            try:
                method.sampler.check(schedule, grid)
            except (StepError, ScheduleError) as error:
                skipped.append(Skipped(method.name, n, str(error)))
                continue
            cells += [Cell(method, grid, seed) for seed in seeds]
    return cells, skipped


def sweep(
    cells: Sequence[Cell],
    measure: Callable[[Cell], Measured | None],
    *,
    known: Callable[[Cell], Measured | None] = lambda cell: None,
    skipped: list[Skipped] | None = None,
    title: str = "",
    progress: bool = False,
) -> list[Measured]:
    """Measure every cell that is not known already, and return the rows in the order of the cells."""
    found = {cell: row for cell in cells if (row := known(cell)) is not None}
    bar = tqdm([cell for cell in cells if cell not in found], unit="run", leave=False, disable=not progress or None)
    for cell in bar:
        bar.set_description(f"{title} {cell}")
        try:
            row = measure(cell)
        except (StepError, NonFiniteError) as error:
            if skipped is None:
                raise
            skipped.append(Skipped(cell.method.name, cell.steps, str(error)))
            continue
        if row is not None:
            found[cell] = row
    return [found[cell] for cell in cells if cell in found]
