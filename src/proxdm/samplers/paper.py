r"""The samplers of the paper (arXiv 2507.08956, Secs. 2 and 3), for variance-preserving schedules.

From t to s < t, with the step size gamma a quadrature of beta over the interval, `left` (`beta(t) (t - s)`) or
`integral` (`B(s, t)`), a score step and a prox step read

$$x' = \mathrm{drift}\,x + \mathrm{score}\;\nabla\log p_t(x) + \mathrm{noise}\,z,
\qquad
x' = \mathrm{prox}_{-\mathrm{lam}\,\log p_s}(\mathrm{scale}\,x + \mathrm{noise}\,z).$$

The score is taken at the time the step leaves, the proximal operator at the time it lands on. A new discretisation is a
class with one method, from times to coefficients, which training reads too. The paper's code takes the left point for
score samplers and the integral for prox samplers; both accept both, to tell a gain from a better quadrature.
Coefficients are float64 numbers, applied in the dtype of x.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from proxdm.errors import StepError, check_choices
from proxdm.grids import TimeGrid
from proxdm.operators import Ask
from proxdm.samplers.base import Sampler, register
from proxdm.schedules import SCHEDULES, Schedule, ScheduleError, Time, VariancePreserving, as_float64

Quadrature = Literal["left", "integral"]
"""How gamma is computed: `left` is `beta(t) (t - s)`, `integral` is `B(s, t)`."""


@dataclass(frozen=True)
class ScoreStep:
    """Coefficients of `x' = drift x + score s(x, t) + noise z`: float64 tensors of the shape of t and s."""

    drift: Tensor
    score: Tensor
    noise: Tensor


@dataclass(frozen=True)
class ProxStep:
    """Coefficients of `x' = prox(scale x + noise z, s, lam)`: float64 tensors of the shape of t and s."""

    scale: Tensor
    noise: Tensor
    lam: Tensor


@dataclass(frozen=True)
class _FirstOrder(Sampler):
    """What score and prox steps share: gamma, noise at the last step, and where to go after a warm start."""

    family: ClassVar[str]  # Name of the paper's family of grids
    gamma_limit: ClassVar[float] = float("inf")  # The step is defined for gamma below this number only

    quadrature: Quadrature = "left"  # How gamma is computed
    last_noise: bool = False  # Whether the last step uses its noise

    def __post_init__(self) -> None:
        """Reject an unknown quadrature."""
        check_choices(self)

    def grid(self, schedule: Schedule, steps: int, start: float | None = None) -> TimeGrid:
        """Return the grid of the paper's code; after a warm start the power grid."""
        return TimeGrid.named(self.family if start is None else "power", steps, schedule, start)

    def gamma(self, schedule: Schedule, t: Time, s: Time) -> Tensor:
        """Return the step size of the interval from `t` down to `s`: `beta(t) (t - s)` or `B(s, t)`.

        Raises:
            ScheduleError: The schedule is not variance-preserving.
        """
        if not isinstance(schedule, VariancePreserving):
            names = ", ".join(name for name, kind in SCHEDULES.items() if issubclass(kind, VariancePreserving))
            raise ScheduleError(
                f"{self.name} is defined for variance-preserving schedules ({names}), and this is {schedule}; take "
                "ddim or another sampler of the probability flow"
            )
        if self.quadrature == "left":
            return schedule.beta(t) * (as_float64(t) - as_float64(s))
        return schedule.beta_integral(s, t)

    def check(self, schedule: Schedule, grid: TimeGrid) -> None:
        """Raise a StepError if a step of the grid is not defined, with the smallest N of such a grid that works.

        And a ScheduleError if the schedule is not variance-preserving.
        """
        if (message := self._problem(schedule, grid)) is None:
            return
        finer = (grid.with_steps(n) for n in range(grid.steps + 1, grid.steps + 1001))
        works = next((g for g in finer if g is not None and self._problem(schedule, g) is None), None)
        remedy = "use a finer grid" if works is None else f"use N = {works.steps} steps or more"
        raise StepError(f"{message}; {remedy}, or prox-hybrid, which is defined for every N")

    def _problem(self, schedule: Schedule, grid: TimeGrid) -> str | None:
        gamma = self.gamma(schedule, grid.times[:-1], grid.times[1:])
        bad = torch.nonzero(gamma >= self.gamma_limit)
        if not bad.numel():
            return None
        i = int(bad[0, 0])
        t, s = grid.pairs()[i]
        return (
            f"the {self.name} step {i + 1} of {grid.steps} from t = {t:g} to s = {s:g} has gamma = "
            f"{float(gamma[i]):.4g}, but it is defined for gamma < {self.gamma_limit:g} only"
        )

    def init(self, ask: Ask, x: Tensor, grid: TimeGrid) -> float:
        """Return the last time of the grid."""
        return float(grid.times[-1])

    def _noisy(self, noise: float, s: float, end: float) -> bool:
        return noise != 0 and (s > end or self.last_noise)


