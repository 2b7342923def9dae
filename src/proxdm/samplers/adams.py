"""Adams-Bashforth samplers of the probability flow: a polynomial through the noise predictions of earlier steps.

In hat coordinates the flow is `d x^ / d rho = eps`, `eps = (x - alpha D) / sigma`, rho the ratio sigma / alpha, so that
`x^_s = x^_t + int eps d rho`. The samplers differ in the variable that the polynomial is one of. Orders grow from 1 as
the history does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from proxdm.errors import check_choices
from proxdm.grids import TimeGrid
from proxdm.operators import Ask
from proxdm.samplers.base import Sampler, register
from proxdm.schedules import Schedule

EQUAL_STEPS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Weights of Adams-Bashforth for equal steps, the latest value first, by order from 1 on."""

Variable = Literal["t", "log_rho"]
"""What a polynomial is one of: the time, or the logarithm of the ratio."""


@dataclass(frozen=True)
class _Adams(Sampler):
    """What both share: the history of noise predictions, the latest first, each with its time."""

    operator = "denoiser"

    order: int = 3

    def __post_init__(self) -> None:
        """Reject an order that there is not."""
        if not 1 <= self.order <= 4:
            raise ValueError(f"order = {self.order} must lie between 1 and 4")

    def init(self, ask: Ask, x: Tensor, grid: TimeGrid) -> tuple[tuple[Tensor, float], ...]:
        """Return the empty history."""
        return ()

    def step(self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: Any) -> tuple[Tensor, Any]:
        """Return the samples at s, and the history with this step's noise."""
        alpha_t, alpha_s = (float(ask.schedule.alpha(time)) for time in (t, s))
        denoised = ask.denoise(x, t)
        eps = (x - alpha_t * denoised) / float(ask.schedule.sigma(t))
        history = ((eps, t), *carry[: self.order - 1])
        weights = self.weights(ask.schedule, s, tuple(time for _, time in history))
        moved = sum(weight * value for weight, (value, _) in zip(weights, history, strict=True))
        if alpha_t == 0:  # rectified flow at t = 1, where x^ is infinite: the first step is one of DDIM
            return alpha_s * denoised + float(ask.schedule.sigma(s)) * eps, history
        return alpha_s * (x / alpha_t + moved), history

    def weights(self, schedule: Schedule, s: float, times: tuple[float, ...]) -> Sequence[float]:
        """Return the integrals over rho, from `times[0]` to s, of the weights of the values at `times`."""
        raise NotImplementedError


@register
@dataclass(frozen=True)
class Ipndm(_Adams):
    """iPNDM (Zhang and Chen 2023, arXiv 2204.13902, after Liu et al. 2022): weights of equal steps on any grid."""

    name = "ipndm"
    formula = "x̂' = x̂ + (ρ' - ρ)(55 ε - 59 ε₋₁ + 37 ε₋₂ - 9 ε₋₃)/24"

    order: int = 4  # 1 to 4

    def weights(self, schedule: Schedule, s: float, times: tuple[float, ...]) -> Sequence[float]:
        """Return `(rho_s - rho_t)` times the weights of equal steps."""
        length = float(schedule.ratio(s) - schedule.ratio(times[0]))
        return [length * weight for weight in EQUAL_STEPS[len(times) - 1]]


@register
@dataclass(frozen=True)
class Deis(_Adams):
    """DEIS-tAB (Zhang and Chen 2023, arXiv 2204.13902): a polynomial in t, integrated exactly.

    The order, 1 to 4, is the number of values of the polynomial; some papers count it from 0, where 3 is tAB3 here.
    """

    name = "deis"
    formula = "x̂' = x̂ + ∫ P(t(ρ)) dρ, P the polynomial through ε, ε₋₁, ε₋₂"

    variable: Variable = "t"  # Or `log_rho` as in diffusers, whose last step to 0 is of first order

    def __post_init__(self) -> None:
        """Reject an order or a variable that there is not."""
        super().__post_init__()
        check_choices(self)

    def weights(self, schedule: Schedule, s: float, times: tuple[float, ...]) -> Sequence[float]:
        """Return the integrals of Lagrange's polynomials, by Gauss-Legendre quadrature."""
        return _lagrange(schedule, self.variable, s, times)


@lru_cache(maxsize=1024)  # every batch goes through the same steps
def _lagrange(schedule: Schedule, variable: Variable, s: float, times: tuple[float, ...]) -> tuple[float, ...]:
    start, end = float(schedule.ratio(times[0])), float(schedule.ratio(s))
    if variable == "log_rho" and end == 0:
        return (-start, *[0.0] * (len(times) - 1))
    if math.isinf(start):
        return (0.0,) * len(times)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    rho = start + (nodes + 1) / 2 * (end - start)
    if variable == "t":
        at, knots = schedule.time_of_ratio(torch.from_numpy(rho)).numpy(), np.array(times)
    else:
        at, knots = np.log(rho), schedule.ratio(torch.tensor(times, dtype=torch.float64)).log().numpy()
    total = []
    for j, knot in enumerate(knots):
        others = np.delete(knots, j)
        values = np.prod((at[:, None] - others) / (knot - others), axis=1)
        total.append(float(weights @ values) * (end - start) / 2)
    return tuple(total)
