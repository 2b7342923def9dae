r"""Models: a network with the meaning of its output.

A :class:`ScoreModel` predicts the noise, `score(x, t) = -eps(x, t) / sqrt(1 - alpha_bar(t))`. A :class:`ProxModel`
gives the proximal operator of `-lam log p_t`. Every parametrisation of it is affine in the output F of the network,

$$\mathrm{prox}(y, t, \lambda) = \mathrm{skip}\;y + \mathrm{out}\;F(\mathrm{inner}\;y, t, \lambda),$$

so that three coefficients, functions of `(t, lam)`, say everything: :data:`PARAMETRISATIONS` is the table, and a new
parametrisation is an entry in it. With `y = x + sqrt(lam) z` (training, arXiv 2507.08956, Sec. 3.3) the prediction of
the noise z is `(y - prox) / sqrt(lam)`, and the output that would give the prox x exactly is

$$F = \frac{1 - \mathrm{skip}}{\mathrm{out}}\,x - \frac{\mathrm{skip}\,\sqrt\lambda}{\mathrm{out}}\,z .$$

Coefficients are computed in float64 and applied in the dtype of the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from proxdm.schedules import VPSDE, Time, as_float64, per_sample


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of `prox = skip y + out F(inner y, t, lam)`: float64 tensors, scalar or `(B,)`."""

    skip: Tensor
    out: Tensor
    inner: Tensor


@dataclass(frozen=True)
class Parametrisation:
    """What the output F of a prox network means.

    All methods take `t` and `lam` as numbers or tensors `(B,)` and samples of shape `(B, *)`.

    Attributes:
        name: Name in configurations.
        coefficients: `(sde, t, lam) -> Coefficients`, elementwise over float64 tensors.
        formula: The prox in one line of text, for tables and reports.
    """

    name: str
    coefficients: Callable[[VPSDE, Tensor, Tensor], Coefficients]
    formula: str

    def _at(self, sde: VPSDE, t: Time, lam: Time) -> Coefficients:
        return self.coefficients(sde, as_float64(t), as_float64(lam))

    def network_input(self, sde: VPSDE, y: Tensor, t: Time, lam: Time) -> Tensor:
        """Return `inner y`, which the network is shown."""
        return per_sample(self._at(sde, t, lam).inner, y) * y

    def prox(self, sde: VPSDE, y: Tensor, t: Time, lam: Time, output: Tensor) -> Tensor:
        """Return `skip y + out F`, the prox that the output F stands for."""
        c = self._at(sde, t, lam)
        return per_sample(c.skip, y) * y + per_sample(c.out, y) * output

    def noise(self, sde: VPSDE, y: Tensor, t: Time, lam: Time, output: Tensor) -> Tensor:
        """Return `(y - prox) / sqrt(lam)`, the predicted noise, without the cancellation that small lam brings."""
        c, root = self._at(sde, t, lam), as_float64(lam).sqrt()
        return per_sample((1 - c.skip) / root, y) * y - per_sample(c.out / root, y) * output

    def target(self, sde: VPSDE, x: Tensor, noise: Tensor, t: Time, lam: Time) -> Tensor:
        """Return the output F for which the prox of `y = x + sqrt(lam) noise` is x."""
        c, root = self._at(sde, t, lam), as_float64(lam).sqrt()
        return per_sample((1 - c.skip) / c.out, x) * x - per_sample(c.skip * root / c.out, x) * noise


def _epsilon(sde: VPSDE, t: Tensor, lam: Tensor) -> Coefficients:
    one = torch.ones_like(lam)
    return Coefficients(skip=one, out=-lam.sqrt(), inner=one)


def _direct(sde: VPSDE, t: Tensor, lam: Tensor) -> Coefficients:
    one = torch.ones_like(lam)
    return Coefficients(skip=torch.zeros_like(lam), out=one, inner=one)


PARAMETRISATIONS: dict[str, Parametrisation] = {
    entry.name: entry
    for entry in (
        Parametrisation("epsilon", _epsilon, "prox = y - √λ F(y, t, λ)"),
        Parametrisation("prox", _direct, "prox = F(y, t, λ)"),
    )
}
"""Every parametrisation of a prox network by name: `epsilon` is the residual one of arXiv 2507.08956, Sec. 3.3."""


def find_parametrisation(name: str) -> Parametrisation:
    """Return the parametrisation of that name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in PARAMETRISATIONS:
        raise ValueError(f"unknown parametrisation {name!r}; the parametrisations are {', '.join(PARAMETRISATIONS)}")
    return PARAMETRISATIONS[name]


class _Model(nn.Module):
    """A network, the forward process it was made for, and the configuration it came from.

    Args:
        network: `(x, t)` or `(x, t, lam)` to a tensor of the shape of x.
        sde: Forward process.
        config: Whatever describes the model; carried along, never read here.
    """

    def __init__(self, network: nn.Module, sde: VPSDE | None = None, config: Any = None) -> None:
        super().__init__()
        self.network = network
        self.sde = sde or VPSDE()
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the network's parameters."""
        return next((p.dtype for p in self.network.parameters()), torch.float32)

    def _call(self, x: Tensor, *conditions: Time) -> Tensor:
        """Call the network in its own dtype; the result has the dtype of x."""
        shown = [_column(value, x, self.dtype) for value in conditions]
        out: Tensor = self.network(x.to(self.dtype), *shown)
        return out.to(x.dtype)


