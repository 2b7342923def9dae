r"""Time grids: N + 1 decreasing times, consumed as N intervals `(t, s)` with `s < t`.

The samplers of the official code differ in their eps; here that is a property of the grid, not of the
sampler: `TimeGrid.denoising(N, eps)` is `linspace(1, eps, N)` followed by 0, `TimeGrid.uniform(N, t_end)` is
`linspace(1, t_end, N + 1)`. Times are float64 on the CPU.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from proxdm.runtime.registry import Registry, check_parameters, parse_call
from proxdm.schedules import VPSDE, Schedule


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
        return list(self._pairs)

    @cached_property
    def _pairs(self) -> list[tuple[float, float]]:
        return list(pairwise(self.times.tolist()))

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
        check_steps(steps)
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
        check_steps(steps)
        _check_inside("eps", eps, "(0, 1)", 0 < eps < 1)
        times = torch.cat([_linspace(eps, steps), torch.zeros(1, dtype=torch.float64)])
        return cls(times, f"denoising({steps}, eps={eps:g})", lambda n: cls.denoising(n, eps))

    @classmethod
    def power(cls, steps: int, rho: float = 2.0) -> TimeGrid:
        """Return `(i / N)^rho` for i = N ... 0: rho > 1 puts more knots near the data.

        Args:
            steps: N, at least 1.
            rho: Exponent, positive; 1 is the uniform grid.
        """
        check_steps(steps)
        _check_inside("rho", rho, "(0, inf)", 0 < rho < float("inf"))
        return cls(_linspace(0.0, steps + 1) ** rho, f"power({steps}, rho={rho:g})", lambda n: cls.power(n, rho))

    @classmethod
    def log_snr(cls, steps: int, eps: float = 1e-3, schedule: Schedule | None = None) -> TimeGrid:
        """Return N times from 1 to eps, equally spaced in log-SNR, followed by 0.

        Args:
            steps: N, at least 1.
            eps: The last positive time, in (0, 1).
            schedule: Whose log-SNR is meant; the default is `VPSDE()`. It must be finite at t = 1.
        """
        check_steps(steps)
        _check_inside("eps", eps, "(0, 1)", 0 < eps < 1)
        known = schedule or VPSDE()
        ends = known.log_snr(torch.tensor([1.0, eps], dtype=torch.float64))
        times = known.time_of_log_snr(ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps, dtype=torch.float64))
        times[0] = 1.0
        times = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
        return cls(times, f"log-snr({steps}, eps={eps:g})", lambda n: cls.log_snr(n, eps, schedule))

    @classmethod
    def rho(
        cls,
        steps: int,
        start: float | None = None,
        end: float = 0.03,
        rho: float = 7.0,
        schedule: Schedule | None = None,
    ) -> TimeGrid:
        r"""Return the times of `s_i = (start^{1/rho} + i/(N-1) (end^{1/rho} - start^{1/rho}))^rho`, followed by 0.

        s is the ratio `sigma / alpha` (Karras et al. 2022, eq. 5, whose sigma it is). With N = 1 the only step goes
        from `start` to 0.

        Args:
            steps: N, at least 1.
            start: First ratio; None is that of t = 1, at most 80.
            end: Last positive ratio, in (0, start).
            rho: Exponent, positive: 1 is uniform in s, large ones near uniform in log s.
            schedule: Whose ratios are meant; the default is `VPSDE()`.

        Raises:
            ValueError: A value is out of its range, or the schedule does not reach `start`.
        """
        known = schedule or VPSDE()
        check_steps(steps)
        _check_inside("rho", rho, "(0, inf)", 0 < rho < math.inf)
        last = float(known.ratio(1.0))
        first = min(last, LARGEST_START) if start is None else start
        if not 0 < first <= last * (1 + 1e-12) or first == math.inf:
            raise ValueError(f"start = {first:g} must lie in (0, {last:g}], the ratios of {known}, and be finite")
        _check_inside("end", end, f"(0, {first:g})", 0 < end < first)
        part = torch.linspace(0, 1, steps, dtype=torch.float64)
        ratios = (first ** (1 / rho) + part * (end ** (1 / rho) - first ** (1 / rho))) ** rho
        times = torch.cat([known.time_of_ratio(ratios).clamp(max=1.0), torch.zeros(1, dtype=torch.float64)])
        times[0] = 1.0 if first == last else times[0]
        begin = "" if start is None else f", start={start:g}"
        name = f"rho({steps}{begin}, end={end:g}, rho={rho:g})"
        return cls(times, name, lambda n: cls.rho(n, start, end, rho, schedule))

    @classmethod
    def custom(cls, times: Tensor | list[float]) -> TimeGrid:
        """Return the grid with exactly these decreasing times."""
        return cls(torch.as_tensor(times, dtype=torch.float64))

    def below(self, t: float) -> TimeGrid:
        """Return the part of the grid at and below `t`, from its highest knot there.

        Args:
            t: Where to start, in (0, 1].

        Raises:
            ValueError: No step is left.
        """
        kept = self.times[self.times <= t + 1e-12]
        if len(kept) < 2:
            raise ValueError(
                f"no step of {self.name} starts at or below t = {t:g}; its last starts at {self.times[-2]:g}"
            )
        finer = self._with_steps
        return type(self)(kept, f"{self.name}.below({t:g})", None if finer is None else lambda n: finer(n).below(t))

    def scaled(self, t: float) -> TimeGrid:
        """Return the grid with as many steps from `t` in (0, 1] on: its times multiplied by t."""
        _check_inside("t", t, "(0, 1]", 0 < t <= 1)
        finer = self._with_steps
        name = f"{self.name}.scaled({t:.4g})"
        return type(self)(self.times * t, name, None if finer is None else lambda n: finer(n).scaled(t))

    @classmethod
    def named(cls, text: str, steps: int, schedule: Schedule | None = None, start: float | None = None) -> TimeGrid:
        """Return the grid `family` or `family(parameter=value, ...)` with N = `steps`, e.g. `power(rho=3)`.

        With `start`, a ratio, it begins there: families with a parameter of that name take it, others are
        scaled. What the command line and configurations call; the families are those of :data:`GRIDS`.

        Raises:
            ValueError: There is no such family or parameter, or a value is out of its range.
        """
        name, given = parse_call(text)
        family = GRIDS.find(name)
        check_parameters(f"the grid {name}", given, grid_parameters(name))
        more = {"schedule": schedule} if "schedule" in inspect.signature(family).parameters else {}
        if start is None or "start" in given:
            return family(steps, **given, **more)
        if "start" in grid_parameters(name):
            return family(steps, **given, **more, start=start)
        return family(steps, **given, **more).scaled(float((schedule or VPSDE()).time_of_ratio(start).clamp(max=1)))


LARGEST_START = 80.0
"""Largest first ratio of :meth:`TimeGrid.rho` unless one is given: EDM's sigma_max (Karras et al. 2022)."""

GRIDS: Registry[Callable[..., TimeGrid]] = Registry("grid")
"""Families of grids by name: functions of the number of steps, parameters with defaults, and maybe `schedule`."""
GRIDS.add("uniform", TimeGrid.uniform)
GRIDS.add("denoising", TimeGrid.denoising)
GRIDS.add("power", TimeGrid.power)
GRIDS.add("log-snr", TimeGrid.log_snr)
GRIDS.add("rho", TimeGrid.rho)


def grid_parameters(name: str) -> dict[str, Any]:
    """Return the parameters of a family of grids with their defaults."""
    parameters = list(inspect.signature(GRIDS.find(name)).parameters.values())[1:]
    return {one.name: one.default for one in parameters if one.name != "schedule"}


def _linspace(end: float, count: int) -> Tensor:
    return torch.linspace(1.0, end, count, dtype=torch.float64)


def check_steps(steps: int) -> None:
    """Raise a ValueError unless a number of steps is a whole number of at least 1."""
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps = {steps} must be a whole number of at least 1")


def _check_inside(name: str, value: float, interval: str, inside: bool) -> None:
    if not inside:
        raise ValueError(f"{name} = {value} must lie in {interval}")
