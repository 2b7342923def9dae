r"""One class of samplers and one loop.

A :class:`Sampler` is a frozen dataclass: its fields are its parameters, and `repr()`, such as `ddim(eta=0.5)`, is its
identity in results and its form on the command line. It goes through the times of a grid by a pure `step` from t to
s < t, which asks the model for evaluations, draws noise when it needs some, and hands whatever it must remember (a
history, another library's state) to the next step as the `carry`. A new sampler is one class::

    @register
    @dataclass(frozen=True)
    class MySampler(Sampler):
        name, operator, formula = "my-sampler", "denoiser", "x' = ..."

        def step(self, ask, x, t, s, z, carry):
            return ..., carry

Training, command line, evaluation and figures know it from the table :data:`SAMPLERS`. :func:`solve` is the only loop:
it owns x_T, noise, the count of network evaluations (NFE), progress and `no_grad`. :func:`sample` is the short way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from proxdm.errors import NonFiniteError
from proxdm.grids import TimeGrid
from proxdm.noise import GeneratorNoise, NoiseSource, SeededNoise, StartedNoise
from proxdm.operators import METHODS, Ask, FunctionModel, Model, Operator, label_indices, of_classes
from proxdm.priors.base import Prior, PriorError, warm_start
from proxdm.priors.gain import few_step_grid, start_for, with_gain
from proxdm.runtime.registry import Registry, check_parameters, format_call, parse_call
from proxdm.schedules import Schedule, Time


@dataclass(frozen=True)
class Sampler(ABC):
    """A way from noise to samples; subclasses are frozen dataclasses whose fields all have defaults.

    Class attributes:
        name: Name in the API, the command line and results.
        operator: What it asks the model for: `denoiser`, `score` or `prox`.
        formula: The update in one line of text, for tables and reports.
        stochastic: Whether its steps may use noise.
        takes_prior: Whether it takes the prior that is stored with a model unless told not to.
    """

    name: ClassVar[str]
    operator: ClassVar[Operator]
    formula: ClassVar[str]
    stochastic: ClassVar[bool] = False
    takes_prior: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        # A dataclass makes a repr of its own where the class has none.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Sampler.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Return the name with the parameters that are not at their defaults: `ddim`, `ddim(eta=0.5)`."""
        changed = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}
        return format_call(self.name, changed)

    def grid(self, schedule: Schedule, steps: int, start: float | None = None) -> TimeGrid:
        """Return the usual times for N = `steps`, from t = 1 or, after a warm start, from the ratio `start`.

        Here the grid `rho` of Karras et al. (2022), after a warm start with the ends of :func:`few_step_grid`.
        """
        return TimeGrid.rho(steps, schedule=schedule) if start is None else few_step_grid(schedule, steps, start)

    def check(self, schedule: Schedule, grid: TimeGrid) -> None:  # noqa: B027 (most samplers take every step)
        """Raise StepError if a step of the grid is not defined, with the step, the value, the limit and the remedy."""

    def lam(self, schedule: Schedule, t: Time, s: Time) -> Tensor | None:
        """Return the prox weight of the step(s) from t to s, where a network can be trained for them; else None."""
        return None

    def evaluations(self, grid: TimeGrid) -> int:
        """Return the evaluations that the grid takes, for estimates; what is reported is counted."""
        return grid.steps

    def init(self, ask: Ask, x: Tensor, grid: TimeGrid) -> Any:
        """Return the carry of the first step.

        Args:
            ask: The model; evaluations here count.
            x: The start, `(B, *)`.
            grid: Times to go through.
        """
        return None

    @abstractmethod
    def step(self, ask: Ask, x: Tensor, t: float, s: float, z: Callable[[], Tensor], carry: Any) -> tuple[Tensor, Any]:
        """Return the samples at s and the carry of the next step.

        Args:
            ask: The model.
            x: Samples at t, `(B, *)`.
            t: Time that the step leaves.
            s: Time that it lands on, below t.
            z: Draws standard normal noise of the shape of x, as often as it is called.
            carry: What :meth:`init` or the step before has handed on.
        """


