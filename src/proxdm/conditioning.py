r"""Training draws of `t` and of `(t, lam)`, from the grids and rules that sampling uses.

A score network is trained at `t` (the time it is evaluated at). A prox network is trained at `(s, lam)`: the time a
step *lands on* and the weight the rule gives that step, `lam = coefficients(t, s).lam`. Both come from
:class:`proxdm.grids.TimeGrid` and :meth:`proxdm.samplers.ProxSampler.coefficients`, the functions the samplers call, so
training and sampling cannot drift apart.

Two kinds of draws:

- `knots`: N from the step candidates with their weights, then one interval of the N-step grid, uniformly. Prox: the
  uniform grid, `s = i/N`, `t = (i + 1)/N` (arXiv 2507.08956, Sec. 3.3 and appendix). Score: a time of
  `linspace(1, eps, N)` (the paper's "subset" models).
- `continuous`: score, `t ~ U(0, 1)`. Prox, N log-uniform between the smallest and the largest candidate, i uniform,
  rho uniform, `s = (i/N)^rho`, `t = ((i + 1)/N)^rho`: then any grid may be chosen at sampling time.

Everything is float64 on the CPU; the caller moves and casts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from proxdm.errors import check_choices
from proxdm.grids import TimeGrid
from proxdm.samplers import Sampler, find_sampler
from proxdm.schedules import VPSDE, Schedule


@dataclass(frozen=True)
class ConditioningConfig:
    """Where a network is trained: its draws of `t`, or of `(t, lam)`."""

    # Prox models: the rule whose steps are drawn, e.g. `prox-hybrid`. None for score models.
    rule: str | None = "prox-hybrid"
    draw: Literal["knots", "continuous"] = "knots"  # `knots` (of the grids with the step counts below) or `continuous`.
    # Candidates of N; of `continuous` prox draws, the smallest and the largest count. Empty for `continuous` score
    # draws.
    steps: tuple[int, ...] = (5, 10, 20, 50, 100, 1000)
    # Odds of the candidates of `knots`: `uniform`, `log10` (log10 N), `root-P` (N^(1/P), e.g. `root-3`), or one number
    # for each.
    weights: str | tuple[float, ...] = "uniform"
    # Lowest and highest exponent of the grids `(i/N)^rho` of `continuous` prox draws.
    rho: tuple[float, float] = (1.0, 3.0)

    def __post_init__(self) -> None:
        """Reject draws that are not defined, and settings that would be ignored in silence."""
        check_choices(self, "conditioning.")
        if self.rule is not None and (sampler := find_sampler(self.rule)).lam(VPSDE(), 0.5, 0.4) is None:
            raise ValueError(f"{self.rule!r} asks for a {sampler.operator}; its steps have no prox weight to train at")
        if self.rule is None and self.draw == "continuous":
            if self.steps:
                raise ValueError(
                    f"steps = {self.steps} has no effect on continuous draws of a score model: leave it empty, or "
                    "use draw = 'knots'"
                )
        elif not self.steps:
            raise ValueError("steps is empty: give at least one step count, such as 10")
        if any(n < 1 for n in self.steps) or len(set(self.steps)) != len(self.steps):
            raise ValueError(f"steps = {self.steps} must be different whole numbers of at least 1")
        if self.draw == "continuous" and self.weights != "uniform":
            raise ValueError(f"weights = {self.weights!r} has no effect on continuous draws: leave it 'uniform'")
        if (self.draw == "knots" or self.rule is None) and self.rho != (1.0, 3.0):
            raise ValueError(f"rho = {self.rho} has an effect on continuous draws of prox models only: leave it out")
        low, high = self.rho
        if not 0 < low <= high < math.inf:
            raise ValueError(f"rho = {self.rho} must be the lowest and the highest exponent, both positive")
        candidate_weights(self.steps, self.weights)


def candidate_weights(steps: Sequence[int], weights: str | Sequence[float]) -> Tensor:
    """Return the probability of every step candidate, float64 `(len(steps),)`, summing to 1."""
    counts = torch.tensor([float(n) for n in steps], dtype=torch.float64)
    if not isinstance(weights, str):
        odds = torch.tensor([float(w) for w in weights], dtype=torch.float64)
        if len(odds) != len(counts):
            raise ValueError(f"{len(odds)} weights for {len(counts)} step candidates: give one for each")
    elif weights == "uniform":
        odds = torch.ones_like(counts)
    elif weights == "log10":
        odds = counts.log10()
    elif (found := re.fullmatch(r"root-(\d+\.?\d*)", weights)) and float(found[1]) > 0:
        odds = counts ** (1 / float(found[1]))
    else:
        raise ValueError(
            f"unknown weights {weights!r}; use 'uniform', 'log10', 'root-P' such as 'root-3', or one number for each"
        )
    if len(odds) and not (bool((odds >= 0).all()) and 0 < float(odds.sum()) < math.inf):
        raise ValueError(f"weights {odds.tolist()} of the candidates {tuple(steps)} must be at least 0 and not all 0")
    return odds / odds.sum()


@dataclass(frozen=True)
class Conditions:
    """What a batch is trained at: float64 tensors `(B,)` on the CPU."""

    t: Tensor  # The time of x_t, which the network is told: of a prox step, the time it lands on
    lam: Tensor | None = None  # Prox weight; None for score models
    leaving: Tensor | None = None  # The time the step leaves, above `t`; None for score models

    def __getitem__(self, rows: slice | Tensor) -> Conditions:
        """Return the conditions of some samples of the batch."""
        return Conditions(self.t[rows], *(None if one is None else one[rows] for one in (self.lam, self.leaving)))


class Draws(Protocol):
    """A distribution of training conditions."""

    def draw(self, count: int, generator: torch.Generator) -> Conditions:
        """Return `count` independent draws; `generator` is a CPU generator."""
        ...


class UniformTimes:
    """Score: `t ~ U(0, 1)` (arXiv 2507.08956, appendix)."""

    def draw(self, count: int, generator: torch.Generator) -> Conditions:
        """Return `count` independent times."""
        return Conditions(torch.rand(count, generator=generator, dtype=torch.float64))


class Knots:
    """N from candidates (`steps`) with their weights, then one of the N knots of its grid, uniformly."""

    def __init__(self, knots: Conditions, steps: Sequence[int], weights: Tensor) -> None:
        self.knots, self.sizes, self.weights = knots, torch.tensor(steps), weights
        self.starts = self.sizes.cumsum(0) - self.sizes

    def draw(self, count: int, generator: torch.Generator) -> Conditions:
        """Return `count` independent knots, exactly the numbers that the samplers use."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        sizes = self.sizes[chosen]
        inside = (torch.rand(count, generator=generator, dtype=torch.float64) * sizes).long().clamp(max=sizes - 1)
        return self.knots[self.starts[chosen] + inside]


