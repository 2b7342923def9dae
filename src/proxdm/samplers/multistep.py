r"""Samplers of the probability flow that ask for the denoiser D, on every schedule.

From t to s < t, with the ratio `rho = sigma / alpha` (:mod:`proxdm.schedules`), `h = log(rho_t / rho_s)`, the flow is
linear but for D, and its exact solution (Lu et al. 2022, arXiv 2211.01095) is

$$x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s \int_0^h e^{u - h}\, D\,du .$$

The samplers differ in how they replace D inside the integral: by its value at t (DDIM), or by a polynomial in u through
values at earlier steps. At s = 0, where h is infinite, all of them return D, but for those that are told to follow its
line on to a small ratio (:class:`DpmPlusPlus2M`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from proxdm.errors import StepError, check_choices
from proxdm.grids import TimeGrid
from proxdm.operators import Ask
from proxdm.priors.base import bootstrap
from proxdm.samplers.base import Sampler, register
from proxdm.schedules import Schedule

History = tuple[tuple[Tensor, float], ...]
"""Denoised samples of earlier steps, the latest first, each with the length h of its step."""


def log_ratio_step(schedule: Schedule, t: float, s: float) -> float:
    """Return `h = log(ratio(t) / ratio(s))`, the length of a step from t to s in half log-SNR; infinite at s = 0."""
    late, early = schedule.ratio(t), schedule.ratio(s)
    if isinstance(late, float) and isinstance(early, float):  # of a graph, whose times are constants
        return math.log(late / early) if early else math.inf
    return float(torch.log(late / early))


def exponential_step(schedule: Schedule, x: Tensor, denoised: Tensor, t: float, s: float) -> Tensor:
    """Return `sigma_s / sigma_t x + alpha_s (1 - e^{-h}) denoised`, exact where D is constant over the step."""
    shrink, weight = _weights(schedule, t, s)
    return shrink * x + weight * denoised


@lru_cache(maxsize=1024)  # every batch goes through the same steps
def _weights(schedule: Schedule, t: float, s: float) -> tuple[float, float]:
    decay = float(schedule.ratio(s) / schedule.ratio(t))
    return float(schedule.sigma(s) / schedule.sigma(t)), float(schedule.alpha(s)) * (1 - decay)


@register
@dataclass(frozen=True)
class Ddim(Sampler):
    """DDIM (Song et al. 2021, arXiv 2010.02502): `x' = alpha_s D + sqrt(sigma_s^2 - c^2) eps + c z`.

    `eps = (x - alpha_t D) / sigma_t`, `c = eta sigma_s sqrt(1 - (rho_s / rho_t)^2)`.
    """

    name, operator, stochastic = "ddim", "denoiser", True
    formula = "x' = α' D + √(σ'² - c²) (x - α D)/σ + c z"

    eta: float = 0.0  # 0 is deterministic, 1 the ancestral sampler of DDPM; in [0, 1]

    def __post_init__(self) -> None:
        """Reject a share of noise that is none."""
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta = {self.eta} must lie in [0, 1]: 0 is deterministic, 1 as noisy as DDPM")

    def step(
        self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: None
    ) -> tuple[Tensor, None]:
        """Return the samples at s."""
        schedule, denoised = ask.schedule, ask.denoise(x, t)
        sigma = float(schedule.sigma(s))
        noise = self.eta * sigma * math.sqrt(max(0.0, 1 - float(schedule.ratio(s) / schedule.ratio(t)) ** 2))
        if noise == 0:
            return exponential_step(schedule, x, denoised, t, s), None
        keep = math.sqrt(max(0.0, sigma**2 - noise**2)) / float(schedule.sigma(t))
        drift = float(schedule.alpha(s)) - keep * float(schedule.alpha(t))
        return keep * x + drift * denoised + noise * z(), None


@register
@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method in the ratio (Karras et al. 2022, Alg. 1 without noise): two evaluations a step, one at the last.

    With `d(x, rho) = (x / alpha - D) / rho` in hat coordinates: `x^' = x^ + (rho_s - rho_t) (d_t + d_s) / 2`, d_s taken
    at the Euler step.
    """

    name, operator = "heun", "denoiser"
    formula = "x̂' = x̂ + (ρ' - ρ)(d + d')/2, d = (x̂ - D)/ρ"

    def check(self, schedule: Schedule, grid: TimeGrid) -> None:
        """Raise a StepError if the first ratio is infinite."""
        if math.isinf(float(schedule.ratio(grid.times[0]))):
            raise StepError(
                f"heun steps in sigma/alpha, which is infinite at t = {grid.times[0]:g}; start below, as grid rho"
            )

    def evaluations(self, grid: TimeGrid) -> int:
        """Return 2 N, less one where the grid ends in 0."""
        return 2 * grid.steps - int(grid.times[-1] == 0)

    def step(
        self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: None
    ) -> tuple[Tensor, None]:
        """Return the samples at s."""
        schedule, denoised = ask.schedule, ask.denoise(x, t)
        euler = exponential_step(schedule, x, denoised, t, s)
        if s == 0:
            return euler, None
        alpha_t, alpha_s = (float(schedule.alpha(time)) for time in (t, s))
        rho_t, rho_s = (float(schedule.ratio(time)) for time in (t, s))
        there = (x / alpha_t - denoised) / rho_t
        here = (euler / alpha_s - ask.denoise(euler, s)) / rho_s
        return alpha_s * (x / alpha_t + (rho_s - rho_t) / 2 * (there + here)), None