SAMPLERS: Registry[type[Sampler]] = Registry("sampler")
"""Every sampler by name."""

PREFIXES: dict[str, Callable[[str], Sampler]] = {}
"""Samplers of other libraries by the prefix of their names, such as `diffusers:DDIMScheduler`."""

Kind = TypeVar("Kind", bound=type[Sampler])


def register(kind: Kind) -> Kind:
    """Add a sampler to :data:`SAMPLERS` under its name, and return it: a decorator."""
    SAMPLERS.add(kind.name, kind)
    return kind


def find_sampler(sampler: str | Sampler) -> Sampler:
    """Return the sampler of a text such as `ddim` or `ddim(eta=0.5)`; a sampler is returned as it is.

    Raises:
        ValueError: There is no such sampler or parameter, or a value is out of its range.
    """
    if isinstance(sampler, Sampler):
        return sampler
    name, parameters = parse_call(sampler)
    prefix, _, rest = name.partition(":")
    if rest and prefix in PREFIXES:
        return PREFIXES[prefix](sampler.strip().removeprefix(f"{prefix}:"))
    kind = SAMPLERS.find(name)
    check_parameters(name, parameters, {one.name: one.default for one in fields(kind)})
    return kind(**parameters)


@dataclass(frozen=True)
class SamplerState:
    """Where a sampler stands.

    Attributes:
        step: Steps done, 0 (x is x_T) to N.
        steps: N.
        t: The time reached.
        x: The samples at that time, `(B, *)`.
        nfe: Evaluations per sample so far.
    """

    step: int
    steps: int
    t: float
    x: Tensor
    nfe: int


def solve(
    sampler: str | Sampler,
    model: Model,
    grid: TimeGrid,
    noise: NoiseSource,
    *,
    prior: Prior | None = None,
    callback: Callable[[SamplerState], None] | None = None,
    progress: bool = False,
) -> SamplerState:
    """Go through a grid and return the last state: samples and measured NFE.

    Args:
        sampler: A sampler, or its text.
        model: Has the operator that the sampler asks for, and a `schedule`.
        grid: Times to go through.
        noise: Source of x_T and of the noise of the steps.
        prior: Brings x_T to the first time of the grid, and gives a multistep method its history; without one, samples
            start as noise of the standard deviation of that time.
        callback: Called with every state, the first (x_T) included.
        progress: Show a progress bar (only where there is a terminal).

    Raises:
        StepError: A step is not defined on the grid.
        OperatorError: The model lacks the operator.
        NonFiniteError: The last samples contain NaN or infinite numbers.
    """
    chosen = find_sampler(sampler)
    prior = None if prior is None else prior.to(model.device)
    ask = Ask(model, chosen.operator, prior)
    chosen.check(model.schedule, grid)
    pairs = grid.pairs()
    with torch.no_grad():
        x = start_of(model.schedule, pairs[0][0], noise.initial(), prior)
        carry = chosen.init(ask, x, grid)
    state = SamplerState(0, len(pairs), pairs[0][0], x, ask.calls)
    if callback is not None:
        callback(state)
    bar = tqdm(pairs, desc=repr(chosen), unit="step", leave=False, disable=None if progress else True)
    for index, (t, s) in enumerate(bar, 1):
        with torch.no_grad():
            x, carry = chosen.step(ask, x, t, s, lambda t=t, s=s: noise.step(t, s), carry)  # type: ignore[misc]
        if index == len(pairs):
            _require_finite(x, repr(chosen))
        state = SamplerState(index, len(pairs), s, x, ask.calls)
        if callback is not None:
            callback(state)
    return state


