r"""Operators: what a sampler may ask of a model, adapters from one to another, and the count of evaluations.

With `x_t = alpha x_0 + sigma z` (:mod:`proxdm.schedules`), x of shape `(B, *)`, t and lam of shape `(B,)`:

- denoiser `D(x, t) = E[x_0 | x_t = x]`,
- score `s(x, t) = grad log p_t(x) = (alpha D - x) / sigma^2` (Tweedie),
- prox `prox(x, t, lam) = argmin_u 1/2 |u - x|^2 - lam log p_t(u)`, t the time a step lands on.

A model has the methods `denoise`, `score` and `prox` that it can offer; the first two stand for each other. What stands
behind them, a network, a mixture or a plain function, no sampler knows.

A model with classes is told of them by :func:`of_classes`, which also guides (Ho and Salimans 2022, arXiv 2207.12598):
`O_w = O(x) + w (O(x | c) - O(x))` for the operator O, w = 1 the class alone. A prox learned by a squared error is
`E[x_t | y] = y + lam grad log q(y)`, q the density of y: there it is the guidance of a score.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from proxdm.errors import OperatorError, did_you_mean
from proxdm.schedules import Schedule, Time, as_float64, per_sample

Operator = Literal["denoiser", "score", "prox"]
"""What a sampler asks for."""

CPU = torch.device("cpu")

METHODS: dict[Operator, str] = {"denoiser": "denoise", "score": "score", "prox": "prox"}
"""The method of a model that is the operator."""


class Model(Protocol):
    """What samplers need of a model, besides one of the methods `denoise`, `score` and `prox`."""

    @property
    def schedule(self) -> Schedule:
        """How data turn into noise."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of its samples."""
        ...


def offers(model: object, operator: Operator) -> bool:
    """Return whether a model has an operator, or one that stands for it (score and denoiser do for each other)."""
    names = ("prox",) if operator == "prox" else ("denoise", "score")
    return any(getattr(model, name, None) is not None for name in names)


def denoise(model: Model, x: Tensor, t: Tensor) -> Tensor:
    """Return `E[x_0 | x_t = x]` by what a model has: its denoiser, or its score."""
    own: Callable[[Tensor, Tensor], Tensor] | None = getattr(model, "denoise", None)
    if own is not None:
        return own(x, t)
    alpha, variance = model.schedule.alpha(t), model.schedule.sigma(t).square()
    return (x + per_sample(variance, x) * score(model, x, t)) / per_sample(alpha, x)


def score(model: Model, x: Tensor, t: Tensor) -> Tensor:
    """Return `grad log p_t(x)` by what a model has: its score, or its denoiser."""
    own: Callable[[Tensor, Tensor], Tensor] | None = getattr(model, "score", None)
    if own is not None:
        return own(x, t)
    alpha, variance = model.schedule.alpha(t), model.schedule.sigma(t).square()
    return (per_sample(alpha, x) * denoise(model, x, t) - x) / per_sample(variance, x)


