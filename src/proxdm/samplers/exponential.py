r"""Proximal steps that are exact for isotropic Gaussians at any number of steps (beyond the paper).

With `gamma = B(s, t)`, `v(t) = alpha(t)^2 sigma_d^2 + sigma(t)^2` and `y = e^{gamma/2} x + sqrt(nu) z`, the step
`x' = prox(y, s, lam)` has the right mean on N(mu, sigma_d^2 I) for every lam, and the right variance iff
`nu = (v_s + lam)^2 / v_s - e^gamma v_t >= 0`. That allows lam from `lam_ode = sqrt(v_s)(sqrt(v_t) e^{gamma/2} -
sqrt(v_s))`, where nu = 0, the proximal analogue of DDIM, to `lam_sde = e^gamma - 1`, the MAP estimate of x_s from x_t.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from proxdm.samplers.base import register
from proxdm.samplers.paper import ProxSampler, ProxStep, Quadrature
from proxdm.schedules import Schedule, Time, check_positive


@register
@dataclass(frozen=True)
class ProxExponential(ProxSampler):
    """`x' = prox(e^{gamma/2} x + sqrt(nu) z, s, lam)`, `lam = lam_ode^{1 - eta} lam_sde^eta`."""

    name = "prox-exponential"
    formula = "x' = prox(e^{γ/2} x + √ν z, s, λ), λ = λ_ode^{1-η} λ_sde^η"

    quadrature: Quadrature = "integral"  # How gamma is computed; the steps are exact with this one
    eta: float = 0.0  # 0 is deterministic, 1 the most noise, in [0, 1]
    sigma_d: float = 1.0  # Standard deviation of the data per dimension, positive

    def __post_init__(self) -> None:
        """Reject values out of their ranges."""
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta = {self.eta} must lie in [0, 1]: 0 is deterministic, 1 has the most noise")
        check_positive("sigma_d", self.sigma_d)

    def coefficients(self, schedule: Schedule, t: Time, s: Time) -> ProxStep:
        """Return the coefficients of the step(s) from `t` to `s`."""
        gamma = self.gamma(schedule, t, s)
        v_t, v_s = schedule.variance(t, self.sigma_d), schedule.variance(s, self.sigma_d)
        grown = gamma.exp() * v_t
        ode = v_s.sqrt() * (grown.sqrt() - v_s.sqrt())
        lam = ode ** (1 - self.eta) * torch.expm1(gamma) ** self.eta
        nu = ((v_s + lam).square() / v_s - grown).clamp(min=0)
        noise = torch.zeros_like(nu) if self.eta == 0 else nu.sqrt()
        return ProxStep(scale=(gamma / 2).exp(), noise=noise, lam=lam)