@dataclass(frozen=True)
class ScoreSampler(_FirstOrder):
    """`x' = drift x + score s(x, t) + noise z`; by default on the denoising grid, eps = 1e-3."""

    operator, family = "score", "denoising"

    @abstractmethod
    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ScoreStep:
        """Return the coefficients of the step(s) from `t` to `s`."""

    def step(
        self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: float
    ) -> tuple[Tensor, float]:
        """Return `drift x + score s(x, t) + noise z`."""
        drift, score, noise = _numbers(self, ask.schedule, t, s)
        given = z() if self._noisy(noise, s, carry) else None
        out = drift * x + score * ask.score(x, t)
        return (out if given is None else out + noise * given), carry


@dataclass(frozen=True)
class ProxSampler(_FirstOrder):
    """`x' = prox(scale x + noise z, s, lam)`; by default on the uniform grid from 1 to 0."""

    operator, family = "prox", "uniform"

    quadrature: Quadrature = "integral"
    last_noise: bool = True

    @abstractmethod
    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ProxStep:
        """Return the coefficients of the step(s) from `t` to `s`; :meth:`check` says where they are defined."""

    def lam(self, schedule: Schedule, t: Time, s: Time) -> Tensor:
        """Return the prox weight of the step(s), as :meth:`coefficients` has it."""
        return self.coefficients(schedule, t, s).lam

    def step(
        self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: float
    ) -> tuple[Tensor, float]:
        """Return `prox(scale x + noise z, s, lam)`."""
        scale, noise, lam = _numbers(self, ask.schedule, t, s)
        y = scale * x
        if self._noisy(noise, s, carry):
            y = y + noise * z()
        return ask.prox(y, s, lam), carry


@lru_cache(maxsize=1024)  # every batch goes through the same steps
def _numbers(sampler: ScoreSampler | ProxSampler, schedule: Schedule, t: float, s: float) -> tuple[float, ...]:
    return tuple(float(value) for value in vars(sampler.coefficients(schedule, t, s)).values())


@register
@dataclass(frozen=True)
class EulerMaruyama(ScoreSampler):
    """The reverse SDE, forward Euler: `x' = (1 + gamma/2) x + gamma s(x, t) + sqrt(gamma) z`."""

    name, stochastic = "euler-maruyama", True
    formula = "x' = (1 + γ/2) x + γ s(x, t) + √γ z"

    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ScoreStep:
        """Return `1 + gamma/2`, `gamma` and `sqrt(gamma)`."""
        gamma = self.gamma(schedule, t, s)
        return ScoreStep(drift=1 + gamma / 2, score=gamma, noise=gamma.sqrt())


@register
@dataclass(frozen=True)
class OdeEuler(ScoreSampler):
    """The probability flow, forward Euler (Song et al. 2021): `x' = x + gamma/2 (x + s(x, t))`."""

    name = "ode-euler"
    formula = "x' = x + γ/2 (x + s(x, t))"

    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ScoreStep:
        """Return `1 + gamma/2`, `gamma/2` and 0."""
        gamma = self.gamma(schedule, t, s)
        return ScoreStep(drift=1 + gamma / 2, score=gamma / 2, noise=torch.zeros_like(gamma))


@register
@dataclass(frozen=True)
class ProxHybrid(ProxSampler):
    """Drift forward, score backward: `x' = prox((1 + gamma/2) x + sqrt(gamma) z, s, lam=gamma)`."""

    name, stochastic = "prox-hybrid", True
    formula = "x' = prox((1 + γ/2) x + √γ z, s, λ = γ)"

    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ProxStep:
        """Return `1 + gamma/2`, `sqrt(gamma)` and `gamma`."""
        gamma = self.gamma(schedule, t, s)
        return ProxStep(scale=1 + gamma / 2, noise=gamma.sqrt(), lam=gamma)


@register
@dataclass(frozen=True)
class ProxBackward(ProxSampler):
    """Backward Euler: `x' = prox((x + sqrt(gamma) z) / (1 - gamma/2), s, lam=gamma / (1 - gamma/2))`, gamma < 2.

    Drift and score are both taken at the time the step lands on.
    """

    name, stochastic, gamma_limit = "prox-backward", True, 2.0
    formula = "x' = prox((x + √γ z) / (1 - γ/2), s, λ = γ / (1 - γ/2))"

    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ProxStep:
        """Return `1`, `sqrt(gamma)` and `gamma`, all over `1 - gamma/2`."""
        gamma = self.gamma(schedule, t, s)
        shrink = 1 - gamma / 2
        return ProxStep(scale=1 / shrink, noise=gamma.sqrt() / shrink, lam=gamma / shrink)


@register
@dataclass(frozen=True)
class ProxOde(ProxSampler):
    """The probability flow, score backward: `x' = prox((1 + gamma/2) x, s, lam=gamma/2)`."""

    name = "prox-ode"
    formula = "x' = prox((1 + γ/2) x, s, λ = γ/2)"

    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ProxStep:
        """Return `1 + gamma/2`, 0 and `gamma/2`."""
        gamma = self.gamma(schedule, t, s)
        return ProxStep(scale=1 + gamma / 2, noise=torch.zeros_like(gamma), lam=gamma / 2)