def start_of(schedule: Schedule, t: float, z: Tensor, prior: Prior | None) -> Tensor:
    """Return what a sampler starts from at time t, made of standard normal noise."""
    if prior is not None and not math.isinf(ratio := float(schedule.ratio(t))):
        return float(schedule.alpha(t)) * warm_start(prior, z, ratio)
    start = float(schedule.initial_std(t))
    return z if start == 1 else start * z


def sample(
    model: Model | Callable[..., Tensor],
    sampler: str | Sampler,
    steps: int | None = None,
    shape: Sequence[int] | None = None,
    *,
    schedule: Schedule | None = None,
    grid: TimeGrid | str | None = None,
    prior: Prior | bool | None = None,
    start: float | None = None,
    classes: int | str | Sequence[int | str] = (),
    guidance: float = 1.0,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    noise: NoiseSource | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[SamplerState], None] | None = None,
    progress: bool = False,
) -> Tensor:
    """Draw samples.

    The score of N(0, I) is -x at every time, so that a sampler that makes no error there returns such numbers:

    >>> x = sample(lambda x, t: -x, "ode-euler", 10, (4, 2), schedule=VPSDE(), seed=0)
    >>> x.shape
    torch.Size([4, 2])

    Args:
        model: A ScoreModel, a ProxModel, a GaussianMixture, or anything with a `schedule` and an operator; or, with
            `schedule`, a plain function: `denoise(x, t)`, `score(x, t)` or `prox(x, t, lam)`, by what the sampler asks.
        sampler: A sampler or its text, e.g. `prox-hybrid`, `ddim(eta=0.5)`.
        steps: N. Leave it out with a `grid` that has its own.
        shape: Shape of the batch, `(B, *)`. Leave it out with `noise`.
        schedule: Of a plain function.
        grid: Times to go through, or the text of a family of grids, e.g. `power(rho=3)`; the sampler's own by default.
        prior: Replaces the model down to the first time of the grid, at no evaluation. None is the model's own
            (`model.prior`) for samplers that take one by themselves (`multistep`), True for any sampler, False none.
        start: Ratio sigma / alpha to start from, with a prior; by default where the model begins to be better than
            it (:func:`proxdm.priors.start_for`). A grid is cut at its highest knot there.
        classes: Of a model of classes (`model.classes`), the names or numbers of some, which the samples have in turn;
            by default all in turn. `any` is none in particular.
        guidance: w of classifier-free guidance (:func:`proxdm.operators.of_classes`); 1 asks for the class alone.
        seed: Sample i then depends on (seed, i) alone, not on the batch.
        generator: Source of all random numbers instead, in the order of the paper's code: x_T first, then one tensor
            for every step that uses noise; torch's global one by default.
        noise: Source of x_T and of every step's noise instead of `shape`, `seed` and `generator`.
        device: Where a plain function computes; models know.
        callback: Called with the :class:`SamplerState` before the first step and after every step.
        progress: Show a progress bar (only where there is a terminal).

    Returns:
        The samples, of that shape, on the model's device.

    Raises:
        ValueError: Arguments contradict each other, or one is missing; a start is out of its range; there is no such
            class.
        PriorError: The prior is of another shape or schedule, or the model has none.
        StepError: A step is not defined on the grid.
        OperatorError: The model lacks the operator that the sampler asks for.
        NonFiniteError: The samples contain NaN or infinite numbers.
    """
    chosen = find_sampler(sampler)
    known = _as_model(model, chosen.operator, schedule, device)
    known_prior = choose_prior(known, chosen, prior)
    if known_prior is not None and start is None and not isinstance(grid, TimeGrid):
        known_prior = with_gain(known_prior, known)
    times = choose_grid(chosen, known.schedule, steps, grid, known_prior, start)
    if noise is not None:
        if shape is not None or generator is not None or seed is not None:
            raise ValueError("noise= already fixes shape and random numbers; leave shape, seed and generator out")
    elif shape is None:
        raise ValueError("give shape=(B, ...) or noise=NoiseSource")
    elif seed is None:
        noise = GeneratorNoise(shape, generator, dtype=known.dtype, device=known.device)
    elif generator is not None:
        raise ValueError(f"seed = {seed} and generator= are both sources of random numbers; leave one out")
    else:
        noise = SeededNoise(seed, range(shape[0]), shape[1:], dtype=known.dtype, device=known.device)
    wanted = [classes] if isinstance(classes, int | str) else classes
    if names := getattr(known, "classes", ()):
        noise = StartedNoise(noise)
    labels = label_indices(names, wanted, range(len(noise.initial()) if names else 0))
    asked, prior_of = of_classes(known, labels, guidance), None if known_prior is None else known_prior.given(labels)
    return solve(chosen, asked, times, noise, prior=prior_of, callback=callback, progress=progress).x