class FreeSteps:
    """Prox steps of every power grid: N log-uniform, i uniform, rho uniform, `s = (i/N)^rho`, `t = ((i + 1)/N)^rho`."""

    def __init__(self, rule: Sampler, schedule: Schedule, steps: tuple[int, int], rho: tuple[float, float]) -> None:
        self.rule, self.schedule, self.steps, self.rho = rule, schedule, steps, rho
        rule.check(schedule, TimeGrid.power(steps[0], rho[1]))  # its steps are the longest

    def draw(self, count: int, generator: torch.Generator) -> Conditions:
        """Return `count` independent steps."""
        u = torch.rand(3, count, generator=generator, dtype=torch.float64)
        low, high = self.steps
        n = (low * ((high + 1) / low) ** u[0]).floor().clamp(low, high)
        i = (u[1] * n).floor().clamp(max=n - 1)
        rho = self.rho[0] + (self.rho[1] - self.rho[0]) * u[2]
        s, t = (i / n) ** rho, ((i + 1) / n) ** rho
        return Conditions(s, self.rule.lam(self.schedule, t, s), t)


def make_draws(config: ConditioningConfig, schedule: Schedule) -> Draws:
    """Return the training draws of a configuration."""
    if config.draw == "knots":
        return Knots(all_knots(config, schedule), config.steps, candidate_weights(config.steps, config.weights))
    if config.rule is None:
        return UniformTimes()
    return FreeSteps(find_sampler(config.rule), schedule, (min(config.steps), max(config.steps)), config.rho)


def all_knots(config: ConditioningConfig, schedule: Schedule) -> Conditions:
    """Return the conditions of the N steps of its usual grid for one step candidate after the other."""
    sampler = find_sampler(config.rule or "euler-maruyama")
    grids = [sampler.grid(schedule, n) for n in config.steps]
    for grid in grids:
        sampler.check(schedule, grid)
    t, s = (torch.cat([grid.times[part] for grid in grids]) for part in (slice(-1), slice(1, None)))
    return Conditions(t) if config.rule is None else Conditions(s, sampler.lam(schedule, t, s), t)


