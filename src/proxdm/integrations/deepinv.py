r"""deepinv: the prox of a learned density as a prior, and its denoiser, for deepinv's algorithms and samplers.

deepinv's pictures x lie in [0, 1], a model's `u = 2 x - 1` in [-1, 1]: noise of deviation sigma in x is of ratio
`s = 2 sigma` in u, and the prox of `-gamma log p` in x is that of `-4 gamma log p` in u. Needs
`pip install "proxdm[deepinv]"`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from deepinv.models import Denoiser
from deepinv.optim import Prior
from torch import Tensor

from proxdm.errors import OperatorError
from proxdm.operators import Model, denoise, implicit_prox, offers, prox_from_denoiser
from proxdm.schedules import as_float64, per_sample

Kind = Literal["auto", "model", "posterior-mean", "implicit"]


class ProxPrior(Prior):
    r"""The prior `-log p_sigma` of pictures in [0, 1], p_sigma the density of clean ones with noise of deviation sigma.

    `prox(x, sigma, gamma=g)` is `argmin_u 1/2 |u - x|^2 - g log p_sigma(u)`: of a prox model or a mixture its own, of
    a score model the posterior mean (one evaluation, the usual choice of plug-and-play methods: at sigma = 0 it is the
    denoiser at noise `sqrt(g)`) or the prox itself, solved for.

    Args:
        model: Has `prox`, `denoise` or `score`; of pictures in [-1, 1].
        kind: Where the prox comes from: `model`, `posterior-mean`, `implicit` (:func:`proxdm.implicit_prox`); `auto` is
            `model` where it has one, else `posterior-mean`.

    Raises:
        OperatorError: The model cannot give that prox.
    """

    def __init__(self, model: Model, kind: Kind = "auto") -> None:
        super().__init__()
        self.explicit_prior = False
        if kind == "auto":
            kind = "model" if offers(model, "prox") else "posterior-mean"
        if kind == "model" and not offers(model, "prox"):
            raise OperatorError(f"{type(model).__name__} has no prox of its own: take posterior-mean or implicit")
        make: Any = {"model": lambda model: model, "posterior-mean": prox_from_denoiser, "implicit": implicit_prox}
        if kind not in make:
            raise OperatorError(f"kind = {kind!r} must be auto, {', '.join(make)}")
        self.of, self.operator = model, make[kind](model)

    @torch.no_grad()
    def prox(self, x: Tensor, sigma: Any = 0.0, *args: Any, gamma: Any = 1.0, **kwargs: Any) -> Tensor:
        """Return the prox of `-gamma log p_sigma`, of the shape of x.

        Args:
            x: Pictures, `(B, C, H, W)`.
            sigma: Deviation of the noise of the density, a number or `(B,)`; None is 0.
            args: Ignored.
            gamma: Weight, positive, a number or `(B,)`.
            kwargs: Ignored.
        """
        shown, t, alpha = _shown(self.of, x, 0.0 if sigma is None else sigma)
        lam = alpha.square() * 4 * _column(gamma, x)
        out: Tensor = self.operator.prox(shown, t, lam.to(x.device))
        return (out.to(x.dtype) / per_sample(alpha, x) + 1) / 2

    @torch.no_grad()
    def grad(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return `-grad log p_sigma(x) = (x - D(x, sigma)) / sigma^2` (Tweedie), sigma positive.

        Raises:
            OperatorError: The model has no denoiser.
        """
        if not offers(self.of, "denoiser"):
            raise OperatorError(f"{type(self.of).__name__} has no denoiser, and so no score")
        return (x - _denoised(self.of, x, sigma)) / per_sample(_column(sigma, x).square(), x)


class ModelDenoiser(Denoiser):
    """The denoiser of a model for pictures in [0, 1]: `D(x, sigma)`, for plug-and-play, DPIR, DiffPIR, DPS.

    Args:
        model: Has `denoise` or `score`; of pictures in [-1, 1].

    Raises:
        OperatorError: It has neither.
    """

    def __init__(self, model: Model) -> None:
        if not offers(model, "denoiser"):
            raise OperatorError(f"{type(model).__name__} has neither .denoise nor .score")
        super().__init__(device=model.device)
        self.of = model

    def forward(self, x: Tensor, sigma: Any, **kwargs: Any) -> Tensor:
        """Return the denoised pictures; sigma is a number or `(B,)`, at most what the schedule reaches."""
        return _denoised(self.of, x, sigma)


def _denoised(model: Model, x: Tensor, sigma: Any) -> Tensor:
    shown, t, _ = _shown(model, x, sigma)
    return (denoise(model, shown, t).to(x.dtype) + 1) / 2


def _shown(model: Model, x: Tensor, sigma: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures as a model sees them, the times at which the ratio is `2 sigma`, at most 1, and alpha there."""
    t = model.schedule.time_of_ratio(2 * _column(sigma, x)).clamp(max=1.0)
    alpha = model.schedule.alpha(t)
    return ((2 * x - 1) * per_sample(alpha, x)).to(model.dtype), t.to(x.device), alpha


def _column(value: Any, x: Tensor) -> Tensor:
    """Return a number, or `(B,)`, once per picture as float64 on the CPU."""
    return as_float64(value).detach().cpu().reshape(-1).expand(x.shape[0])
