r"""Training objectives: what is predicted, what it is compared with, and the loss of one sample.

Data `x_0`, `x_t = sqrt(alpha_bar(t)) x_0 + sqrt(1 - alpha_bar(t)) z`. A score network predicts `z`. A prox network is
shown `y = x_t + sqrt(lam) z'` and learns the proximal operator of `-lam log p_t`, which sends y back to x_t's mode
(arXiv 2507.08956, Sec. 3.3). Per sample, with means over the d dimensions of the sample,

$$\mathrm{MSE} = \tfrac1d |\hat u - u|^2, \qquad \ell_1 = \tfrac1d |\hat u - u|_1, \qquad
\mathrm{PM}_\zeta = 1 - \exp(-\mathrm{MSE} / \zeta^2) \quad (7).$$

As zeta falls, the minimiser of the proximal-matching loss PM tends to the mode of `p(x_t | y)`, which is the prox; MSE
would give the mean. Training starts with l1, whose gradient does not vanish far from the target, and then goes through
stages of zeta (:func:`phase_at`). The epsilon-balanced loss (8) compares the noise: `u = z'` and
`u_hat = (y - prox) / sqrt(lam)`, so that every lam weighs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from proxdm.errors import check_choices
from proxdm.models import LearnedModel, Parametrisation, ScoreParametrisation
from proxdm.schedules import Schedule, per_sample

LossName = Literal["mse", "l1", "proximal-matching"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised."""

    # `mse` (score models; a prox model learns the posterior mean with it, not the mode) or `proximal-matching` (prox
    # models), after an l1 phase.
    loss: Literal["mse", "proximal-matching"] = "mse"
    # What is compared: `noise`, the predicted noise with the true one (of prox models `(y - prox) / sqrt(lam)` with z',
    # the epsilon-balanced loss); `prox`, the prox with x_t; or `output`, the network's raw output with the output that
    # would be exact.
    target: Literal["noise", "prox", "output"] = "noise"
    l1_steps: int = 0  # Optimiser steps of mean absolute error before proximal matching.
    # Widths zeta of proximal matching, in stages of equal length after the l1 phase. Empty for `mse`.
    zetas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Reject phases that are not defined, and settings that would be ignored in silence."""
        check_choices(self, "objective.")
        if self.loss == "mse" and (self.l1_steps or self.zetas):
            raise ValueError(
                f"l1_steps = {self.l1_steps} and zetas = {self.zetas} have no effect with loss = 'mse': leave them out"
            )
        if self.l1_steps < 0:
            raise ValueError(f"l1_steps = {self.l1_steps} must be at least 0")
        if self.loss == "proximal-matching" and not self.zetas:
            raise ValueError("proximal matching needs at least one zeta, such as zetas = (2.0, 1.0)")
        if any(not 0 < zeta < float("inf") for zeta in self.zetas):
            raise ValueError(f"zetas = {self.zetas} must be positive and finite")

    def check(self, kind: str) -> None:
        """Raise a ValueError if the objective does not fit a model of a kind, `score` or `prox`."""
        if kind == "score" and (self.loss != "mse" or self.target == "prox"):
            raise ValueError(
                f"objective.loss = {self.loss!r}, target = {self.target!r} does not fit a score model, which has no "
                "prox: use 'mse', and 'noise' or 'output'"
            )


@dataclass(frozen=True)
class Phase:
    """The loss of a stretch of the training."""

    loss: LossName  # Its name.
    zeta: float | None = None  # Width of proximal matching; None for the other losses.

    def __str__(self) -> str:
        return self.loss if self.zeta is None else f"{self.loss}({self.zeta:g})"


def phase_at(config: ObjectiveConfig, step: int, total: int) -> Phase:
    """Return the phase of an optimiser step, a pure function.

    `l1` for steps 0 ... l1_steps - 1; then the K zetas in stages of `(total - l1_steps) / K` steps each.
    """
    if config.loss == "mse":
        return Phase("mse")
    if step < config.l1_steps:
        return Phase("l1")
    length = max(1, total - config.l1_steps)
    stage = (step - config.l1_steps) * len(config.zetas) // length
    return Phase("proximal-matching", config.zetas[min(stage, len(config.zetas) - 1)])


class Losses(NamedTuple):
    """Losses of a batch."""

    loss: Tensor  # What is minimised, one number a sample, `(B,)`.
    mse: Tensor  # Mean squared error of every sample, `(B,)`, whatever the loss; detached.


def proximal_matching(mse: Tensor, zeta: float) -> Tensor:
    """Return `1 - exp(-mse / zeta^2)`, in [0, 1) (arXiv 2507.08956, (7)); exact for small errors."""
    return -torch.expm1(-mse / zeta**2)


def matching_weight(mse: Tensor, zeta: float) -> Tensor:
    """Return `exp(-mse / zeta^2)`, the factor by which proximal matching scales the gradient of `mse / zeta^2`.

    Where it has vanished, the sample no longer teaches anything.
    """
    return torch.exp(-mse / zeta**2)


def losses(prediction: Tensor, target: Tensor, phase: Phase) -> Losses:
    """Return the losses of a batch in a phase."""
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    # Half precision would lose the small errors that zeta looks at.
    wide = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    error = (prediction.to(wide) - target.to(wide)).flatten(1)
    mse = error.square().mean(1)
    if phase.loss == "mse":
        return Losses(mse, mse.detach())
    if phase.loss == "l1":
        return Losses(error.abs().mean(1), mse.detach())
    assert phase.zeta is not None
    return Losses(proximal_matching(mse, phase.zeta), mse.detach())


Forward = Callable[..., Tensor]
"""`model(x, t)` or `model(x, t, lam)`: the raw output, perhaps through a wrapper (compiled, distributed)."""


class Objective(Protocol):
    """What a training step computes before the loss."""

    @property
    def noises(self) -> int:
        """Standard normal tensors of the shape of the data that every batch needs."""
        ...

    def __call__(
        self, forward: Forward, x0: Tensor, noise: Sequence[Tensor], t: Tensor, lam: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return prediction and target, both `(B, *)`.

        Args:
            forward: The model's forward pass.
            x0: Data `(B, *)`.
            noise: `noises` standard normal tensors of the shape of x0.
            t: The time of x_t, `(B,)`.
            lam: Prox weights `(B,)`; prox models only.
        """
        ...


