r"""Time grids: N + 1 decreasing times, consumed as N intervals `(t, s)` with `s < t`.

The samplers of the official code differ in their eps; here that is a property of the grid, not of the
sampler: `TimeGrid.denoising(N, eps)` is `linspace(1, eps, N)` followed by 0, `TimeGrid.uniform(N, t_end)` is
`linspace(1, t_end, N + 1)`. Times are float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from proxdm.schedules import VPSDE

GridName = Literal["uniform", "denoising", "power", "log-snr"]
GRID_NAMES: tuple[GridName, ...] = ("uniform", "denoising", "power", "log-snr")


@dataclass(frozen=True, eq=False)
class TimeGrid:
    """N + 1 strictly decreasing times in [0, 1], the first of them positive.

    Attributes:
        times: float64 tensor `(N + 1,)` on the CPU, decreasing.
        name: How the grid was made, with its parameters, e.g. `uniform(10)`; it goes into results.
    """

    times: Tensor
    name: str = "custom"
    _with_steps: Callable[[int], TimeGrid] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Validate the times and take a private float64 copy."""
        times = torch.as_tensor(self.times).detach().to(device="cpu", dtype=torch.float64, copy=True)
        if times.ndim != 1 or len(times) < 2:
            raise ValueError(f"a time grid needs at least 2 times in one dimension, got shape {tuple(times.shape)}")
        if not torch.isfinite(times).all():
            raise ValueError(f"times must be finite, got {times.tolist()}")
        if times[0] > 1 or times[-1] < 0:
            raise ValueError(f"times must lie in [0, 1], got {times[0]:g} ... {times[-1]:g}")
        if (rising := torch.nonzero(times[1:] >= times[:-1])).numel():
            i = int(rising[0, 0])
            raise ValueError(
                f"times must decrease strictly from noise (1) to data (0), but times[{i}] = {times[i]:g} is "
                f"followed by {times[i + 1]:g}; reverse or deduplicate them"
            )
        object.__setattr__(self, "times", times)

    @property
    def steps(self) -> int:
        """N, the number of intervals."""
        return len(self.times) - 1

    def pairs(self) -> list[tuple[float, float]]:
        """Return the intervals `(t, s)` in sampling order."""
        knots = self.times.tolist()
        return list(pairwise(knots))

    def with_steps(self, steps: int) -> TimeGrid | None:
        """Return the grid of the same family with another N, or None for a custom grid."""
        return None if self._with_steps is None else self._with_steps(steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimeGrid) and torch.equal(self.times, other.times)

    def __hash__(self) -> int:
        return hash(tuple(self.times.tolist()))

    @classmethod
    def uniform(cls, steps: int, t_end: float = 0.0) -> TimeGrid:
        """Return `linspace(1, t_end, N + 1)`.

        Args:
            steps: N, at least 1.
            t_end: Last time, in [0, 1).
        """
        _check_steps(steps)
        _check_inside("t_end", t_end, "[0, 1)", 0 <= t_end < 1)
        name = f"uniform({steps})" if t_end == 0 else f"uniform({steps}, t_end={t_end:g})"
        return cls(_linspace(t_end, steps + 1), name, lambda n: cls.uniform(n, t_end))

    @classmethod
    def denoising(cls, steps: int, eps: float = 1e-3) -> TimeGrid:
        """Return `linspace(1, eps, N)` followed by 0: the last step denoises from eps.

        Args:
            steps: N, at least 1 (with N = 1 the only step goes from 1 to 0).
            eps: The last positive time, in (0, 1).
        """
        _check_steps(steps)
        _check_inside("eps", eps, "(0, 1)", 0 < eps < 1)
        times = torch.cat([_linspace(eps, steps), torch.zeros(1, dtype=torch.float64)])
        return cls(times, f"denoising({steps}, eps={eps:g})", lambda n: cls.denoising(n, eps))

    @classmethod
    def power(cls, steps: int, rho: float) -> TimeGrid:
        """Return `(i / N)^rho` for i = N ... 0: rho > 1 puts more knots near the data.

        Args:
            steps: N, at least 1.
            rho: Exponent, positive; 1 is the uniform grid.
        """
        _check_steps(steps)
        _check_inside("rho", rho, "(0, inf)", 0 < rho < float("inf"))
        return cls(_linspace(0.0, steps + 1) ** rho, f"power({steps}, rho={rho:g})", lambda n: cls.power(n, rho))

    @classmethod
    def log_snr(cls, steps: int, eps: float = 1e-3, sde: VPSDE | None = None) -> TimeGrid:
        """Return N times from 1 to eps, equally spaced in log-SNR, followed by 0.

        Args:
            steps: N, at least 1.
            eps: The last positive time, in (0, 1).
            sde: Schedule whose log-SNR is meant; the default is `VPSDE()`.
        """
        _check_steps(steps)
        _check_inside("eps", eps, "(0, 1)", 0 < eps < 1)
        schedule = sde or VPSDE()
        ends = schedule.log_snr(torch.tensor([1.0, eps], dtype=torch.float64))
        times = schedule.time_of_log_snr(
            ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps, dtype=torch.float64)
        )
        times[0] = 1.0
        times = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
        return cls(times, f"log-snr({steps}, eps={eps:g})", lambda n: cls.log_snr(n, eps, sde))

    @classmethod
    def custom(cls, times: Tensor | list[float]) -> TimeGrid:
        """Return the grid with exactly these decreasing times."""
        return cls(torch.as_tensor(times, dtype=torch.float64))

    @classmethod
    def named(
        cls, name: GridName, steps: int, *, eps: float = 1e-3, rho: float = 2.0, sde: VPSDE | None = None
    ) -> TimeGrid:
        """Return the grid of that name: what the command line and configurations call."""
        if name == "uniform":
            return cls.uniform(steps)
        if name == "denoising":
            return cls.denoising(steps, eps)
        if name == "power":
            return cls.power(steps, rho)
        if name == "log-snr":
            return cls.log_snr(steps, eps, sde)
        raise ValueError(f"unknown grid {name!r}; the grids are {', '.join(GRID_NAMES)}")


def _linspace(end: float, count: int) -> Tensor:
    return torch.linspace(1.0, end, count, dtype=torch.float64)


def _check_steps(steps: int) -> None:
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps = {steps} must be a whole number of at least 1")


def _check_inside(name: str, value: float, interval: str, inside: bool) -> None:
    if not inside:
        raise ValueError(f"{name} = {value} must lie in {interval}")
