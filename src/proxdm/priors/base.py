r"""What a prior is: a denoiser that costs next to nothing, and the probability flow of its density.

All in *hat coordinates* (:mod:`proxdm.schedules`): `x = x_0 + s z`, whatever the schedule, s the ratio of noise to
signal. x has shape `(B, *)`, s is a number or `(B,)`; everything is computed in float64 and returned in the dtype of x.

- denoiser `D(x, s) = E[x_0 | x_0 + s z = x]`,
- score `(D(x, s) - x) / s^2` of the density of x,
- flow `Phi(x; s -> s')`: the solution at s' of `dx/ds = (x - D(x, s)) / s` that is x at s. It carries the density at s
  into that at s', downwards (towards the data) and upwards; it is the limit of infinitely many steps of a sampler.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor

from proxdm.errors import ProxdmError
from proxdm.operators import Model, denoise
from proxdm.schedules import Time, as_float64, per_sample

STEPS_PER_E_FOLD = 3
"""Steps of :func:`integrate` for every factor e in s; twice as many change Fréchet distances by 0.02 or less."""


class PriorError(ProxdmError, ValueError):
    """A prior cannot be fitted, read, or used with a model."""


@dataclass(frozen=True)
class Facts:
    """What a prior knows of the pictures it was fitted to."""

    count: int = 0  # Their number; 0 if it was not fitted
    low: float = -math.inf  # Their least value
    high: float = math.inf  # Their greatest value
    fingerprint: str = ""  # SHA-256 of them, as float32 in their order
    data: str = ""  # Their name, e.g. `fashion-mnist`; or `samples of MODEL`
    rule: str = ""  # How its sizes were chosen, in one line


@dataclass(frozen=True)
class GainCurve:
    """Gains of a network over a prior."""

    ratios: tuple[float, ...]  # s, increasing
    gains: tuple[float, ...]  # gain(s)
    images: int  # Number of held pictures behind it
    schedule: str  # Of the model

    def crossing(self, level: float) -> float:
        """Return the ratio below which the gain is under `level`, by the running maximum; at most the last ratio."""
        tops = list(accumulate(self.gains, max))
        i = bisect_left(tops, level)
        if i in (0, len(tops)):
            return self.ratios[min(i, len(tops) - 1)]
        part = (level - tops[i - 1]) / (tops[i] - tops[i - 1])
        return self.ratios[i - 1] * math.exp(part * math.log(self.ratios[i] / self.ratios[i - 1]))


@dataclass(frozen=True, eq=False)
class Prior(ABC):
    """A density with a cheap denoiser: subclasses give `denoise` and maybe a better `flow`.

    Attributes:
        shape: Shape of a sample.
        facts: What it was fitted to.
        curve: What a network gains over it, by which a start is chosen (:func:`proxdm.priors.gain`).
        held: Pictures that it was not fitted to, `(n, *)`, on which gains are counted; files do not keep them.
        held_labels: Their classes `(n,)`, if they are known.
    """

    shape: tuple[int, ...] = field(kw_only=True)
    facts: Facts = field(default=Facts(), kw_only=True)
    curve: GainCurve | None = field(default=None, kw_only=True)
    held: Tensor | None = field(default=None, kw_only=True, repr=False)
    held_labels: Tensor | None = field(default=None, kw_only=True, repr=False)

    @property
    @abstractmethod
    def farthest(self) -> float:
        """A ratio at which the density is N(0, s^2 I) for all purposes: warm starts begin there."""

    @abstractmethod
    def denoise(self, x: Tensor, s: Time) -> Tensor:
        """Return `E[x_0 | x_0 + s z = x]`, of the shape of x."""

    def score(self, x: Tensor, s: Time) -> Tensor:
        """Return `(D(x, s) - x) / s^2`, the gradient of the log density at ratio s > 0."""
        return (self.denoise(x, s) - x) / per_sample(as_float64(s).square(), x)

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """Return the flow of x from ratio `start` to `end`, downwards or upwards; see :func:`integrate`."""
        return integrate(self.denoise, x, start, end)

    def given(self, labels: Tensor | int | None) -> Prior:
        """Return the prior of samples of these classes `(B,)`, or of one for all: itself where it knows none."""
        return self

    def to(self, device: torch.device | str) -> Self:
        """Return the prior with its tensors on a device; on the CPU for one without float64 (mps)."""
        device = torch.device("cpu" if torch.device(device).type == "mps" else device)
        tensors: dict[str, Any] = self.tensors()
        if all(value.device == device for value in tensors.values()):
            return self
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that it consists of, by name."""
        named = {one.name: getattr(self, one.name) for one in fields(self) if not one.name.startswith("held")}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}

    @property
    def numbers(self) -> int:
        """How many numbers it consists of."""
        return sum(value.numel() for value in self.tensors().values())

    def _flat(self, x: Tensor) -> Tensor:
        """Return x as float64 `(B, d)` where the prior is."""
        if tuple(x.shape[1:]) != self.shape:
            raise PriorError(
                f"the prior is for samples of shape {self.shape}, and these have {tuple(x.shape[1:])}; fit one to data "
                "of that shape: proxdm prior fit"
            )
        return as_float64(x).reshape(x.shape[0], -1)