def _as_model(
    model: Model | Callable[..., Tensor],
    operator: Operator,
    schedule: Schedule | None,
    device: torch.device | str | None,
) -> Model:
    if hasattr(model, "schedule"):
        if schedule is not None or device is not None:
            raise ValueError(
                f"{type(model).__name__} has a schedule and a device of its own; leave schedule and device out"
            )
        return model  # type: ignore[return-value]  # the operators are checked by Ask
    if schedule is None:
        raise ValueError("a plain function needs its schedule, e.g. schedule=proxdm.VPSDE()")
    where = torch.device(device or "cpu")
    return FunctionModel(schedule, device=where, **{METHODS[operator]: model})  # type: ignore[arg-type]


def choose_prior(model: Model, sampler: Sampler, prior: Prior | bool | None) -> Prior | None:
    """Return the prior that a sampler of a model runs with: see :func:`sample`."""
    own: Prior | None = getattr(model, "prior", None)
    if prior is True and own is None:
        raise PriorError(
            "the model has no prior of its own; fit one with proxdm prior fit, or give prior=fit_prior(images)"
        )
    wanted = sampler.takes_prior if prior is None else prior
    found = own if wanted is True else wanted or None
    if found is not None and (curve := found.curve) is not None and curve.schedule != str(model.schedule):
        raise PriorError(
            f"the start of the prior was found for the schedule {curve.schedule}, and the model's is {model.schedule}; "
            "find it anew: proxdm prior fit"
        )
    return found


def choose_grid(
    sampler: Sampler,
    schedule: Schedule,
    steps: int | None,
    grid: TimeGrid | str | None = None,
    prior: Prior | None = None,
    start: float | None = None,
) -> TimeGrid:
    """Return the times that a sampler goes through: see :func:`sample`."""
    if start is not None and prior is None:
        raise ValueError(f"start = {start:g} needs a prior, which brings the samples there")
    if start is not None and not 0 < start <= (last := float(schedule.ratio(1.0))):
        raise ValueError(f"start = {start:g} must lie in (0, {last:g}], the ratios of {schedule}")
    if isinstance(grid, TimeGrid):
        if steps is not None and steps != grid.steps:
            raise ValueError(f"steps = {steps}, but the grid {grid.name} has {grid.steps} steps; leave steps out")
        return grid if start is None else grid.below(float(schedule.time_of_ratio(start)))
    if steps is None:
        raise ValueError("give steps=N or grid=TimeGrid...")
    if start is None and prior is not None:
        start = start_for(prior.curve, steps)
    if grid is None:
        return sampler.grid(schedule, steps, start)
    return TimeGrid.named(grid, steps, schedule, start)


def _require_finite(x: Tensor, name: str) -> None:
    finite = torch.isfinite(x).reshape(len(x), -1).all(1)
    if not finite.all():
        bad = int((~finite).sum())
        raise NonFiniteError(
            f"{bad} of {len(x)} samples of {name} are not finite: look at the model's output along the trajectory "
            "(callback=) or take more steps"
        )
