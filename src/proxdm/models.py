r"""Models: a network with the meaning of its output.

A :class:`ScoreModel` estimates score and denoiser, a :class:`ProxModel` the proximal operator of `-lam log p_t`.
Every parametrisation is affine in the output F of the network. Of a score model, `x = alpha x_0 + sigma eps`,

$$\epsilon = a\,x + b\,F(\mathrm{inner}\;x, t), \qquad D = c\,x + d\,F(\mathrm{inner}\;x, t),$$

and of a prox model

$$\mathrm{prox}(y, t, \lambda) = \mathrm{skip}\;y + \mathrm{out}\;F(\mathrm{inner}\;y, t, \lambda).$$

:data:`SCORE_PARAMETRISATIONS` and :data:`PARAMETRISATIONS` are the tables; a new parametrisation is an entry in one.
With `y = x + sqrt(lam) z` (training, arXiv 2507.08956, Sec. 3.3) the prediction of the noise z is
`(y - prox) / sqrt(lam)`, and the output that would give the prox x exactly is

$$F = \frac{1 - \mathrm{skip}}{\mathrm{out}}\,x - \frac{\mathrm{skip}\,\sqrt\lambda}{\mathrm{out}}\,z .$$

Coefficients are computed in float64 and applied in the dtype of the samples.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from proxdm.priors.base import Prior
from proxdm.runtime.hooks import hook
from proxdm.runtime.registry import Registry
from proxdm.schedules import VPSDE, Schedule, Time, as_float64, per_sample


@dataclass(frozen=True)
class ScoreCoefficients:
    """Coefficients of `eps = a x + b F(inner x)` and `D = c x + d F(inner x)`.

    Float64 tensors, scalar or `(B,)`; numbers where they are constant, so that 0 and 1 cost nothing.
    """

    a: Tensor | float
    b: Tensor | float
    c: Tensor | float
    d: Tensor | float
    inner: Tensor | float = 1.0


@dataclass(frozen=True)
class ScoreParametrisation:
    """What the output F of a score network means.

    All methods take `t` as a number or a tensor `(B,)` and samples of shape `(B, *)`.
    """

    name: str  # Name in configurations.
    # `(alpha, sigma) -> ScoreCoefficients`, elementwise over float64 tensors.
    coefficients: Callable[[Tensor, Tensor], ScoreCoefficients]
    formula: str  # What F estimates, in one line of text.

    def _at(self, schedule: Schedule, t: Time) -> ScoreCoefficients:
        return self.coefficients(schedule.alpha(t), schedule.sigma(t))

    def network_input(self, schedule: Schedule, x: Tensor, t: Time) -> Tensor:
        """Return `inner x`, which the network is shown."""
        return _scaled(self._at(schedule, t).inner, x)

    def epsilon(self, schedule: Schedule, x: Tensor, t: Time, output: Tensor) -> Tensor:
        """Return the noise that the output F stands for."""
        c = self._at(schedule, t)
        return _combined(c.a, x, c.b, output)

    def denoised(self, schedule: Schedule, x: Tensor, t: Time, output: Tensor) -> Tensor:
        """Return `E[x_0 | x_t = x]`, by the output F."""
        c = self._at(schedule, t)
        return _combined(c.c, x, c.d, output)

    def target(self, schedule: Schedule, x0: Tensor, x: Tensor, t: Time) -> Tensor:
        """Return the output F that would denoise x to x0 exactly."""
        c = self._at(schedule, t)
        return _combined(1 / c.d, x0, -c.c / c.d, x)


SCORE_PARAMETRISATIONS: Registry[ScoreParametrisation] = Registry("score parametrisation")
"""Every parametrisation of a score network by name."""

EDM_SIGMA_DATA = 0.5
"""Standard deviation of the data that EDM's preconditioning assumes (Karras et al. 2022, Table 1)."""


def _score_entry(name: str, formula: str) -> Callable[[Callable[[Tensor, Tensor], ScoreCoefficients]], object]:
    return lambda function: SCORE_PARAMETRISATIONS.add(name, ScoreParametrisation(name, function, formula))


@_score_entry("epsilon", "F = ε, the noise")
def _noise(alpha: Tensor, sigma: Tensor) -> ScoreCoefficients:
    return ScoreCoefficients(0.0, 1.0, 1 / alpha, -sigma / alpha)


@_score_entry("v", "F = v = α ε - σ x₀")
def _v(alpha: Tensor, sigma: Tensor) -> ScoreCoefficients:
    norm = alpha.square() + sigma.square()
    return ScoreCoefficients(sigma / norm, alpha / norm, alpha / norm, -sigma / norm)