@dataclass(frozen=True)
class _Multistep(Sampler):
    """DPM-Solver++ of a fixed order; the first steps, for which there is no history, are of lower order."""

    operator = "denoiser"

    def init(self, ask: Ask, x: Tensor, grid: TimeGrid) -> History:
        """Return the empty history."""
        return ()

    def step(
        self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: Any
    ) -> tuple[Tensor, History]:
        """Return the samples at s, and the history with this step's denoised samples."""
        denoised = ask.denoise(x, t)
        h = log_ratio_step(ask.schedule, t, s)
        if math.isinf(h) and s == 0:
            return self.last(denoised, float(ask.schedule.ratio(t)), carry), ()
        out = exponential_step(ask.schedule, x, denoised, t, s)
        out = out + float(ask.schedule.alpha(s)) * self.correction(denoised, h, carry)
        return out, ((denoised, h), *carry[:1])

    def last(self, denoised: Tensor, ratio: float, history: History) -> Tensor:
        """Return the samples at s = 0 by the last evaluation, at a ratio."""
        return denoised

    def correction(self, denoised: Tensor, h: float, history: History) -> Tensor:
        """Return what the history adds to the first-order integral, over alpha_s."""
        raise NotImplementedError


def midpoint(h: float) -> float:
    """Return `(1 - e^{-h}) / 2`: D in the middle of the step stands for all of it (arXiv 2211.01095, Alg. 2)."""
    return -math.expm1(-h) / 2


def line(h: float) -> float:
    """Return `int_0^h e^{u - h} u du / h = 1 - (1 - e^{-h}) / h`: exact where D is a line in u."""
    return 1 + math.expm1(-h) / h


WEIGHTS = {"midpoint": midpoint, "line": line}
"""Weight of the slope of D in a step of second order, `h / 2 + O(h^2)` both; `line` is `heun` in diffusers."""