class Ask:
    """A model as samplers see it: a method for each operator, every call counted.

    It must have the `operator` that the sampler asks for (OperatorError); a `prior` is asked for nothing
    (:mod:`proxdm.priors`). `calls` is the measured NFE of every sample so far; guidance takes two each time.
    """

    def __init__(self, model: Model, operator: Operator, prior: Any = None) -> None:
        if not offers(model, operator):
            there = [name for name in METHODS if offers(model, name)]
            remedy = f"take a sampler that asks for a {' or a '.join(there)}" if there else "it has no operator at all"
            if operator == "prox" and there:
                remedy += ", or a prox made of what it has by proxdm.prox_from_denoiser(model)"
            raise OperatorError(
                f"the sampler needs a model with .{METHODS[operator]}, and {type(model).__name__} has none; {remedy}"
            )
        self.model = model
        self.schedule = model.schedule
        self.prior = prior
        self.calls = 0
        self._each: int = getattr(model, "evaluations_each", 1)

    def denoise(self, x: Tensor, t: float) -> Tensor:
        """Return `E[x_0 | x_t = x]`, of the shape of x; one evaluation."""
        self.calls += self._each
        return denoise(self.model, x, _column(t, x))

    def score(self, x: Tensor, t: float) -> Tensor:
        """Return `grad log p_t(x)`, of the shape of x; one evaluation."""
        self.calls += self._each
        return score(self.model, x, _column(t, x))

    def prox(self, x: Tensor, t: float, lam: float) -> Tensor:
        """Return `argmin_u 1/2 |u - x|^2 - lam log p_t(u)`, of the shape of x; one evaluation."""
        own: Callable[[Tensor, Tensor, Tensor], Tensor] = self.model.prox  # type: ignore[attr-defined]  # offers()
        spent = getattr(self.model, "evaluations", None)
        out = own(x, _column(t, x), _column(lam, x))
        self.calls += self._each * (1 if spent is None else getattr(self.model, "evaluations", 0) - spent)
        return out


@dataclass(frozen=True)
class FunctionModel:
    """Plain functions as a model.

    Attributes:
        schedule: How data turn into noise.
        denoise: `denoise(x, t)`.
        score: `score(x, t)`.
        prox: `prox(x, t, lam)`.
        device: Where they compute.
        dtype: Floating type of the samples.
        evaluations_each: Evaluations of a network behind a call.
    """

    schedule: Schedule
    denoise: Callable[[Tensor, Tensor], Tensor] | None = None
    score: Callable[[Tensor, Tensor], Tensor] | None = None
    prox: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    evaluations_each: int = 1


