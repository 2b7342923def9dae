r"""Schedules: how data turn into noise. Notation of the whole package.

Time `t` runs from 0 (data) to 1 (noise), and a schedule is a pair of functions with

$$x_t = \alpha(t)\,x_0 + \sigma(t)\,z, \qquad z \sim N(0, I).$$

The ratio `s = sigma / alpha` (noise to signal; EDM's sigma) grows from 0. In *hat coordinates* `x / alpha`, where
`x / alpha = x_0 + s z`, all schedules are one, so that a solver written in them works on every schedule.

Of the variance-preserving ones (arXiv 2507.08956, Sec. 2; Song et al. 2021), `alpha^2 + sigma^2 = 1`,

$$dX_t = -\tfrac12 \beta(t) X_t\,dt + \sqrt{\beta(t)}\,dW_t, \qquad \bar\alpha = \alpha^2 = e^{-B(0, t)}, \qquad
B(s, t) = \int_s^t \beta = 2 \log \frac{\alpha(s)}{\alpha(t)} .$$

A step goes from `t` to `s < t`. Schedules are computed in float64 whatever comes in: in float32, `1 - alpha_bar(1e-5)`
is 4.7 % off. Every function takes a number or a tensor of any shape and returns a float64 tensor of that shape.
"""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from proxdm.errors import ProxdmError
from proxdm.runtime.registry import Registry

Time = float | Tensor
"""A time, or a tensor of times, in [0, 1]."""

SCHEDULES: Registry[type[Schedule]] = Registry("schedule")
"""Every schedule by name."""


def as_float64(value: Time) -> Tensor:
    """Return `value` as a float64 tensor on its own device (on the CPU where the device has no float64)."""
    if not isinstance(value, Tensor):
        return torch.tensor(float(value), dtype=torch.float64)
    return (value.cpu() if value.device.type == "mps" else value).to(torch.float64)


def per_sample(coefficient: Tensor, like: Tensor) -> Tensor:
    """Shape a coefficient (scalar or `(B,)`) so that it multiplies `like` `(B, *)`, in its dtype and device."""
    shaped = coefficient.to(device=like.device, dtype=like.dtype)
    return shaped if shaped.ndim == 0 else shaped.reshape(-1, *[1] * (like.ndim - 1))


class Schedule(ABC):
    """`x_t = alpha(t) x_0 + sigma(t) z`: alpha, sigma and their ratio, and the time at which a ratio is reached."""

    @abstractmethod
    def alpha(self, t: Time) -> Tensor:
        """Return the signal coefficient alpha, 1 at t = 0."""

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        """Return the standard deviation sigma of the noise, 0 at t = 0."""

    def ratio(self, t: Time) -> Tensor:
        """Return `sigma / alpha`, increasing in t; infinite where alpha is 0 (:class:`Flow` at t = 1)."""
        return self.sigma(t) / self.alpha(t)

    @abstractmethod
    def time_of_ratio(self, ratio: Time) -> Tensor:
        """Return the time at which a ratio of at least 0 is reached: the inverse of :meth:`ratio` (may exceed 1)."""

    def alpha_bar(self, t: Time) -> Tensor:
        """Return `alpha(t)^2`."""
        return self.alpha(t).square()

    def noise_variance(self, t: Time) -> Tensor:
        """Return `sigma(t)^2`."""
        return self.sigma(t).square()

    def initial_std(self, t: Time) -> Tensor:
        """Return the standard deviation of the samples that a sampler starts from at time t: sigma(t)."""
        return self.sigma(t)

    def variance(self, t: Time, sigma_d: float = 1.0) -> Tensor:
        """Return `v(t) = alpha(t)^2 sigma_d^2 + sigma(t)^2`, the variance of X_t per dimension.

        Args:
            t: Time in [0, 1].
            sigma_d: Standard deviation of the data per dimension.
        """
        return self.alpha_bar(t) * sigma_d**2 + self.noise_variance(t)

    def log_snr(self, t: Time) -> Tensor:
        """Return `log(alpha^2 / sigma^2)`, which decreases from infinity at t = 0."""
        return -2 * torch.log(self.ratio(t))

    def time_of_log_snr(self, log_snr: Time) -> Tensor:
        """Return the time at which `log_snr` is reached: the inverse of :meth:`log_snr` (may exceed 1)."""
        return self.time_of_ratio(torch.exp(-as_float64(log_snr) / 2))

    def perturb(self, x0: Tensor, t: Time, noise: Tensor) -> Tensor:
        """Return `alpha(t) x0 + sigma(t) noise`, a draw of X_t given X_0.

        Args:
            x0: Data, shape `(B, *)`.
            t: One time, or one per sample `(B,)`.
            noise: Standard normal numbers of the shape of `x0`.
        """
        return per_sample(self.alpha(t), x0) * x0 + per_sample(self.sigma(t), x0) * noise