@register
@dataclass(frozen=True)
class DpmPlusPlus2M(_Multistep):
    r"""DPM-Solver++(2M) (arXiv 2211.01095, Alg. 2).

    The last step, to s = 0, returns D. With a `floor` it goes on along the line of D down to that ratio, and leaves
    out the noise that is there:

    $$x_0 = D + w(h) (D - D_{-1}) / r,\qquad h = \log(\rho_t / \mathrm{floor}).$$
    """

    name = "dpm++2m"
    formula = "x' = σ'/σ x + α' ((1 - e⁻ʰ) D + w(h) (D - D₋₁)/r)"

    weight: Literal["midpoint", "line"] = "midpoint"  # w, an entry of :data:`WEIGHTS`
    floor: float = 0.0  # Ratio that the last step follows the line of D to; 0 for D itself

    def __post_init__(self) -> None:
        """Reject a weight that there is not, and a ratio that is none."""
        check_choices(self)
        if not 0 <= self.floor < math.inf:
            raise ValueError(f"floor = {self.floor} is a ratio sigma / alpha, at least 0; 0 returns D")

    def last(self, denoised: Tensor, ratio: float, history: History) -> Tensor:
        """Return D, moved along its line from the ratio to the floor where that is lower."""
        if not 0 < self.floor < ratio < math.inf:
            return denoised
        return denoised + self.correction(denoised, math.log(ratio / self.floor), history)

    def correction(self, denoised: Tensor, h: float, history: History) -> Tensor:
        """Return `w(h) (D - D_{-1}) / r`, `r = h_{-1} / h`: the slope of D over the step; 0 without a history."""
        if not history:
            return denoised.new_zeros(())
        before, length = history[0]
        return WEIGHTS[self.weight](h) * (h / length) * (denoised - before)


_SECOND = DpmPlusPlus2M()


@register
@dataclass(frozen=True)
class Multistep(DpmPlusPlus2M):
    r"""DPM-Solver++(2M) whose history begins before the first step, with a prior; the default of score models.

    The first step, where it is longest, is of second order too: the prior says for nothing what the denoiser would
    have said one step earlier, `D_{-1} = D_P(Phi(x; s_0 -> s_v), s_v)`, `s_v = s_0^2 / s_1` (:mod:`proxdm.priors`),
    s_1 the floor where N = 1. So a single evaluation is of second order too. Without a prior it is `dpm++2m`.
    """

    name, takes_prior = "multistep", True
    formula = "x' = σ'/σ x + α' ((1 - e⁻ʰ) D + w(h) (D - D₋₁)/r), D₋₁ of the first step by a prior"

    weight: Literal["midpoint", "line"] = "line"
    floor: float = 0.1

    def init(self, ask: Ask, x: Tensor, grid: TimeGrid) -> History:
        """Return the history that the prior gives, if there is one and a step to take with it."""
        start, after = grid.pairs()[0]
        first = float(ask.schedule.ratio(start))
        second = float(ask.schedule.ratio(after)) or self.floor
        if ask.prior is None or not 0 < second < first < math.inf:
            return ()
        hat = x / float(ask.schedule.alpha(start))
        return ((bootstrap(ask.prior, hat, first, first**2 / second), math.log(first / second)),)

    def step(
        self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: Any
    ) -> tuple[Tensor, History]:
        """Return the samples at s, and the history with this step's denoised samples."""
        step = super().step if ask.prior is not None else _SECOND.step
        return step(ask, x, t, s, z, carry)


@register
@dataclass(frozen=True)
class DpmPlusPlus3M(_Multistep):
    """DPM-Solver++(3M) (arXiv 2211.01095, appendix): D is a parabola through three values."""

    name = "dpm++3m"
    formula = "x' = σ'/σ x + α' ∫ eᵘ⁻ʰ (D + D' u + D'' u²/2) du"

    # Take half of the quadratic term, as the published code and diffusers do, which lowers the order from 3 to 2 (a
    # divided difference in the place of a second derivative).
    published: bool = False

    def correction(self, denoised: Tensor, h: float, history: History) -> Tensor:
        """Return `phi_1 D' + phi_2 D''`, with the derivatives of the parabola in units of h."""
        if len(history) < 2:
            return _SECOND.correction(denoised, h, history)
        (first, h_1), (second, h_2) = history
        r_1, r_2 = h_1 / h, h_2 / h
        near, far = (denoised - first) / r_1, (first - second) / r_2
        curve = (near - far) / (r_1 + r_2)
        slope = near + r_1 * curve
        phi_1 = 1 + math.expm1(-h) / h
        phi_2 = -(math.expm1(-h) + h) / h**2 + 0.5
        return phi_1 * slope + (1 if self.published else 2) * phi_2 * curve