@_score_entry("x0", "F = x₀, the denoised sample")
def _x0(alpha: Tensor, sigma: Tensor) -> ScoreCoefficients:
    return ScoreCoefficients(1 / sigma, -alpha / sigma, 0.0, 1.0)


@_score_entry("flow", "F = ε - x₀, the velocity of a rectified flow")
def _velocity(alpha: Tensor, sigma: Tensor) -> ScoreCoefficients:
    total = alpha + sigma
    return ScoreCoefficients(1 / total, alpha / total, 1 / total, -sigma / total)


@_score_entry("edm", "D = c_skip x̂ + c_out F(c_in x̂), x̂ = x / α (Karras et al. 2022, Table 1)")
def _edm(alpha: Tensor, sigma: Tensor) -> ScoreCoefficients:
    ratio, data = sigma / alpha, EDM_SIGMA_DATA
    norm = ratio.square() + data**2
    return ScoreCoefficients(
        a=ratio / norm / alpha,
        b=-data / norm.sqrt(),
        c=data**2 / norm / alpha,
        d=ratio * data / norm.sqrt(),
        inner=norm.rsqrt() / alpha,
    )


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of `prox = skip y + out F(inner y, t, lam)`, tensors or numbers as of :class:`ScoreCoefficients`."""

    skip: Tensor | float
    out: Tensor | float
    inner: Tensor | float = 1.0


@dataclass(frozen=True)
class Parametrisation:
    """What the output F of a prox network means.

    All methods take `t` and `lam` as numbers or tensors `(B,)` and samples of shape `(B, *)`.
    """

    name: str  # Name in configurations.
    # `(schedule, t, lam) -> Coefficients`, elementwise over float64 tensors.
    coefficients: Callable[[Schedule, Tensor, Tensor], Coefficients]
    formula: str  # The prox in one line of text, for tables and reports.

    def _at(self, schedule: Schedule, t: Time, lam: Time) -> Coefficients:
        return self.coefficients(schedule, as_float64(t), as_float64(lam))

    def network_input(self, schedule: Schedule, y: Tensor, t: Time, lam: Time) -> Tensor:
        """Return `inner y`, which the network is shown."""
        return _scaled(self._at(schedule, t, lam).inner, y)

    def prox(self, schedule: Schedule, y: Tensor, t: Time, lam: Time, output: Tensor) -> Tensor:
        """Return `skip y + out F`, the prox that the output F stands for."""
        c = self._at(schedule, t, lam)
        return _combined(c.skip, y, c.out, output)

    def noise(self, schedule: Schedule, y: Tensor, t: Time, lam: Time, output: Tensor) -> Tensor:
        """Return `(y - prox) / sqrt(lam)`, the predicted noise, without the cancellation that small lam brings."""
        c, root = self._at(schedule, t, lam), as_float64(lam).sqrt()
        return _combined((1 - c.skip) / root, y, -c.out / root, output)

    def target(self, schedule: Schedule, x: Tensor, noise: Tensor, t: Time, lam: Time) -> Tensor:
        """Return the output F for which the prox of `y = x + sqrt(lam) noise` is x."""
        c, root = self._at(schedule, t, lam), as_float64(lam).sqrt()
        return _combined((1 - c.skip) / c.out, x, -c.skip * root / c.out, noise)


PARAMETRISATIONS: Registry[Parametrisation] = Registry("prox parametrisation")
"""Every parametrisation of a prox network by name: `epsilon` is the residual one of arXiv 2507.08956, Sec. 3.3."""


def _prox_entry(name: str, formula: str) -> Callable[[Callable[[Schedule, Tensor, Tensor], Coefficients]], object]:
    return lambda function: PARAMETRISATIONS.add(name, Parametrisation(name, function, formula))


@_prox_entry("epsilon", "prox = y - √λ F(y, t, λ)")
def _residual(schedule: Schedule, t: Tensor, lam: Tensor) -> Coefficients:
    return Coefficients(skip=1.0, out=-lam.sqrt())


@_prox_entry("prox", "prox = F(y, t, λ)")
def _direct(schedule: Schedule, t: Tensor, lam: Tensor) -> Coefficients:
    return Coefficients(skip=0.0, out=1.0)


# After EDM (Karras et al. 2022): F = 0 is exact for N(0, sigma_d^2 I), and F is of unit size at every (t, lam).
@_prox_entry("preconditioned", "prox = v/(v+λ) y + √(vλ/(v+λ)) F(y/√(v+λ), t, λ)")
def _preconditioned(schedule: Schedule, t: Tensor, lam: Tensor) -> Coefficients:
    v = schedule.variance(t, EDM_SIGMA_DATA)
    return Coefficients(skip=v / (v + lam), out=(v * lam / (v + lam)).sqrt(), inner=(v + lam).rsqrt())


P = TypeVar("P", ScoreParametrisation, Parametrisation)


class _Model(nn.Module, Generic[P]):
    """A network, the meaning of its output, the schedule it was made for, and the configuration it came from."""

    kind: ClassVar[Literal["score", "prox"]]
    table: ClassVar[Registry[Any]]

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule | None = None,
        parametrisation: str | P = "epsilon",
        config: Any = None,
    ) -> None:
        super().__init__()
        self.parametrisation: P = (
            self.table.find(parametrisation) if isinstance(parametrisation, str) else parametrisation
        )
        self.network = network
        self.schedule = schedule or VPSDE()
        self.config = config
        self.prior: Prior | None = None
        """What replaces the model at high noise (:mod:`proxdm.priors`); stored with it."""
        self.vae: str | None = None
        """Autoencoder of the samples, where they are latents and it is known: a folder, or a name on the hub."""
        self.grids: dict[str, dict[int, str]] = {}
        """Texts of the best grids that were found, by sampler and N; stored with it."""
        self.classes: tuple[str, ...] = ()
        """Names of the classes that the network is told of; of none, empty. A label is a place among them."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the network's parameters."""
        return next((p.dtype for p in self.network.parameters()), torch.float32)

    @classmethod
    def from_pretrained(cls, source: str, *, weights: str | None = None, device: str = "cpu") -> Self:
        """Return the model of a repository on the hub, or of any source that :func:`proxdm.load` knows.

        Args:
            source: `owner/name[@revision]`, a folder of :meth:`save_pretrained`, a run, a model file, ...
            weights: Weight set.
            device: Where it goes.

        Raises:
            TypeError: It is a model of the other kind.
            CheckpointError: There is no model there, or a damaged one.
            HubError: The repository cannot be had.
        """
        model = hook("load")(source, weights, device=device)
        if not isinstance(model, cls):
            raise TypeError(f"{source} is a {type(model).__name__}, not a {cls.__name__}: proxdm.load takes both")
        return model

    def save_pretrained(self, folder: str, *, overwrite: bool = False) -> None:
        """Write `model.safetensors` and `config.json` to a folder, as the hub has them.

        Args:
            folder: The folder; it is made.
            overwrite: Whether files that are there may be replaced.

        Raises:
            CheckpointError: The model's `config` does not describe it.
            OutputError: The files are there already, or cannot be written.
        """
        hook("save_model")(self, folder, overwrite=overwrite)

    def push_to_hub(self, repo_id: str, **options: Any) -> str | None:
        """Put the model, its configuration and a card into a repository; return the address of the commit.

        Args:
            repo_id: `owner/name`.
            options: Of :func:`proxdm.publishing.push`: `license`, `private`, `message`, `dry_run`, ...

        Raises:
            CheckpointError: The model's `config` does not describe it.
            HubError: The hub cannot be reached, or refuses.
        """
        with tempfile.TemporaryDirectory(prefix="proxdm-") as folder:
            self.save_pretrained(folder)
            published = hook("push")(folder, repo_id, **options)
        address: str | None = published.url
        return address

    def _call(self, x: Tensor, *conditions: Time, labels: Tensor | None) -> Tensor:
        """Call the network in its own dtype; the result has the dtype of x."""
        shown = [_column(value, x, self.dtype) for value in conditions]
        told = {} if labels is None else {"labels": labels}  # own networks need not know of labels
        out: Tensor = self.network(x.to(self.dtype), *shown, **told)
        return out.to(x.dtype)