FAR = 10.0
"""Factor on the weights lam of the training beyond which a network is asked far from it."""


@dataclass(frozen=True)
class TrainingRange:
    """The `(t, lam)` a network was trained at."""

    config: ConditioningConfig  # Its draws
    schedule: Schedule  # How data turn into noise

    def covers(self, t: Tensor, lam: Tensor | None = None) -> Tensor:
        """Return, for each `t` (and `lam`) `(B,)`, whether the network was trained there: bool `(B,)`.

        `knots`: the pair is a knot, to 1e-6 relative. `continuous`: t in [0, 1], and lam between the smallest and the
        largest that the draws can give at that t.
        """
        t = t.to(torch.float64)
        if self.config.rule is not None and lam is None:
            raise ValueError("a prox model is trained at (t, lam): give lam as well")
        if self.config.draw == "knots":
            known = all_knots(self.config, self.schedule)
            near = (t[:, None] - known.t).abs() <= 1e-6
            if known.lam is not None and lam is not None:
                near &= (lam.to(torch.float64)[:, None] - known.lam).abs() <= 1e-6 * known.lam
            return near.any(1)
        inside = (t >= 0) & (t <= 1)
        if self.config.rule is None or lam is None:
            return inside
        # The smallest and the largest lam of steps that land on t, up to the spacing of rho: those of the grids with
        # the most and the fewest steps. A step that would leave the unit interval starts at 1.
        rho = torch.linspace(*self.config.rho, 33, dtype=torch.float64)[:, None]
        ends = torch.stack([(t.clamp(0, 1) ** (1 / rho) + 1 / n).clamp(max=1.0) ** rho for n in self.config.steps])
        weights = find_sampler(self.config.rule).lam(self.schedule, ends, t.expand_as(ends))
        assert weights is not None
        low, high = weights.flatten(0, 1).aminmax(dim=0)
        return inside & (lam >= low * (1 - 1e-6)) & (lam <= high * (1 + 1e-6))

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least and largest t, least and largest lam (1, 1 of score models) of all draws."""
        if self.config.draw == "knots":
            known = all_knots(self.config, self.schedule)
            t, lam = known.t, known.lam
        else:
            few = make_draws(self.config, self.schedule).draw(10_000, torch.Generator().manual_seed(0))
            t, lam = torch.tensor([0.0, 1.0]), few.lam
        weights = torch.ones(1) if lam is None else lam
        return float(t.min()), float(t.max()), float(weights.min()), float(weights.max())

    def describe_far(self, t: Tensor, lam: Tensor) -> str | None:
        """Return one line if a prox is asked for far from all that was trained: :data:`FAR` times lam, or 0.1 in t."""
        first, last, low, high = self.bounds
        for name, values, least, most, far in (
            ("lam", lam, low, high, (lam < low / FAR) | (lam > high * FAR)),
            ("t", t, first, last, (t < first - 0.1) | (t > last + 0.1)),
        ):
            if bool(far.any()):
                return (
                    f"the prox is asked for at {name} = {float(values[far][0]):.3g}, and the network was trained at "
                    f"{name} from {least:.3g} to {most:.3g}: expect nothing of it there"
                )
        return None

    def describe_unseen(self, sampler: Sampler, grid: TimeGrid) -> str | None:
        """Return one line on the steps of a sampler that the network was not trained for, or None if there are none."""
        t, s = grid.times[:-1], grid.times[1:]
        lam = None if self.config.rule is None else sampler.lam(self.schedule, t, s)
        if self.config.rule is not None and lam is None:
            return None
        seen = self.covers(t if lam is None else s, lam)
        if bool(seen.all()):
            return None
        count, first = int((~seen).sum()), int(torch.nonzero(~seen)[0, 0])
        trained = f"steps {', '.join(map(str, self.config.steps))}" if self.config.steps else "t in [0, 1]"
        return (
            f"{count} of the {grid.steps} steps of {sampler} on {grid.name} lie outside what the network was trained "
            f"on ({self.config.draw} draws, {trained}), the first from t = {float(t[first]):g} to {float(s[first]):g}"
        )
