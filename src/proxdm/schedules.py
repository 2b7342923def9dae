r"""The forward process: the variance-preserving SDE.

Notation of the whole package (Fang, Díaz, Buchanan, Sulam, *Beyond Scores: Proximal Diffusion Models*,
arXiv 2507.08956): time `t` runs from 0 (data) to 1 (noise),

$$dX_t = -\tfrac12 \beta(t) X_t\,dt + \sqrt{\beta(t)}\,dW_t, \qquad
\beta(t) = \beta_{\min} + (\beta_{\max} - \beta_{\min})\,t,$$

so that `X_t = sqrt(alpha_bar(t)) X_0 + sqrt(1 - alpha_bar(t)) Z` with `Z ~ N(0, I)` and
`alpha_bar(t) = exp(-beta_integral(0, t))`. A step goes from `t` to `s < t`.

Schedules are computed in float64 whatever comes in: in float32, `1 - alpha_bar(1e-5)` is 4.7 % off. Every
function takes a number or a tensor of any shape and returns a float64 tensor of that shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Time = float | Tensor
"""A time, or a tensor of times, in [0, 1]."""


def as_float64(value: Time) -> Tensor:
    """Return `value` as a float64 tensor on its own device (on the CPU where the device has no float64)."""
    if not isinstance(value, Tensor):
        return torch.tensor(float(value), dtype=torch.float64)
    return (value.cpu() if value.device.type == "mps" else value).to(torch.float64)


def per_sample(coefficient: Tensor, like: Tensor) -> Tensor:
    """Shape a coefficient (scalar or `(B,)`) so that it multiplies `like` `(B, *)`, in its dtype and device."""
    shaped = coefficient.to(device=like.device, dtype=like.dtype)
    return shaped if shaped.ndim == 0 else shaped.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class VPSDE:
    """Variance-preserving SDE with a linear `beta` (arXiv 2507.08956, Sec. 2; Song et al. 2021).

    Attributes:
        beta_min: beta at t = 0, at least 0.
        beta_max: beta at t = 1, positive and at least `beta_min`.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        """Reject schedules that are not increasing or not positive."""
        if not 0 <= self.beta_min <= self.beta_max or not 0 < self.beta_max < float("inf"):
            raise ValueError(
                f"beta_min = {self.beta_min} and beta_max = {self.beta_max} must satisfy "
                "0 <= beta_min <= beta_max with beta_max positive and finite; the usual values are 0.1 and 20"
            )

    def beta(self, t: Time) -> Tensor:
        """Return `beta(t) = beta_min + (beta_max - beta_min) t`."""
        return self.beta_min + (self.beta_max - self.beta_min) * as_float64(t)

    def beta_integral(self, s: Time, t: Time) -> Tensor:
        """Return `B(s, t)`, the integral of beta from `s` to `t`: `(beta(s) + beta(t)) (t - s) / 2`."""
        return (self.beta(s) + self.beta(t)) * (as_float64(t) - as_float64(s)) / 2

    def alpha_bar(self, t: Time) -> Tensor:
        """Return `alpha_bar(t) = exp(-B(0, t))`, the squared signal coefficient."""
        return torch.exp(-self.beta_integral(0.0, t))

    def noise_variance(self, t: Time) -> Tensor:
        """Return `1 - alpha_bar(t)`, computed as `-expm1(-B(0, t))` so that it is exact for small t."""
        return -torch.expm1(-self.beta_integral(0.0, t))

    def variance(self, t: Time, sigma_d: float = 1.0) -> Tensor:
        """Return `v(t) = alpha_bar(t) sigma_d^2 + 1 - alpha_bar(t)`, the variance of X_t per dimension.

        Args:
            t: Time in [0, 1].
            sigma_d: Standard deviation of the data per dimension.
        """
        return self.alpha_bar(t) * sigma_d**2 + self.noise_variance(t)

    def log_snr(self, t: Time) -> Tensor:
        """Return `log(alpha_bar / (1 - alpha_bar))`, which decreases from infinity at t = 0."""
        integral = self.beta_integral(0.0, t)
        return -torch.log(torch.expm1(integral))

    def time_of_log_snr(self, log_snr: Time) -> Tensor:
        """Return the time at which `log_snr` is reached: the inverse of :meth:`log_snr` (may exceed 1)."""
        integral = torch.nn.functional.softplus(-as_float64(log_snr), threshold=700.0)
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * integral))

    def perturb(self, x0: Tensor, t: Time, noise: Tensor) -> Tensor:
        """Return `sqrt(alpha_bar(t)) x0 + sqrt(1 - alpha_bar(t)) noise`, a draw of X_t given X_0.

        Args:
            x0: Data, shape `(B, *)`.
            t: One time, or one per sample `(B,)`.
            noise: Standard normal numbers of the shape of `x0`.
        """
        signal = per_sample(self.alpha_bar(t).sqrt(), x0)
        return signal * x0 + per_sample(self.noise_variance(t).sqrt(), x0) * noise
