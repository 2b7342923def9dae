r"""UniPC (Zhao et al. 2023, arXiv 2302.04867): a predictor whose every step the next evaluation corrects.

With `l = log(alpha / sigma)`, `h = l_s - l_t` and the ratios `r_k = (l_k - l_t) / h` of earlier steps (and 1 of the one
that is being taken),

$$x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h})\Big(D_t + \sum_k a_k \frac{D_k - D_t}{r_k}\Big),$$

with `sum_k a_k r_k^{n-1} = b_n`, the moments of the exact solution. The predictor leaves the value at s out; the
corrector, for which it has been computed anyway, has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from proxdm.grids import TimeGrid
from proxdm.operators import Ask
from proxdm.samplers.base import Sampler, register
from proxdm.samplers.multistep import exponential_step
from proxdm.schedules import log_ratio_step


@register
@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC-p with B_2(h), of the denoiser; the last steps, as in its code, are of lower order.

    Attributes:
        order: p, 1 to 3.
    """

    name, operator = "unipc", "denoiser"
    formula = "x' = σ'/σ x + α' (1 - e⁻ʰ)(D + Σ aₖ (Dₖ - D)/rₖ), corrected by the next D"

    order: int = 2

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
        now, h = history[0][0], float(log_ratio_step(ask.schedule, t, s))
        out = exponential_step(ask.schedule, x, now, t, s)
        ratios = [float(log_ratio_step(ask.schedule, t, time)) / h for _, time in history[1:]]
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
