"""What the convergence rates return: distances per method and N, fitted slopes, and the JSON form of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from proxdm.experiments.setting import ParticleResult
from proxdm.sweep import Row

Quantity = Literal["kl", "kl_reverse", "w2"]
QUANTITIES: tuple[Quantity, ...] = ("kl", "kl_reverse", "w2")

Start = Literal["normal", "exact"]
STARTS: tuple[Start, ...] = ("normal", "exact")
"""Law of x_T: `normal` is N(0, I), what samplers do; `exact` is p_1, which leaves the discretisation error alone."""

FITTED = 3
"""Points of a fit: those with the largest N."""

STRAIGHT = 0.1
"""A slope is an order only if the slopes between neighbouring points differ from it by at most this."""

ROUNDING: Mapping[Quantity, float] = {"kl": 1e-24, "kl_reverse": 1e-24, "w2": 1e-12}
"""Values below are rounding errors of float64 (relative errors of about 1e-12): no slope is fitted to them."""


@dataclass(frozen=True, kw_only=True)
class RateRow(Row):
    """What one method reaches with one number of steps; `metrics` are those of the start that samplers take.

    Distances of the law q of the output from the target p are `kl` = KL(q || p) and `kl_reverse` = KL(p || q), in nats,
    infinite where a law has no density, and `w2`.

    Attributes:
        exact: Distances from p_1, or the exact law at the first time, without initialisation error.
        last_step: Distances of the last step alone, from the exact law at its time; None where it needs a history.
            Where the last step does not shrink as N grows (the denoising grid), no N brings the error below this for
            long.
    """

    exact: Mapping[str, float]
    last_step: Mapping[str, float] | None

    def record(self) -> dict[str, Any]:
        """Return the JSON form: the distances of `metrics`, then `exact_start` and `last_step`; None is not finite."""
        return {
            **_finite(self.metrics),
            "exact_start": _finite(self.exact),
            "last_step": None if self.last_step is None else _finite(self.last_step),
            "nfe": self.nfe,
            "grid": self.grid,
        }


@dataclass(frozen=True)
class Fit:
    """A power law `value = c N^slope`, fitted by least squares in logarithms."""

    slope: float  # The exponent
    steps: tuple[int, ...]  # The N it was fitted to
    local_slopes: tuple[float, ...]  # Slopes between neighbouring points of the fit

    @property
    def straight(self) -> bool:
        """Whether the slope is one: the points lie on a line, within :data:`STRAIGHT` of its slope."""
        return all(abs(slope - self.slope) <= STRAIGHT for slope in self.local_slopes)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"straight": self.straight}


def fit_slope(values: Mapping[int, float], rounding: float = 0.0) -> Fit | None:
    """Return the power law through the :data:`FITTED` points of largest N, or through fewer if there are fewer."""
    points = [(n, value) for n, value in sorted(values.items()) if math.isfinite(value) and value > rounding][-FITTED:]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points, dtype=np.float64)).T
    local = np.diff(y) / np.diff(x)
    return Fit(float(np.polyfit(x, y, 1)[0]), tuple(n for n, _ in points), tuple(local.tolist()))


@dataclass(frozen=True)
class GaussianRates:
    """The errors of every method on one Gaussian target.

    Attributes:
        target: Name of the target.
        formula: The target in words.
        mean: Its mean, in the eigen-directions of its covariance.
        std: Its standard deviations in those directions.
        methods: method -> N -> errors; every method asked for is there.
        skipped: method -> N -> why the method is not defined there.
        order_grid: The grid of `orders`, in words.
        orders: method -> N -> W2 on that grid, from the exact law at its first time to that at its last.
    """

    target: str
    formula: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    methods: dict[str, dict[int, RateRow]]
    skipped: dict[str, dict[int, str]]
    order_grid: str
    orders: dict[str, dict[int, float]]

    def values(self, method: str, quantity: Quantity = "kl", start: Start = "normal") -> dict[int, float]:
        """Return N -> value of one method."""
        rows = self.methods[method]
        return {n: (row.metrics if start == "normal" else row.exact)[quantity] for n, row in rows.items()}

    def fit(self, method: str, quantity: Quantity = "kl", start: Start = "normal") -> Fit | None:
        """Return the power law of one method (:func:`fit_slope`); None where its errors are rounding errors."""
        return fit_slope(self.values(method, quantity, start), ROUNDING[quantity])

    def order(self, method: str) -> Fit | None:
        """Return the power law of W2 in `orders`, whose exponent is minus the global order of the method."""
        return fit_slope(self.orders.get(method, {}), ROUNDING["w2"])

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "formula": self.formula,
            "mean": list(self.mean),
            "std": list(self.std),
            "methods": {
                name: {
                    "steps": {n: row.record() for n, row in rows.items()},
                    "fits": {
                        start: {quantity: _record(self.fit(name, quantity, start)) for quantity in QUANTITIES}
                        for start in STARTS
                    },
                    "order": {"w2": _finite(self.orders.get(name, {})), "fit": _record(self.order(name))},
                }
                for name, rows in self.methods.items()
            },
            "order_grid": self.order_grid,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, kw_only=True)
class MixtureRates(ParticleResult):
    """W2 of every method on one mixture to stratified draws from it; every method asked for is there."""

    target: str  # Name of the target
    formula: str  # The target in words

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        methods = {
            name: {"steps": {n: cell.record() for n, cell in cells.items()}} for name, cells in self.methods.items()
        }
        return {"formula": self.formula, "methods": methods, **super().record()}


@dataclass(frozen=True)
class RatesResult:
    """Everything that was measured."""

    grid: str | None  # The grid of all methods, or None: each method on its own
    gaussians: tuple[GaussianRates, ...]  # Errors on Gaussian targets, in closed form
    mixtures: tuple[MixtureRates, ...]  # Distances on mixtures, by Monte Carlo
    seconds: float  # Duration of all of it
    versions: dict[str, str]  # Versions of the software that the numbers depend on

    def record(self) -> dict[str, Any]:
        """Return everything in the form of `results.json`."""
        return {
            "grid": self.grid,
            "quadrature": None,  # of all methods, in older files; now in the names of the samplers
            "gaussians": {rates.target: rates.record() for rates in self.gaussians},
            "mixtures": {rates.target: rates.record() for rates in self.mixtures},
            "seconds": self.seconds,
            "versions": self.versions,
        }


def _record(fit: Fit | None) -> dict[str, Any] | None:
    return None if fit is None else fit.record()


def _finite(values: Mapping[Any, float]) -> dict[Any, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
