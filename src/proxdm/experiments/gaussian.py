r"""Samplers on a Gaussian target, in closed form: the law of their output.

The data follow `N(mu, C)`. Everything acts in each eigen-direction of C by itself, so a target is given in those
directions, by means `mu_i` and standard deviations `sigma_i`, and a diagonal C is no restriction. At time t a direction
follows `N(m, v)`, `m = alpha mu_i`, `v = alpha^2 sigma_i^2 + sigma^2` (notation of :mod:`proxdm.schedules`), and

$$D(x, t) = \mu_i + \frac{\alpha \sigma_i^2}{v} (x - m), \qquad
\nabla\log p_t(x) = -\frac{x - m}{v}, \qquad
\mathrm{prox}_{-\mathrm{lam}\,\log p_t}(y) = \frac{v\,y + \mathrm{lam}\,m}{v + \mathrm{lam}} .$$

All three are affine, and so is the output of any sampler made of them, whatever it remembers from step to step:

$$x_0 = \mathrm{slope}\;x_T + \mathrm{offset} + \sum_k c_k z_k ,$$

x_T its start, `z_1, z_2, ...` the noise that it draws. The sampler itself is run on impulses to find the coefficients
(:func:`respond`). A Gaussian stays Gaussian, with mean `slope mean + offset` and variance
`slope^2 variance + sum c_k^2`: nothing is drawn at random, and the distances are exact to float64.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm.grids import TimeGrid
from proxdm.operators import CPU
from proxdm.samplers import Sampler, SamplerState, solve
from proxdm.schedules import Schedule, Time

AFFINE = 1e-5
"""Relative error of the superposition of impulses, above which a map is not affine (some libraries use float32)."""


@dataclass(frozen=True)
class GaussianTarget:
    """A Gaussian `N(mu, C)` in the eigen-directions of C."""

    name: str  # Name in results and figures
    mean: tuple[float, ...]  # mu in those directions
    std: tuple[float, ...]  # Square roots of the eigenvalues of C, positive

    @property
    def formula(self) -> str:
        """The target in words, e.g. `N(0.5, 0.5²) in each of 2 directions`."""
        pairs = list(zip(self.mean, self.std, strict=True))
        if len(set(pairs)) == 1:
            mean, std = pairs[0]
            each = f" in each of {len(pairs)} directions" if len(pairs) > 1 else ""
            return f"N({mean:g}, {std:g}²){each}"
        means, stds = ("(" + ", ".join(f"{value:g}" for value in values) + ")" for values in (self.mean, self.std))
        return f"N(μ, diag(σ²)), μ = {means}, σ = {stds}"

    def law(self, t: Time, schedule: Schedule) -> NormalLaw:
        """Return p_t."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        return NormalLaw(schedule.alpha(t) * mean, schedule.alpha_bar(t) * std.square() + schedule.noise_variance(t))


