r"""Samplers of other libraries: `diffusers:NAME` is any scheduler of diffusers, e.g. `diffusers:DDIMScheduler`.

A scheduler knows a table of T = 1000 betas. It is given that with the ratios `sigma / alpha` of the schedule at the
times `(i + 1) / T`, so that index i stands for that time, and predictions of the noise. Its samples are
variance-preserving, whatever the model's schedule; they are rescaled for the model.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from proxdm.errors import OperatorError, StepError, did_you_mean
from proxdm.grids import TimeGrid
from proxdm.operators import Ask
from proxdm.runtime.registry import format_call, parse_call
from proxdm.samplers.base import PREFIXES, Sampler
from proxdm.schedules import Schedule

TABLE = 1000
"""T, the length of the tables of betas."""

LARGEST_RATIO = 1000.0
"""Where the ratio is infinite (:class:`proxdm.schedules.Flow` at t = 1), the table ends here."""


@dataclass(frozen=True, repr=False)
class Diffusers(Sampler):
    """A scheduler of diffusers as a sampler; its own noise is replaced by the sampler's."""

    name, operator, stochastic = "diffusers", "denoiser", True
    formula = "a scheduler of diffusers"

    scheduler: str = "DDIMScheduler"  # Name of the class
    # Of its configuration, e.g. `(("solver_order", 3),)`. Samples are not clipped unless one says so.
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Find the class, and check its options."""
        known = inspect.signature(self._class().__init__).parameters
        if unknown := [key for key, _ in self.options if key not in known]:
            raise ValueError(f"{self.scheduler} has no option {unknown[0]!r}{did_you_mean(unknown[0], known)}")

    def __repr__(self) -> str:
        """Return e.g. `diffusers:DPMSolverMultistepScheduler(solver_order=3)`."""
        return f"diffusers:{format_call(self.scheduler, dict(self.options))}"

    def grid(self, schedule: Schedule, steps: int, start: float | None = None) -> TimeGrid:
        """Return the scheduler's own times for N = `steps` steps, and 0; it starts nowhere else (StepError)."""
        if start is not None:
            raise StepError(f"{self!r} has times of its own, from t = 1 on, and cannot start at {start:g}")
        scheduler = self._make(schedule)
        scheduler.set_timesteps(steps)
        times = list(dict.fromkeys(_time(index) for index in scheduler.timesteps.tolist()))
        return TimeGrid(torch.tensor([*times, 0.0], dtype=torch.float64), f"{self.scheduler}({steps})")

    def init(self, ask: Ask, x: Tensor, grid: TimeGrid) -> Any:
        """Return the scheduler, set to the grid; a StepError says that it cannot go through these times."""
        scheduler, indices = self._make(ask.schedule), [round(t * TABLE - 1) for t in grid.times[:-1].tolist()]
        if grid == self.grid(ask.schedule, grid.steps):
            scheduler.set_timesteps(grid.steps, device=x.device)
        elif "timesteps" not in inspect.signature(scheduler.set_timesteps).parameters or grid.times[-1] > 0:
            raise StepError(f"{self!r} takes no times from outside ({grid.name}): leave the grid out")
        elif (
            rounded := max(abs(t * TABLE - 1 - i) for t, i in zip(grid.times.tolist(), indices, strict=False))
        ) > 1e-6:
            raise StepError(f"{self!r} knows the times i/{TABLE} only, and {grid.name} is off by {rounded / TABLE:.2g}")
        else:
            scheduler.set_timesteps(timesteps=indices, device=x.device)
        return scheduler, 0

    def step(self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: Any) -> tuple[Tensor, Any]:
        """Return the samples after the scheduler's steps that begin above s."""
        scheduler, done = carry
        if done == 0:
            x = x / float(ask.schedule.initial_std(t)) * float(scheduler.init_noise_sigma)
        while done < len(scheduler.timesteps) and _time(index := scheduler.timesteps[done].item()) > s:
            time = _time(index)
            sigma, ratio = float(ask.schedule.sigma(time)), min(float(ask.schedule.ratio(time)), LARGEST_RATIO)
            alpha_vp, sigma_vp = (1 + ratio**2) ** -0.5, ratio * (1 + ratio**2) ** -0.5
            shown = scheduler.scale_model_input(x, scheduler.timesteps[done])
            noise = (shown - alpha_vp * ask.denoise(shown * (sigma / sigma_vp), time)) / sigma_vp
            with _noise_from(z, scheduler):
                x = scheduler.step(noise, scheduler.timesteps[done], x, return_dict=False)[0]
            done += 1
        return x, (scheduler, done)

    def _class(self) -> Any:
        try:
            from diffusers import schedulers
        except ImportError as error:
            raise OperatorError(f'{self!r} needs diffusers ({error}): pip install "proxdm[diffusers]"') from error
        if not hasattr(schedulers, self.scheduler):
            names = [name for name in dir(schedulers) if name.endswith("Scheduler")]
            raise OperatorError(f"diffusers has no scheduler {self.scheduler!r}{did_you_mean(self.scheduler, names)}")
        return getattr(schedulers, self.scheduler)

    def _make(self, schedule: Schedule) -> Any:
        kind = self._class()
        plain = {
            "clip_sample": False,
            "thresholding": False,
            "num_train_timesteps": TABLE,
            "trained_betas": betas_of(schedule),
        }
        known = inspect.signature(kind.__init__).parameters
        if "trained_betas" not in known:
            raise OperatorError(f"{self.scheduler} takes no table of betas, which is how it would learn the schedule")
        return kind(**{key: value for key, value in plain.items() if key in known} | dict(self.options))


def betas_of(schedule: Schedule) -> list[float]:
    """Return the table of betas with the ratios of a schedule at the times `(i + 1) / T`."""
    times = torch.arange(1, TABLE + 1, dtype=torch.float64) / TABLE
    alpha_bar = 1 / (1 + schedule.ratio(times).clamp(max=LARGEST_RATIO).square())
    betas: list[float] = (1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])).tolist()
    return betas


def _time(index: float) -> float:
    return (index + 1) / TABLE


@contextmanager
def _noise_from(z: Callable[[], Tensor], scheduler: Any) -> Iterator[None]:
    """Let a scheduler draw the sampler's noise: all of them call `randn_tensor` of their module."""
    module = sys.modules[type(scheduler).__module__]
    if not hasattr(module, "randn_tensor"):
        yield
        return
    with mock.patch.object(module, "randn_tensor", side_effect=lambda *arguments, **more: z()):
        yield


def _diffusers(text: str) -> Diffusers:
    name, options = parse_call(text)
    return Diffusers(name if name.endswith("Scheduler") else f"{name}Scheduler", tuple(options.items()))


PREFIXES["diffusers"] = _diffusers