class VariancePreserving(Schedule):
    """A schedule with `alpha^2 + sigma^2 = 1`: the kind that the paper's samplers are made for."""

    @abstractmethod
    def beta(self, t: Time) -> Tensor:
        """Return the derivative of `B(0, t)`."""

    @abstractmethod
    def beta_integral(self, s: Time, t: Time) -> Tensor:
        """Return `B(s, t) = 2 log(alpha(s) / alpha(t))`, the integral of beta from `s` to `t`."""

    def alpha_bar(self, t: Time) -> Tensor:
        """Return `alpha_bar(t) = exp(-B(0, t))`, the squared signal coefficient."""
        return torch.exp(-self.beta_integral(0.0, t))

    def noise_variance(self, t: Time) -> Tensor:
        """Return `1 - alpha_bar(t)`, computed as `-expm1(-B(0, t))` so that it is exact for small t."""
        return -torch.expm1(-self.beta_integral(0.0, t))

    def alpha(self, t: Time) -> Tensor:
        """Return `sqrt(alpha_bar(t))`."""
        return self.alpha_bar(t).sqrt()

    def sigma(self, t: Time) -> Tensor:
        """Return `sqrt(1 - alpha_bar(t))`."""
        return self.noise_variance(t).sqrt()

    def ratio(self, t: Time) -> Tensor:
        """Return `sigma / alpha = sqrt(expm1(B(0, t)))`."""
        return torch.expm1(self.beta_integral(0.0, t)).sqrt()

    def initial_std(self, t: Time) -> Tensor:
        """Return 1: samplers start from N(0, I), as the paper's do."""
        return torch.ones_like(as_float64(t))