def of_classes(model: Model, labels: Tensor | int | None, guidance: float = 1.0) -> Model:
    """Return the operators of a model for the classes of a batch: see the formula of the module.

    Args:
        model: Takes `labels=` in its operators, as :class:`proxdm.ScoreModel` and :class:`proxdm.ProxModel` do; its
            number of classes stands for any.
        labels: Class of every sample, int64 `(B,)`, or of all; None returns the model as it is.
        guidance: w, finite; 1 asks for the class alone, 0 for none, above 1 leads away from the other classes. But for
            w = 1 an operator costs two evaluations.

    Raises:
        ValueError: `guidance` is not finite, or asked for without labels.
    """
    if not math.isfinite(guidance):
        raise ValueError(f"guidance = {guidance} must be finite, such as 1.5")
    if labels is None:
        if guidance != 1:
            raise ValueError(f"guidance = {guidance:g} is asked for, but the model knows no classes")
        return model
    known = torch.as_tensor(labels, device=model.device)
    none = torch.tensor(len(getattr(model, "classes", ())), device=model.device)

    def told(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(x: Tensor, *conditions: Tensor) -> Tensor:
            own = known.expand(x.shape[0])
            if guidance == 1:
                return operator(x, *conditions, labels=own)
            twice = [torch.cat([one, one]) for one in (x, *conditions)]
            both = operator(*twice, labels=torch.cat([own, none.expand(x.shape[0])]))
            of_class, of_any = both[: x.shape[0]], both[x.shape[0] :]
            return of_any + guidance * (of_class - of_any)

        return call

    offered = {name: told(own) for name in METHODS.values() if (own := getattr(model, name, None)) is not None}
    each = evaluations_each(guidance)
    return FunctionModel(model.schedule, **offered, device=model.device, dtype=model.dtype, evaluations_each=each)


def evaluations_each(guidance: float) -> int:
    """Return how many evaluations an operator takes under a guidance: two, or one where it is 1."""
    return 1 if guidance == 1 else 2


def label_indices(classes: Sequence[str], wanted: Sequence[int | str], samples: range) -> Tensor | None:
    """Return the classes of samples by their numbers: `wanted` in turn, all in turn where none is named.

    Args:
        classes: Names of the model's classes; none have no labels.
        wanted: Names or numbers of some, or `any`, which is no class in particular.
        samples: Numbers of the samples.

    Returns:
        int64 `(len(samples),)`, `len(classes)` for `any`; None of a model without classes.

    Raises:
        ValueError: The model has no classes, or no such class.
    """
    if not classes:
        if wanted:
            raise ValueError(f"class {wanted[0]!r} is asked for, but the model knows no classes")
        return None
    names = {**{str(number): number for number in range(len(classes))}, "any": len(classes)}
    names |= {name: number for number, name in enumerate(classes)}
    for one in wanted:
        if str(one) not in names:
            raise ValueError(
                f"there is no class {one!r}{did_you_mean(str(one), names)}; the classes are {', '.join(classes)}"
            )
    chosen = torch.tensor([names[str(one)] for one in wanted] or list(range(len(classes))))
    return chosen[torch.arange(samples.start, samples.stop) % len(chosen)]


class ProxFromDenoiser:
    r"""The posterior mean `E[x_s | y]`, `y = x_s + sqrt(lam) z`, in place of the prox: one evaluation of a denoiser.

    y is itself diffused data: `y / alpha_s = x_0 + rho z`, `rho^2 = (sigma_s^2 + lam) / alpha_s^2`; so Tweedie gives

    $$E[x_s \mid y] = y + \mathrm{lam}\,\frac{\alpha_s D(y / \alpha_s) - y}{\sigma_s^2 + \mathrm{lam}},$$

    D at the time whose ratio is rho (at most 1). A network trained with a squared error instead of proximal matching
    learns this; of a Gaussian it is the prox itself. Every proximal sampler runs on it. Its public name is
    `proxdm.prox_from_denoiser`.

    Args:
        model: Has `denoise` or `score`, such as a :class:`proxdm.ScoreModel` or a mixture.

    Raises:
        OperatorError: It has neither.
    """

    def __init__(self, model: Model) -> None:
        if not offers(model, "denoiser"):
            raise OperatorError(
                f"{type(model).__name__} has neither .denoise nor .score: there is nothing to make a prox of"
            )
        self.model, self.schedule, self.device, self.dtype = model, model.schedule, model.device, model.dtype
        self.evaluations_each: int = getattr(model, "evaluations_each", 1)

    def prox(self, y: Tensor, t: Time, lam: Time) -> Tensor:
        """Return `E[x_t | y]`, of the shape of y.

        Args:
            y: Argument, `(B, *)`.
            t: Time that the step lands on, a number or `(B,)`.
            lam: Weight, positive, a number or `(B,)`.
        """
        schedule, weight = self.schedule, as_float64(lam)
        alpha, variance = schedule.alpha(t), schedule.sigma(t).square() + weight
        time = schedule.time_of_ratio(variance.sqrt() / alpha).clamp(max=1.0)
        shown = y * per_sample(schedule.alpha(time) / alpha, y)
        mean = denoise(self.model, shown, time.to(device=y.device).expand(len(y)))
        return y + per_sample(weight / variance, y) * (per_sample(alpha, y) * mean - y)


class ImplicitProx(ProxFromDenoiser):
    r"""The prox itself, solved for by evaluations of a denoiser or score; its public name is `proxdm.implicit_prox`.

    The condition `u = y + lam grad log p_t(u)` is, by Tweedie, the fixed point of

    $$g(u) = \frac{\sigma_t^2\,y + \mathrm{lam}\;\alpha_t D(u, t)}{\sigma_t^2 + \mathrm{lam}},$$

    a contraction near a minimum wherever `1/2 |u - y|^2 - lam log p_t(u)` is strictly convex. Anderson's acceleration
    (Walker and Ni 2011) over the last `memory` values, from the posterior mean on; a sample is done when
    `|g(u) - u| <= tol sqrt(d)`, and none takes more than `most` evaluations. What is not convex may end in another
    stationary point, or not converge, which is warned of.

    Args:
        model: Has `denoise` or `score`.
        tol: Root mean square of the last change, positive.
        most: Evaluations for one prox at most, at least 2.
        memory: Values that the acceleration combines, at least 1 (plain iteration).
        floor: Ratio sigma / alpha below which the density is not asked for: a prox at t = 0 is taken there.

    Attributes:
        evaluations: Evaluations so far; samplers count them.
        unconverged: Samples so far that were not done after `most` evaluations.

    Raises:
        OperatorError: The model has neither.
        ValueError: A value is out of its range.
    """

    def __init__(self, model: Model, tol: float = 1e-4, most: int = 30, memory: int = 4, floor: float = 0.02) -> None:
        if not (tol > 0 and most >= 2 and memory >= 1 and floor > 0):
            raise ValueError(
                f"tol = {tol}, floor = {floor}, most = {most} and memory = {memory} must be positive, most at least 2"
            )
        super().__init__(model)
        self.tol, self.most, self.memory, self.floor = tol, most, memory, floor
        self.evaluations = self.unconverged = 0

    def prox(self, y: Tensor, t: Time, lam: Time) -> Tensor:
        """Return the prox of `-lam log p_t` at y, of the shape of y; arguments as of the posterior mean."""
        schedule, weight = self.schedule, as_float64(lam)
        time = torch.maximum(as_float64(t), schedule.time_of_ratio(self.floor)).expand(len(y))
        variance = schedule.sigma(time).square()
        near, far = (per_sample(part / (variance + weight), y) for part in (variance, weight * schedule.alpha(time)))

        def g(u: Tensor) -> Tensor:
            self.evaluations += 1
            return near * y + far * denoise(self.model, u, time.to(y.device))

        u = super().prox(y, time, weight)
        self.evaluations += 1
        flat = u.flatten(1)
        values: list[Tensor] = []
        residuals: list[Tensor] = []
        done = torch.zeros(len(y), 1, dtype=torch.bool, device=y.device)
        for _ in range(self.most - 1):
            value = g(flat.reshape(y.shape)).flatten(1)
            residual = value - flat
            done = done | (residual.square().mean(1, keepdim=True).sqrt() <= self.tol)
            if bool(done.all()):
                return value.reshape(y.shape)
            values, residuals = [*values[-self.memory :], value], [*residuals[-self.memory :], residual]
            flat = torch.where(done, flat, _anderson(values, residuals))
        self.unconverged += (missing := int((~done).sum()))
        warnings.warn(
            f"{missing} of {len(y)} proximal operators at t = {float(time[0]):.3g} have not converged to {self.tol:g} "
            f"in {self.most} evaluations; the steps are too long for the density to be convex there, take more of them",
            stacklevel=2,
        )
        return flat.reshape(y.shape)


def _anderson(values: list[Tensor], residuals: list[Tensor]) -> Tensor:
    """Return the combination of values g(u_i), weights adding up to 1, whose residual is least, `(B, d)`."""
    if len(values) == 1:
        return values[0]
    last = residuals[-1]
    steps = torch.stack([last - one for one in residuals[:-1]], 2).double()
    gram = steps.mT @ steps
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    scale = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + torch.finfo(torch.float64).tiny
    gamma = torch.linalg.solve(gram + 1e-10 * scale * eye, steps.mT @ last[..., None].double())
    changes = torch.stack([values[-1] - one for one in values[:-1]], 2)
    combined: Tensor = values[-1] - (changes @ gamma.to(changes.dtype))[..., 0]
    return combined


prox_from_denoiser, implicit_prox = ProxFromDenoiser, ImplicitProx


def _column(value: float, x: Tensor) -> Tensor:
    """Return `value` once per sample, in the dtype of x but never below float32, where times would be rounded."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.full((x.shape[0],), value, dtype=dtype, device=x.device)