def integrate(
    denoiser: Callable[[Tensor, float], Tensor], x: Tensor, start: float, end: float, steps: int | None = None
) -> Tensor:
    """Return the probability flow of a denoiser `D(x, s)` from ratio `start` to `end`.

    Downwards by DPM-Solver++(2M), upwards by Heun's method, in equal steps of log s; `end` = 0 returns the denoised
    samples after steps down to a thousandth of `start`.

    Args:
        denoiser: `(x, s) -> D`.
        x: States at `start`, `(B, *)`.
        start: Ratio, positive and finite.
        end: Ratio, at least 0.
        steps: Their number; by default 3 for every factor e, and at least 2.

    Raises:
        PriorError: A ratio is out of its range.
    """
    if not (0 < start < math.inf and 0 <= end < math.inf):
        raise PriorError(f"the flow goes from a positive to a nonnegative ratio, and not from {start:g} to {end:g}")
    last = end or start / 1000
    length = math.log(start / last)
    count = steps or max(2, math.ceil(STEPS_PER_E_FOLD * abs(length)))
    h, s, before = length / count, start, None
    for _ in range(count):
        denoised, after = denoiser(x, s), s * math.exp(-h)
        if h > 0:
            used = denoised if before is None else denoised + (denoised - before) / 2
            x, before = after / s * x - math.expm1(-h) * used, denoised
        else:
            euler = after / s * x - math.expm1(-h) * denoised
            slope = (x - denoised) / s + (euler - denoiser(euler, after)) / after
            x = x + (after - s) / 2 * slope
        s = after
    return denoiser(x, s) if end == 0 else x


def warm_start(prior: Prior, z: Tensor, s: float) -> Tensor:
    """Return samples of the prior at ratio s, in hat coordinates, that its flow makes of standard normal noise.

    What infinitely many steps of a sampler would make of z on the prior, from infinite noise down to s: no evaluation
    of a network. Prior work: Wang and Vastola (arXiv 2412.09726), for Gaussians.

    Args:
        prior: The prior.
        z: Standard normal numbers, `(B, *)`.
        s: Where to stop, positive.
    """
    far = max(prior.farthest, s)
    return prior.flow(far * z, far, s)


def bootstrap(prior: Prior, x: Tensor, s: float, virtual: float) -> Tensor:
    """Return `D(Phi(x; s -> virtual), virtual)`: what a denoiser would have said one step earlier, at `virtual` > s.

    Args:
        prior: The prior.
        x: States at ratio s, hat coordinates, `(B, *)`.
        s: Where they are.
        virtual: Ratio of the step before.
    """
    return prior.denoise(prior.flow(x, s, virtual), virtual)


@dataclass(frozen=True, eq=False)
class DenoiserPrior(Prior):
    """Any cheap denoiser as a prior, such as a small network (T-Stitch, arXiv 2402.14167, does so without a history).

    Attributes:
        model: Has `denoise` or `score`, and a schedule.
        steps: Evaluations of a warm start.
    """

    model: Model
    steps: int = 20

    @property
    def farthest(self) -> float:
        """The ratio of the model's t = 1, at most 200."""
        return min(200.0, float(self.model.schedule.ratio(1.0)))

    def denoise(self, x: Tensor, s: Time) -> Tensor:
        """Return the model's `E[x_0 | x]` at the time of ratio s."""
        self._flat(x)
        schedule = self.model.schedule
        t = schedule.time_of_ratio(as_float64(s)).clamp(max=1.0)
        shown = (x * per_sample(schedule.alpha(t), x)).to(self.model.dtype)
        with torch.no_grad():
            return denoise(self.model, shown, t.to(x.device).expand(len(x))).to(x.dtype)

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """Return the flow; downwards in `steps` steps, upwards, where the way is short, in 2 of Heun."""
        return integrate(self.denoise, x, start, end, self.steps if end < start else 2)


def describe(prior: Prior) -> dict[str, Any]:
    """Return what is said of a prior in results: its kind, sizes and the pictures behind it."""
    return {
        "kind": type(prior).__name__,
        **{name: getattr(prior, name) for name in ("components", "directions", "rank") if hasattr(prior, name)},
        "images": prior.facts.count,
        "fingerprint": prior.facts.fingerprint[:16],
    }