@dataclass(frozen=True)
class GaussianModel:
    """The exact operators of a Gaussian target, float64; all samples of a call share one time."""

    target: GaussianTarget  # The data
    schedule: Schedule  # How they turn into noise
    weight: Tensor | float = 1.0  # What the mean is multiplied with, `(B, 1)` or a number: 0 for data around 0
    device: torch.device = CPU
    dtype: torch.dtype = torch.float64

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """Return `mu + alpha sigma_i^2 / v (x - m)`, of the shape of x, `(B, d)`."""
        law, alpha = self.target.law(t[0], self.schedule), self.schedule.alpha(t[0])
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (self.target.mean, self.target.std))
        return self.weight * mean + alpha * std.square() / law.variance * (x - self.weight * law.mean)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Return `(m - x) / v`, of the shape of x, `(B, d)`."""
        law = self.target.law(t[0], self.schedule)
        return (self.weight * law.mean - x) / law.variance

    def prox(self, x: Tensor, t: Tensor, lam: Tensor) -> Tensor:
        """Return `(v x + lam m) / (v + lam)`, of the shape of x, `(B, d)`."""
        law = self.target.law(t[0], self.schedule)
        return (law.variance * x + lam[0] * self.weight * law.mean) / (law.variance + lam[0])


@dataclass(frozen=True)
class NormalLaw:
    """A normal law with independent directions."""

    mean: Tensor  # float64 `(d,)`
    variance: Tensor  # float64 `(d,)`, at least 0

    def kl(self, other: NormalLaw) -> float:
        """Return KL(self || other), `1/2 sum((m - m')^2 / v' + r - 1 - log r)`, `r = v / v'`.

        It is infinite where a law has no density (a variance of 0) or a variance has overflowed.
        """
        excess = (self.variance - other.variance) / other.variance
        shift = (self.mean - other.mean).square() / other.variance
        value = float((shift + excess - torch.log1p(excess)).sum() / 2)
        return math.inf if math.isnan(value) else value

    def w2(self, other: NormalLaw) -> float:
        """Return W2, `sqrt(sum((m - m')^2 + (sqrt(v) - sqrt(v'))^2))` (the covariances commute)."""
        spread = self.variance.sqrt() - other.variance.sqrt()
        return float(((self.mean - other.mean).square() + spread.square()).sum().sqrt())

    def distances(self, target: NormalLaw) -> dict[str, float]:
        """Return `kl` = KL(self || target) and `kl_reverse` in nats, infinite without a density, and `w2`."""
        return {"kl": self.kl(target), "kl_reverse": target.kl(self), "w2": self.w2(target)}


@dataclass(frozen=True)
class Response:
    """What a sampler does in each direction of a Gaussian target: `x' = slope x + offset + noise`."""

    slope: Tensor  # float64 `(d,)`
    offset: Tensor  # float64 `(d,)`
    variance: Tensor  # Of the noise that it adds, float64 `(d,)`
    nfe: int  # Evaluations that it takes
    before: Tensor  # Offset and slope one step before the end, float64 `(2, d)`

    def apply(self, law: NormalLaw) -> NormalLaw:
        """Return the law of the output for a law of the start."""
        return NormalLaw(self.slope * law.mean + self.offset, self.slope.square() * law.variance + self.variance)


class _Impulses:
    """Starts and noise of which row i is 1 at input i alone, row -1 at every input.

    Inputs: the mean of the data (which is the model's business), the start, the draws of noise.
    """

    def __init__(self, draws: int, dimension: int, unit: float) -> None:
        self.shape, self.unit, self.drawn = (draws + 3, dimension), unit, 0

    def initial(self) -> Tensor:
        return self._one(1) * self.unit

    def step(self, t: float, s: float) -> Tensor:
        self.drawn += 1
        return self._one(self.drawn + 1)

    def _one(self, row: int) -> Tensor:
        rows = torch.arange(self.shape[0])[:, None]
        return ((rows == row) | (rows == self.shape[0] - 1)).to(torch.float64).expand(self.shape)


def respond(sampler: Sampler, target: GaussianTarget, schedule: Schedule, grid: TimeGrid) -> Response:
    """Return the affine map of a sampler, which is run on impulses: on the mean, the start, and every draw of noise."""
    unit = 1 / float(schedule.initial_std(grid.times[0]))
    draws = grid.steps if sampler.stochastic else 0
    while True:
        noise = _Impulses(draws, len(target.std), unit)
        mean = torch.zeros(draws + 3, 1, dtype=torch.float64)
        mean[0] = mean[-1] = 1.0
        states = deque[SamplerState](maxlen=2)
        last = solve(sampler, GaussianModel(target, schedule, mean), grid, noise, callback=states.append)
        if noise.drawn <= draws:
            break
        draws = noise.drawn  # more than it said: once more, with an impulse for each
    parts = last.x[:-1]
    if not torch.allclose(parts.sum(0), last.x[-1], rtol=0, atol=AFFINE * float(parts.abs().sum(0).max())):
        raise ValueError(f"{sampler!r} is not affine on a Gaussian target, so that the law of its output is not known")
    return Response(last.x[1], last.x[0], parts[2:].square().sum(0), last.nfe, states[0].x[:2])


def respond_last(
    sampler: Sampler, target: GaussianTarget, schedule: Schedule, grid: TimeGrid, whole: Response
) -> Response | None:
    """Return the affine map of the last step alone; None if it needs what was before, a history."""
    try:
        alone = respond(sampler, target, schedule, TimeGrid.custom(grid.times[-2:]))
    except ValueError:  # a sampler of another library that takes its own times only
        return None
    expected = alone.slope * whole.before
    expected[0] += alone.offset
    same = torch.allclose(expected, torch.stack([whole.offset, whole.slope]), rtol=1e-9, atol=1e-12)
    return alone if same else None