@register
@dataclass(frozen=True)
class UniPC(Sampler):
    r"""UniPC-p (Zhao et al. 2023, arXiv 2302.04867): a predictor whose every step the next evaluation corrects.

    With B_2(h), of the denoiser, and the ratios `r_k = (l_k - l_t) / h`, `l = log(1 / rho)`, of earlier steps (and 1 of
    the one that is being taken),

    $$x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h})\Big(D_t + \sum_k a_k \frac{D_k - D_t}{r_k}\Big),$$

    `sum_k a_k r_k^{n-1} = b_n`, the moments of the exact solution. The predictor leaves the value at s out; the
    corrector, for which it has been computed anyway, has it. The last steps, as in its code, are of lower order.
    """

    name, operator = "unipc", "denoiser"
    formula = "x' = σ'/σ x + α' (1 - e⁻ʰ)(D + Σ aₖ (Dₖ - D)/rₖ), corrected by the next D"

    order: int = 2  # p, 1 to 3

    def __post_init__(self) -> None:
        """Reject an order that there is not."""
        if not 1 <= self.order <= 3:
            raise ValueError(f"order = {self.order} must lie between 1 and 3")

    def init(self, ask: Ask, x: Tensor, grid: TimeGrid) -> Any:
        """Return what is carried: the steps left, the last step `(x, t)`, and denoised samples, the latest first."""
        return grid.steps, None, ()

    def step(self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: Any) -> tuple[Tensor, Any]:
        """Return the samples at s."""
        left, last, history = carry
        denoised = ask.denoise(x, t)
        if last is not None:
            before, origin, order = last
            x = self._solve(ask, before, origin, t, history[:order], denoised)
        history = ((denoised, t), *history[: self.order])
        order = min(self.order, len(history), left)
        out = self._solve(ask, x, t, s, history[:order], None)
        return out, (left - 1, (x, t, order), history)

    def _solve(self, ask: Ask, x: Tensor, t: float, s: float, history: Any, end: Tensor | None) -> Tensor:
        """Return the step from t to s by the values of the history, and that at s if there is one."""
        now, h = history[0][0], log_ratio_step(ask.schedule, t, s)
        out = exponential_step(ask.schedule, x, now, t, s)
        ratios = [log_ratio_step(ask.schedule, t, time) / h for _, time in history[1:]]
        slopes = [(value - now) / ratio for (value, _), ratio in zip(history[1:], ratios, strict=True)]
        if end is not None:
            ratios, slopes = [*ratios, 1.0], [*slopes, end - now]
        if not slopes:
            return out
        weights = _moments(h, ratios)
        scale = -float(ask.schedule.alpha(s)) * math.expm1(-h)
        for weight, slope in zip(weights, slopes, strict=True):
            out = out + scale * weight * slope
        return out


def _moments(h: float, ratios: list[float]) -> list[float]:
    """Return the a_k; of a single value 1/2, as its code has it (the order is the same)."""
    if len(ratios) == 1:
        return [0.5]
    bound, phi, factorial, b = math.expm1(-h), math.expm1(-h) / -h - 1, 1, []
    for n in range(1, len(ratios) + 1):
        factorial *= n
        b.append(phi * factorial / bound)
        phi = phi / -h - 1 / (factorial * (n + 1))
    powers = np.vander(ratios, increasing=True).T
    return [float(a) for a in np.linalg.solve(powers, b)]