class ScoreModel(_Model):
    """A network that predicts the noise of `x = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) z`.

    Args:
        network: `(x, t) -> eps`.
        sde: Forward process.
        config: Whatever describes the model; carried along, never read here.
    """

    def forward(self, x: Tensor, t: Time) -> Tensor:
        """Return the raw output of the network, `eps(x, t)`; training calls this one."""
        return self._call(x, t)

    def epsilon(self, x: Tensor, t: Time) -> Tensor:
        """Return the predicted noise, of the shape of `x`.

        Args:
            x: Samples, shape `(B, *)`.
            t: Time in [0, 1], a number or `(B,)`.
        """
        return self._call(x, t)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Return `-eps(x, t) / sqrt(1 - alpha_bar(t))`, an estimate of the gradient of log p_t at x.

        Args:
            x: Samples, shape `(B, *)`.
            t: Time in (0, 1], a number or `(B,)`.

        Raises:
            ValueError: `t` is not positive (checked for numbers and tensors on the CPU): the factor is infinite at 0.
        """
        _check_positive("t", t, "the score of a noise prediction is infinite at t = 0: end the grid at a small eps")
        eps = self._call(x, t)
        return eps * per_sample(-self.sde.noise_variance(t).rsqrt(), x)


class ProxModel(_Model):
    """A network that gives the proximal operator of `-lam log p_t`.

    Args:
        network: `(x, t, lam) -> F`.
        sde: Forward process.
        parametrisation: What F means: a name in :data:`PARAMETRISATIONS`, or a :class:`Parametrisation`.
        config: Whatever describes the model; carried along, never read here.

    Raises:
        ValueError: The parametrisation is unknown.
    """

    def __init__(
        self,
        network: nn.Module,
        sde: VPSDE | None = None,
        parametrisation: str | Parametrisation = "epsilon",
        config: Any = None,
    ) -> None:
        super().__init__(network, sde, config)
        if isinstance(parametrisation, str):
            parametrisation = find_parametrisation(parametrisation)
        self.parametrisation: Parametrisation = parametrisation

    def forward(self, x: Tensor, t: Time, lam: Time) -> Tensor:
        """Return the raw output of the network, `F(inner x, t, lam)`; training calls this one.

        `model.parametrisation` turns it into a prox, or into a prediction of the noise.

        Args:
            x: Argument of the prox, shape `(B, *)`.
            t: Time in [0, 1], a number or `(B,)`.
            lam: Weight, positive, a number or `(B,)`. Not checked here, for speed.
        """
        return self._call(self.parametrisation.network_input(self.sde, x, t, lam), t, lam)

    def prox(self, x: Tensor, t: Time, lam: Time) -> Tensor:
        """Return an estimate of `argmin_u 1/2 |u - x|^2 - lam log p_t(u)`, of the shape of `x`.

        Args:
            x: Argument of the prox, shape `(B, *)`.
            t: Time in [0, 1], a number or `(B,)`: the time that the step lands on.
            lam: Weight, positive, a number or `(B,)`.

        Raises:
            ValueError: `lam` is not positive and finite (checked for numbers and tensors on the CPU; elsewhere the
                check would make the host wait for the device in every step).
        """
        _check_positive("lam", lam, "the prox of weight 0 is the identity, and a step of positive length has lam > 0")
        return self.parametrisation.prox(self.sde, x, t, lam, self(x, t, lam))


LearnedModel = ScoreModel | ProxModel
"""A model with a network, as opposed to a mixture with closed forms."""


def _column(value: Time, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `value` once per sample, `(B,)`, in the network's dtype but never below float32."""
    wide = torch.promote_types(dtype, torch.float32)
    column = as_float64(value).to(device=x.device, dtype=wide)
    if column.ndim > 1 or (column.ndim == 1 and column.shape[0] not in (1, x.shape[0])):
        raise ValueError(f"t and lam must be numbers or have shape ({x.shape[0]},), got {tuple(column.shape)}")
    return column.expand(x.shape[0])


def _check_positive(name: str, value: Time, why: str) -> None:
    if torch.compiler.is_compiling() or (isinstance(value, Tensor) and value.device.type != "cpu"):
        return
    values = as_float64(value)
    wrong = values[~((values > 0) & torch.isfinite(values))]
    if wrong.numel():
        raise ValueError(f"{name} = {wrong.reshape(-1)[0]:g} must be positive and finite: {why}")