@dataclass(frozen=True)
class ScoreObjective:
    """Denoise `x_t = alpha x_0 + sigma z` (Ho et al. 2020)."""

    schedule: Schedule  # How data turn into noise.
    parametrisation: ScoreParametrisation  # What the network's output means.
    target: Literal["noise", "output"] = "noise"  # `noise`, or `output`; see :class:`ObjectiveConfig`.
    noises: int = 1  # 1: z.

    def __call__(
        self, forward: Forward, x0: Tensor, noise: Sequence[Tensor], t: Tensor, lam: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return prediction and target: of z, or of the exact output."""
        (z,) = noise
        x_t = self.schedule.perturb(x0, t, z)
        output = forward(x_t, t)
        if self.target == "noise":
            return self.parametrisation.epsilon(self.schedule, x_t, t, output), z
        return output, self.parametrisation.target(self.schedule, x0, x_t, t)


@dataclass(frozen=True)
class ProxObjective:
    """Find x_t in `y = x_t + sqrt(lam) z'` (arXiv 2507.08956, Sec. 3.3)."""

    schedule: Schedule  # How data turn into noise.
    parametrisation: Parametrisation  # What the network's output means.
    target: Literal["noise", "prox", "output"] = "noise"  # `noise`, `prox` or `output`; see :class:`ObjectiveConfig`.
    noises: int = 2  # 2: z of x_t, and z'.

    def __call__(
        self, forward: Forward, x0: Tensor, noise: Sequence[Tensor], t: Tensor, lam: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return prediction and target: of z', of x_t, or of the exact output."""
        if lam is None:
            raise ValueError("a prox model is trained at (t, lam), but lam is missing")
        z, z_prox = noise
        x_t = self.schedule.perturb(x0, t, z)
        y = x_t + per_sample(lam.sqrt(), x_t) * z_prox
        output = forward(y, t, lam)
        if self.target == "noise":
            return self.parametrisation.noise(self.schedule, y, t, lam, output), z_prox
        if self.target == "prox":
            return self.parametrisation.prox(self.schedule, y, t, lam, output), x_t
        return output, self.parametrisation.target(self.schedule, x_t, z_prox, t, lam)


def make_objective(model: LearnedModel, config: ObjectiveConfig) -> Objective:
    """Return the objective of a model."""
    if isinstance(model.parametrisation, Parametrisation):
        return ProxObjective(model.schedule, model.parametrisation, config.target)
    config.check(model.kind)
    return ScoreObjective(model.schedule, model.parametrisation, config.target)  # type: ignore[arg-type]  # no prox