class ScoreModel(_Model[ScoreParametrisation]):
    """A network that estimates the score and the denoiser of `x = alpha x_0 + sigma z`.

    Args:
        network: `(x, t) -> F`.
        schedule: How data turn into noise; `VPSDE()` by default.
        parametrisation: What F means: a name in :data:`SCORE_PARAMETRISATIONS`, or a :class:`ScoreParametrisation`.
        config: Whatever describes the model; carried along, never read here.

    Raises:
        ValueError: The parametrisation is unknown.
    """

    kind, table = "score", SCORE_PARAMETRISATIONS

    def forward(self, x: Tensor, t: Time, labels: Tensor | None = None) -> Tensor:
        """Return the raw output of the network, `F(inner x, t)`; training calls this one."""
        return self._call(self.parametrisation.network_input(self.schedule, x, t), t, labels=labels)

    def epsilon(self, x: Tensor, t: Time, labels: Tensor | None = None) -> Tensor:
        """Return the predicted noise, of the shape of `x`.

        Args:
            x: Samples, shape `(B, *)`.
            t: Time in [0, 1], a number or `(B,)`.
            labels: Classes `(B,)`, of a model that has some (:attr:`classes`); their number, or None, is any.
        """
        return self.parametrisation.epsilon(self.schedule, x, t, self(x, t, labels))

    def denoise(self, x: Tensor, t: Time, labels: Tensor | None = None) -> Tensor:
        """Return an estimate of `E[x_0 | x_t = x]`, of the shape of `x`; arguments as of :meth:`epsilon`."""
        return self.parametrisation.denoised(self.schedule, x, t, self(x, t, labels))

    def score(self, x: Tensor, t: Time, labels: Tensor | None = None) -> Tensor:
        """Return `-eps(x, t) / sigma(t)`, an estimate of the gradient of log p_t at x; arguments as of :meth:`epsilon`.

        Raises:
            ValueError: `t` is not positive (checked for numbers and tensors on the CPU): the factor is infinite at 0.
        """
        _check_positive("t", t, "the score of a noise prediction is infinite at t = 0: end the grid at a small eps")
        return self.epsilon(x, t, labels) * per_sample(-self.schedule.noise_variance(t).rsqrt(), x)