@SCHEDULES.register("vpsde")
@dataclass(frozen=True)
class VPSDE(VariancePreserving):
    """Variance-preserving SDE with a linear `beta` (arXiv 2507.08956, Sec. 2; Song et al. 2021).

    `beta(t) = beta_min + (beta_max - beta_min) t`.

    Attributes:
        beta_min: beta at t = 0, at least 0.
        beta_max: beta at t = 1, positive and at least `beta_min`.

    Raises:
        ValueError: beta is not increasing, or not positive.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        """Reject schedules that are not increasing or not positive."""
        if not 0 <= self.beta_min <= self.beta_max or not 0 < self.beta_max < math.inf:
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

    def log_snr(self, t: Time) -> Tensor:
        """Return `log(alpha_bar / (1 - alpha_bar))`, which decreases from infinity at t = 0."""
        return -torch.log(torch.expm1(self.beta_integral(0.0, t)))

    def time_of_log_snr(self, log_snr: Time) -> Tensor:
        """Return the time at which `log_snr` is reached: the inverse of :meth:`log_snr` (may exceed 1)."""
        return self._time_of_integral(torch.nn.functional.softplus(-as_float64(log_snr), threshold=700.0))

    def time_of_ratio(self, ratio: Time) -> Tensor:
        """Return the time at which `sigma / alpha` is reached, from `B(0, t) = log(1 + ratio^2)` (may exceed 1)."""
        return self._time_of_integral(torch.log1p(as_float64(ratio).square()))

    def _time_of_integral(self, integral: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        time = 2 * integral / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * integral))
        return torch.where(integral == 0, integral, time)  # 0 / 0 where beta_min is 0


@SCHEDULES.register("discrete")
@dataclass(frozen=True)
class Discrete(VariancePreserving):
    """A table of betas, as of DDPM and Stable Diffusion: `alpha_bar_i = prod_{j <= i} (1 - beta_j)`.

    Index i of T stands for the time `(i + 1) / T`. Between the knots the logarithm of the ratio is linear in t, below
    the first the ratio is proportional to t.

    Attributes:
        betas: T numbers in (0, 1).

    Raises:
        ValueError: There is no beta, or one is not in (0, 1).
    """

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        """Reject what is no table of betas."""
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            wrong = next((beta for beta in self.betas if not 0 < beta < 1), "none")
            raise ValueError(f"betas must be at least one number, all in (0, 1), and one is {wrong}")

    @classmethod
    def linear(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Discrete:
        """Return DDPM's table: `linspace(start, end, steps)` (Ho et al. 2020)."""
        return cls(tuple(torch.linspace(start, end, steps, dtype=torch.float64).tolist()))

    @classmethod
    def scaled_linear(cls, steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Discrete:
        """Return Stable Diffusion's table: squares of `linspace(sqrt(start), sqrt(end), steps)`."""
        roots = torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64)
        return cls(tuple(roots.square().tolist()))

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Discrete:
        """Return Nichol and Dhariwal's table (2021): `alpha_bar ~ cos^2((t + offset) / (1 + offset) pi / 2)`."""
        angles = (torch.linspace(0, 1, steps + 1, dtype=torch.float64) + offset) / (1 + offset) * math.pi / 2
        bars = angles.cos().square()
        return cls(tuple((1 - bars[1:] / bars[:-1]).clamp(max=largest).tolist()))

    def __str__(self) -> str:
        digest = zlib.crc32(repr(self.betas).encode())
        return f"Discrete({self.steps} betas, {self.betas[0]:.4g} to {self.betas[-1]:.4g}, checksum {digest:08x})"

    @property
    def steps(self) -> int:
        """T, the number of betas."""
        return len(self.betas)

    @cached_property
    def _log_ratio(self) -> Tensor:
        integral = -torch.log1p(-torch.tensor(self.betas, dtype=torch.float64)).cumsum(0)
        return torch.expm1(integral).log() / 2

    def ratio(self, t: Time) -> Tensor:
        """Return `sigma / alpha`."""
        below, interval, part = self._place(as_float64(t) * self.steps)
        table = self._log_ratio.to(part.device)
        inside = torch.lerp(table[interval], table[(interval + 1).clamp(max=self.steps - 1)], part)
        return torch.where(below, table[0].exp() * as_float64(t) * self.steps, inside.exp())

    def time_of_ratio(self, ratio: Time) -> Tensor:
        """Return the time at which a ratio is reached; at most 1, where the table ends."""
        ratio = as_float64(ratio)
        table = self._log_ratio.to(ratio.device)
        log = ratio.clamp(min=1e-300).log()
        i = (torch.searchsorted(table, log.contiguous()) - 1).clamp(0, max(self.steps - 2, 0))
        step = table[(i + 1).clamp(max=self.steps - 1)] - table[i]
        inside = 1 + i + torch.where(step > 0, (log - table[i]) / step.clamp(min=1e-300), 0.0)
        return (torch.where(ratio < table[0].exp(), ratio / table[0].exp(), inside) / self.steps).clamp(max=1.0)

    def beta(self, t: Time) -> Tensor:
        """Return the derivative of `B(0, t) = log(1 + ratio^2)`, right-continuous at the knots."""
        t = as_float64(t)
        below, interval, _ = self._place(t * self.steps)
        table = self._log_ratio.to(t.device)
        slope = (table[(interval + 1).clamp(max=self.steps - 1)] - table[interval]) * self.steps
        square = self.ratio(t).square()
        # Below the first knot log ratio = log t + const, so ratio^2 times its slope 1/t is ratio^2 / t.
        rate = torch.where(below, (table[0].exp() * self.steps).square() * t, square * slope)
        return 2 * rate / (1 + square)

    def beta_integral(self, s: Time, t: Time) -> Tensor:
        """Return `B(s, t) = log(1 + ratio(t)^2) - log(1 + ratio(s)^2)`."""
        return torch.log1p(self.ratio(t).square()) - torch.log1p(self.ratio(s).square())

    def _place(self, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether a position t T lies below the first knot, the number of its interval, and where in it."""
        i = (position.floor() - 1).clamp(0, max(self.steps - 2, 0)).long()
        return position < 1, i, position - 1 - i


@SCHEDULES.register("cosine")
@dataclass(frozen=True)
class Cosine(VariancePreserving):
    """`alpha = cos(theta), sigma = sin(theta)`, theta proportional to t, up to the ratio `max_ratio` at t = 1.

    The cosine schedule (Nichol and Dhariwal 2021) without its offset, cut off where alpha would vanish.

    Attributes:
        max_ratio: `sigma / alpha` at t = 1, positive and finite.

    Raises:
        ValueError: `max_ratio` is out of its range.
    """

    max_ratio: float = 150.0

    def __post_init__(self) -> None:
        """Reject a ratio that is not reached."""
        check_positive("max_ratio", self.max_ratio)

    @property
    def _end(self) -> float:
        return math.atan(self.max_ratio)

    def beta(self, t: Time) -> Tensor:
        """Return `2 theta' tan(theta)`."""
        return 2 * self._end * torch.tan(as_float64(t) * self._end)

    def beta_integral(self, s: Time, t: Time) -> Tensor:
        """Return `2 log(cos(theta(s)) / cos(theta(t)))`."""
        # log cos = log(1 - sin^2) / 2, which keeps its digits at small angles.
        late, early = (torch.log1p(-torch.sin(as_float64(time) * self._end).square()) for time in (t, s))
        return early - late

    def alpha(self, t: Time) -> Tensor:
        """Return `cos(theta)`."""
        return torch.cos(as_float64(t) * self._end)

    def sigma(self, t: Time) -> Tensor:
        """Return `sin(theta)`."""
        return torch.sin(as_float64(t) * self._end)

    def ratio(self, t: Time) -> Tensor:
        """Return `tan(theta)`."""
        return torch.tan(as_float64(t) * self._end)

    def time_of_ratio(self, ratio: Time) -> Tensor:
        """Return the time at which `sigma / alpha` is reached."""
        return torch.atan(as_float64(ratio)) / self._end


@SCHEDULES.register("ve")
@dataclass(frozen=True)
class VE(Schedule):
    """Variance-exploding: `alpha = 1`, `sigma = sigma_max t` (Karras et al. 2022, whose sigma is `sigma_max t` here).

    Attributes:
        sigma_max: Standard deviation of the noise at t = 1, positive and finite.

    Raises:
        ValueError: `sigma_max` is out of its range.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        """Reject a deviation that is not one."""
        check_positive("sigma_max", self.sigma_max)

    def alpha(self, t: Time) -> Tensor:
        """Return 1."""
        return torch.ones_like(as_float64(t))

    def sigma(self, t: Time) -> Tensor:
        """Return `sigma_max t`."""
        return self.sigma_max * as_float64(t)

    def time_of_ratio(self, ratio: Time) -> Tensor:
        """Return `ratio / sigma_max`."""
        return as_float64(ratio) / self.sigma_max


@SCHEDULES.register("flow")
@dataclass(frozen=True)
class Flow(Schedule):
    """Rectified flow: `alpha = 1 - t`, `sigma = t` (Liu et al. 2022; Lipman et al. 2023)."""

    def alpha(self, t: Time) -> Tensor:
        """Return `1 - t`."""
        return 1 - as_float64(t)

    def sigma(self, t: Time) -> Tensor:
        """Return `t`."""
        return as_float64(t).clone()

    def time_of_ratio(self, ratio: Time) -> Tensor:
        """Return `ratio / (1 + ratio)`, 1 for an infinite ratio."""
        ratio = as_float64(ratio)
        return torch.where(torch.isinf(ratio), 1.0, ratio / (1 + ratio))


class ScheduleError(ProxdmError, ValueError):
    """A sampler was given a schedule that it is not defined on."""


def check_positive(name: str, value: float) -> None:
    """Raise a ValueError unless a parameter is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} = {value} must be positive and finite")
