r"""Samplers: one loop over a time grid around the pure steps of :mod:`proxdm.rules`.

A :class:`ScoreSampler` takes a score `(x, t) -> tensor`, a :class:`ProxSampler` a proximal operator
`(x, t, lam) -> tensor`; neither knows what kind of model stands behind it. `x` has shape `(B, *)`, `t` and `lam`
have shape `(B,)`. The loop owns noise, the count of network evaluations (NFE), progress and `no_grad`;
coefficients are float64 numbers, applied in the dtype of `x`.

:func:`sample` is the short way: model, sampler name, number of steps, shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor
from tqdm import tqdm

from proxdm.errors import NonFiniteError, OperatorError, StepError
from proxdm.grids import TimeGrid
from proxdm.noise import GeneratorNoise, NoiseSource
from proxdm.rules import ProxRule, Quadrature, Rule, ScoreRule, find_rule
from proxdm.schedules import VPSDE

ScoreFunction = Callable[[Tensor, Tensor], Tensor]
"""`score(x, t)`: x `(B, *)`, t `(B,)`; returns the gradient of log p_t at x, of the shape of x."""

ProxFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`prox(x, t, lam)`: x `(B, *)`, t and lam `(B,)`; returns the prox of `-lam log p_t` at x."""

Operator = TypeVar("Operator", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class SamplerState:
    """Where a sampler stands.

    Attributes:
        step: Steps done, 0 (x is x_T) to N.
        steps: N.
        t: The time reached.
        x: The samples at that time, `(B, *)`.
        nfe: Operator evaluations per sample so far.
    """

    step: int
    steps: int
    t: float
    x: Tensor
    nfe: int


Callback = Callable[[SamplerState], None]


class Counted:
    """An operator that counts its calls: the measured NFE."""

    def __init__(self, operator: Callable[..., Tensor]) -> None:
        self.operator = operator
        self.calls = 0

    def __call__(self, *arguments: Tensor) -> Tensor:
        """Count and pass on."""
        self.calls += 1
        return self.operator(*arguments)


class Sampler(ABC, Generic[Operator]):
    """The loop that every sampler shares; a subclass adds one pure step.

    Args:
        grid: Times to go through.
        name: Name for progress and messages.
        noise: Noise coefficient of every step; 0 for a step without noise.
        last_noise: Whether the last step uses its noise.
    """

    def __init__(self, grid: TimeGrid, name: str, noise: Sequence[float], *, last_noise: bool) -> None:
        self.grid = grid
        self.name = name
        self._noise = list(noise)
        if not last_noise:
            self._noise[-1] = 0.0

    @abstractmethod
    def step(self, operator: Operator, x: Tensor, index: int, z: Tensor | None) -> Tensor:
        """Return the samples after step `index` (0 is the first), a pure function of its arguments.

        Args:
            operator: Score or proximal operator.
            x: Samples at the time the step leaves, `(B, *)`.
            index: Number of the interval in the grid.
            z: Standard normal noise of the shape of x, or None for a step without noise.
        """

    def needs_noise(self, index: int) -> bool:
        """Return whether step `index` uses noise."""
        return self._noise[index] != 0

    def trajectory(self, operator: Operator, noise: NoiseSource, *, progress: bool = False) -> Iterator[SamplerState]:
        """Yield the state before the first step and after every step: N + 1 states.

        Args:
            operator: Score or proximal operator.
            noise: Source of x_T and of the noise of every step.
            progress: Show a progress bar (only where there is a terminal).

        Raises:
            NonFiniteError: The last samples contain NaN or infinite numbers.
        """
        counted = Counted(operator)
        x = noise.initial()
        pairs = self.grid.pairs()
        yield SamplerState(0, len(pairs), pairs[0][0], x, 0)
        bar = tqdm(pairs, desc=self.name, unit="step", leave=False, disable=None if progress else True)
        for index, (t, s) in enumerate(bar):
            z = noise.step(t, s) if self.needs_noise(index) else None
            # Not around the loop: a context held across a yield would leak into the caller.
            with torch.no_grad():
                x = self.step(cast(Operator, counted), x, index, z)
            if index == len(pairs) - 1:
                _require_finite(x, self.name)
            yield SamplerState(index + 1, len(pairs), s, x, counted.calls)

    def sample(
        self, operator: Operator, noise: NoiseSource, *, callback: Callback | None = None, progress: bool = False
    ) -> SamplerState:
        """Run all steps and return the last state: samples and measured NFE.

        Args:
            operator: Score or proximal operator.
            noise: Source of x_T and of the noise of every step.
            callback: Called with every state, the first (x_T) included.
            progress: Show a progress bar (only where there is a terminal).

        Raises:
            NonFiniteError: The last samples contain NaN or infinite numbers.
        """
        for state in self.trajectory(operator, noise, progress=progress):
            if callback is not None:
                callback(state)
        return state


class ScoreSampler(Sampler[ScoreFunction]):
    r"""`x' = drift x + score s(x, t) + noise z` over a grid (arXiv 2507.08956, Sec. 2).

    Args:
        rule: A score rule, e.g. `RULES["euler-maruyama"]`.
        grid: Times to go through; None of the score samplers evaluates the score at the last time.
        sde: Forward process.
        last_noise: Whether the last step uses noise; the paper's denoising sampler does not.
        quadrature: Overrides the rule's choice of gamma.
    """

    def __init__(
        self,
        rule: ScoreRule,
        grid: TimeGrid,
        sde: VPSDE | None = None,
        *,
        last_noise: bool = False,
        quadrature: Quadrature | None = None,
    ) -> None:
        step = rule.coefficients(sde or VPSDE(), grid.times[:-1], grid.times[1:], quadrature)
        super().__init__(grid, rule.name, step.noise.tolist(), last_noise=last_noise)
        self._drift, self._score = step.drift.tolist(), step.score.tolist()

    def step(self, operator: ScoreFunction, x: Tensor, index: int, z: Tensor | None) -> Tensor:
        """Return `drift x + score s(x, t) + noise z`."""
        t = float(self.grid.times[index])
        out: Tensor = self._drift[index] * x + self._score[index] * operator(x, _per_sample_value(t, x))
        return out if z is None else out + self._noise[index] * z


class ProxSampler(Sampler[ProxFunction]):
    r"""`x' = prox(scale x + noise z, s, lam)` over a grid (arXiv 2507.08956, Sec. 3).

    Args:
        rule: A proximal rule, e.g. `RULES["prox-hybrid"]`.
        grid: Times to go through; the prox is evaluated at every time but the first.
        sde: Forward process.
        last_noise: Whether the last step uses noise; the paper's samplers do.
        quadrature: Overrides the rule's choice of gamma.

    Raises:
        StepError: A step is not defined on the grid; the message says which, why, and what would work.
    """

    def __init__(
        self,
        rule: ProxRule,
        grid: TimeGrid,
        sde: VPSDE | None = None,
        *,
        last_noise: bool = True,
        quadrature: Quadrature | None = None,
    ) -> None:
        schedule = sde or VPSDE()
        check_steps(rule, grid, schedule, quadrature)
        step = rule.coefficients(schedule, grid.times[:-1], grid.times[1:], quadrature)
        super().__init__(grid, rule.name, step.noise.tolist(), last_noise=last_noise)
        self._scale, self._lam = step.scale.tolist(), step.lam.tolist()

    def step(self, operator: ProxFunction, x: Tensor, index: int, z: Tensor | None) -> Tensor:
        """Return `prox(scale x + noise z, s, lam)`."""
        y = self._scale[index] * x
        if z is not None:
            y = y + self._noise[index] * z
        s = float(self.grid.times[index + 1])
        return operator(y, _per_sample_value(s, x), _per_sample_value(self._lam[index], x))


def check_steps(rule: Rule, grid: TimeGrid, sde: VPSDE, quadrature: Quadrature | None = None) -> None:
    """Check that the rule defines every step of the grid.

    Raises:
        StepError: It does not; the message names the step, the value, the limit, and the smallest N of the same
            kind of grid that works.
    """
    if isinstance(rule, ScoreRule):
        return

    def problem(candidate: TimeGrid) -> str | None:
        return rule.undefined(sde, candidate.times[:-1], candidate.times[1:], quadrature)

    message = problem(grid)
    if message is None:
        return
    finer = (grid.with_steps(n) for n in range(grid.steps + 1, grid.steps + 1001))
    works = next((g for g in finer if g is not None and problem(g) is None), None)
    remedy = "use a finer grid" if works is None else f"use N = {works.steps} steps or more"
    raise StepError(f"{message}; {remedy}, or prox-hybrid, which is defined for every N")


def default_grid(rule: Rule, steps: int) -> TimeGrid:
    """Return the grid of the paper's code: denoising (eps 1e-3) for score rules, uniform to 0 for prox rules."""
    return TimeGrid.denoising(steps) if isinstance(rule, ScoreRule) else TimeGrid.uniform(steps)


class Model(Protocol):
    """What :func:`sample` needs of a model, besides the operator its sampler takes: `score` or `prox`."""

    @property
    def sde(self) -> VPSDE:
        """Forward process."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of its samples."""
        ...


def score_of(model: Model) -> ScoreFunction:
    """Return `model.score`.

    Raises:
        OperatorError: It has none.
    """
    score: ScoreFunction | None = getattr(model, "score", None)
    if score is None:
        raise OperatorError(
            f"a score sampler needs a model with .score(x, t), and {type(model).__name__} has none; "
            "use a prox sampler (prox-hybrid, prox-backward, prox-ode)"
        )
    return score


def prox_of(model: Model) -> ProxFunction:
    """Return `model.prox`.

    Raises:
        OperatorError: It has none.
    """
    prox: ProxFunction | None = getattr(model, "prox", None)
    if prox is None:
        raise OperatorError(
            f"a prox sampler needs a model with .prox(x, t, lam), and {type(model).__name__} has none; "
            "use a score sampler (euler-maruyama, ode-euler)"
        )
    return prox


def run(
    model: Model,
    rule: str | Rule,
    grid: TimeGrid,
    noise: NoiseSource,
    *,
    last_noise: bool | None = None,
    quadrature: Quadrature | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> SamplerState:
    """Sample with a rule on a grid from a noise source and return the last state (samples and NFE).

    Args:
        model: Has the operator that the rule takes, and an `sde`.
        rule: A rule or its name.
        grid: Times to go through.
        noise: Source of x_T and of the noise of every step.
        last_noise: Whether the last step uses noise; by default score rules do not and prox rules do.
        quadrature: Overrides the rule's choice of gamma.
        callback: Called with every state.
        progress: Show a progress bar (only where there is a terminal).

    Raises:
        StepError: A step is not defined on the grid.
        OperatorError: The model lacks the operator.
        NonFiniteError: The samples contain NaN or infinite numbers.
    """
    chosen = find_rule(rule) if isinstance(rule, str) else rule
    if isinstance(chosen, ScoreRule):
        last = False if last_noise is None else last_noise
        score_sampler = ScoreSampler(chosen, grid, model.sde, last_noise=last, quadrature=quadrature)
        return score_sampler.sample(score_of(model), noise, callback=callback, progress=progress)
    last = True if last_noise is None else last_noise
    prox_sampler = ProxSampler(chosen, grid, model.sde, last_noise=last, quadrature=quadrature)
    return prox_sampler.sample(prox_of(model), noise, callback=callback, progress=progress)


def sample(
    model: Model,
    sampler: str | Rule,
    steps: int | None = None,
    shape: Sequence[int] | None = None,
    *,
    generator: torch.Generator | None = None,
    grid: TimeGrid | None = None,
    noise: NoiseSource | None = None,
    last_noise: bool | None = None,
    quadrature: Quadrature | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> Tensor:
    """Draw samples.

    With one generator the random numbers are drawn in the order of the paper's code: x_T first, then one tensor
    for every step that uses noise.

    Args:
        model: A ScoreModel, a ProxModel or a GaussianMixture.
        sampler: Name of a rule, e.g. `prox-hybrid`, or a rule.
        steps: N. The grid is then the denoising grid (eps 1e-3) for score samplers and the uniform grid to 0 for
            prox samplers. Leave it out with `grid`.
        shape: Shape of the batch, `(B, *)`. Leave it out with `noise`.
        generator: Source of all random numbers; torch's global one by default.
        grid: Times to go through, instead of `steps`.
        noise: Source of x_T and of every step's noise, instead of `shape` and `generator`.
        last_noise: Whether the last step uses noise; by default score samplers do not and prox samplers do.
        quadrature: Overrides the rule's choice of gamma: `left` or `integral`.
        callback: Called with the :class:`SamplerState` before the first step and after every step.
        progress: Show a progress bar (only where there is a terminal).

    Returns:
        The samples, of that shape, on the model's device.

    Raises:
        ValueError: `steps` and `grid` disagree or neither is given; likewise `shape` and `noise`.
        StepError: A step is not defined on the grid.
        OperatorError: The model lacks the operator that the sampler takes.
        NonFiniteError: The samples contain NaN or infinite numbers.
    """
    rule = find_rule(sampler) if isinstance(sampler, str) else sampler
    if grid is None:
        if steps is None:
            raise ValueError("give steps=N or grid=TimeGrid...")
        grid = default_grid(rule, steps)
    elif steps is not None and steps != grid.steps:
        raise ValueError(f"steps = {steps}, but the grid {grid.name} has {grid.steps} steps; leave steps out")
    if noise is None:
        if shape is None:
            raise ValueError("give shape=(B, ...) or noise=NoiseSource")
        noise = GeneratorNoise(shape, generator, dtype=model.dtype, device=model.device)
    elif shape is not None or generator is not None:
        raise ValueError("noise= already fixes shape and random numbers; leave shape and generator out")
    state = run(
        model,
        rule,
        grid,
        noise,
        last_noise=last_noise,
        quadrature=quadrature,
        callback=callback,
        progress=progress,
    )
    return state.x


def _per_sample_value(value: float, x: Tensor) -> Tensor:
    """Return `value` once per sample, in the dtype of x but never below float32, where times would be rounded."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.full((x.shape[0],), value, dtype=dtype, device=x.device)


def _require_finite(x: Tensor, name: str) -> None:
    finite = torch.isfinite(x).flatten(1).all(1)
    if not finite.all():
        bad = int((~finite).sum())
        raise NonFiniteError(
            f"{bad} of {len(x)} samples of {name} are not finite: look at the model's output along the trajectory "
            "(callback=) or take more steps"
        )