class ProxModel(_Model[Parametrisation]):
    """A network that gives the proximal operator of `-lam log p_t`.

    Args:
        network: `(x, t, lam) -> F`.
        schedule: How data turn into noise; `VPSDE()` by default.
        parametrisation: What F means: a name in :data:`PARAMETRISATIONS`, or a :class:`Parametrisation`.
        config: Whatever describes the model; carried along, and asked for the (t, lam) of the training if it knows.

    Raises:
        ValueError: The parametrisation is unknown.
    """

    kind, table = "prox", PARAMETRISATIONS
    warned = False  # Whether it has been said that (t, lam) is far from the training

    def forward(self, x: Tensor, t: Time, lam: Time, labels: Tensor | None = None) -> Tensor:
        """Return the raw output of the network, `F(inner x, t, lam)`; training calls this one.

        `model.parametrisation` turns it into a prox, or into a prediction of the noise. Arguments are as of
        :meth:`prox`, but `lam` is not checked here, for speed.
        """
        return self._call(self.parametrisation.network_input(self.schedule, x, t, lam), t, lam, labels=labels)

    def prox(self, x: Tensor, t: Time, lam: Time, labels: Tensor | None = None) -> Tensor:
        """Return an estimate of `argmin_u 1/2 |u - x|^2 - lam log p_t(u)`, of the shape of `x`.

        Args:
            x: Argument of the prox, shape `(B, *)`.
            t: Time in [0, 1], a number or `(B,)`: the time that the step lands on.
            lam: Weight, positive, a number or `(B,)`.
            labels: Classes `(B,)`, of a model that has some (:attr:`classes`); their number, or None, is any.

        Raises:
            ValueError: `lam` is not positive and finite (checked for numbers and tensors on the CPU; elsewhere the
                check would make the host wait for the device in every step).

        Warns, once, where (t, lam) is far from all that the network was trained at (looked at on the CPU).
        """
        _check_positive("lam", lam, "the prox of weight 0 is the identity, and a step of positive length has lam > 0")
        self._warn_if_far(t, lam)
        return self.parametrisation.prox(self.schedule, x, t, lam, self(x, t, lam, labels))

    def _warn_if_far(self, t: Time, lam: Time) -> None:
        """Warn, once, of a (t, lam) far from all that the network was trained at; on GPUs looking would take time."""
        known = getattr(self.config, "training_range", None)
        if self.warned or known is None or torch.compiler.is_compiling():
            return
        values = [as_float64(value).reshape(-1) for value in (t, lam)]
        if any(value.device.type != "cpu" for value in values):
            return
        if (line := known.describe_far(*values)) is not None:
            self.warned = True
            warnings.warn(line, stacklevel=3)


LearnedModel = ScoreModel | ProxModel
"""A model with a network, as opposed to a mixture with closed forms."""


def _scaled(coefficient: Tensor | float, x: Tensor) -> Tensor:
    """Return `coefficient x`, x itself for the number 1."""
    if isinstance(coefficient, Tensor):
        return per_sample(coefficient, x) * x
    return x if coefficient == 1 else coefficient * x


def _combined(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """Return `a x + b y`; the number 0 leaves a term out."""
    if not isinstance(a, Tensor) and a == 0:
        return _scaled(b, y)
    return _scaled(a, x) + _scaled(b, y)


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
