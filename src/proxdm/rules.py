r"""One step of a sampler as coefficients: pure arithmetic on the interval `(t, s)`, `s < t`.

A score rule and a prox rule read

$$x' = \mathrm{drift}\,x + \mathrm{score}\;\nabla\log p_t(x) + \mathrm{noise}\,z,
\qquad
x' = \mathrm{prox}_{-\mathrm{lam}\,\log p_s}(\mathrm{scale}\,x + \mathrm{noise}\,z),
\qquad z \sim N(0, I).$$

The score is taken at the time `t` the step leaves, the proximal operator at the time `s` it lands on. The step
size gamma is a quadrature of beta over the interval: the left point `beta(t) (t - s)` or the integral
`B(s, t)`. The paper's code takes the first for score samplers and the second for prox samplers; every rule here
accepts both, so that a gain can be told from a better quadrature.

A new discretisation is one function from `(sde, t, s, quadrature)` to coefficients and one line in :data:`RULES`:
training, sampling, command line, plots and tests read that table. Source: arXiv 2507.08956, Sec. 3 and its
appendix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from proxdm.errors import StepError, did_you_mean
from proxdm.schedules import VPSDE, Time, as_float64

Quadrature = Literal["left", "integral"]
"""How gamma is computed: `left` is `beta(t) (t - s)`, `integral` is `B(s, t)`."""


@dataclass(frozen=True)
class ScoreStep:
    """Coefficients of `x' = drift x + score s(x, t) + noise z`: float64 tensors of the shape of t and s."""

    drift: Tensor
    score: Tensor
    noise: Tensor


@dataclass(frozen=True)
class ProxStep:
    """Coefficients of `x' = prox(scale x + noise z, s, lam)`: float64 tensors of the shape of t and s."""

    scale: Tensor
    noise: Tensor
    lam: Tensor


def step_size(sde: VPSDE, t: Time, s: Time, quadrature: Quadrature) -> Tensor:
    """Return gamma of the interval from `t` down to `s`: `beta(t) (t - s)` or `B(s, t)`."""
    if quadrature == "left":
        return sde.beta(t) * (as_float64(t) - as_float64(s))
    if quadrature == "integral":
        return sde.beta_integral(s, t)
    raise ValueError(f"unknown quadrature {quadrature!r}; use 'left' or 'integral'")


def euler_maruyama(sde: VPSDE, t: Tensor, s: Tensor, quadrature: Quadrature) -> ScoreStep:
    """Return `x' = (1 + gamma/2) x + gamma s(x, t) + sqrt(gamma) z`: the reverse SDE, forward Euler."""
    gamma = step_size(sde, t, s, quadrature)
    return ScoreStep(drift=1 + gamma / 2, score=gamma, noise=gamma.sqrt())


def ode_euler(sde: VPSDE, t: Tensor, s: Tensor, quadrature: Quadrature) -> ScoreStep:
    """Return `x' = x + gamma/2 (x + s(x, t))`: the probability flow, forward Euler (Song et al. 2021)."""
    gamma = step_size(sde, t, s, quadrature)
    return ScoreStep(drift=1 + gamma / 2, score=gamma / 2, noise=torch.zeros_like(gamma))


def hybrid(sde: VPSDE, t: Tensor, s: Tensor, quadrature: Quadrature) -> ProxStep:
    """Return `x' = prox((1 + gamma/2) x + sqrt(gamma) z, s, lam=gamma)`: drift forward, score backward."""
    gamma = step_size(sde, t, s, quadrature)
    return ProxStep(scale=1 + gamma / 2, noise=gamma.sqrt(), lam=gamma)


def backward(sde: VPSDE, t: Tensor, s: Tensor, quadrature: Quadrature) -> ProxStep:
    """Return `x' = prox((x + sqrt(gamma) z) / (1 - gamma/2), s, lam=gamma / (1 - gamma/2))`, for gamma < 2.

    Drift and score are both taken at the time the step lands on: backward Euler of the reverse SDE.
    """
    gamma = step_size(sde, t, s, quadrature)
    shrink = 1 - gamma / 2
    return ProxStep(scale=1 / shrink, noise=gamma.sqrt() / shrink, lam=gamma / shrink)


def prox_ode(sde: VPSDE, t: Tensor, s: Tensor, quadrature: Quadrature) -> ProxStep:
    """Return `x' = prox((1 + gamma/2) x, s, lam=gamma/2)`: the probability flow, score backward."""
    gamma = step_size(sde, t, s, quadrature)
    return ProxStep(scale=1 + gamma / 2, noise=torch.zeros_like(gamma), lam=gamma / 2)


@dataclass(frozen=True)
class ScoreRule:
    """A named score discretisation.

    Attributes:
        name: Name in the API, the command line and results.
        function: `(sde, t, s, quadrature) -> ScoreStep`, elementwise over tensors of times.
        quadrature: How gamma is computed unless the caller says otherwise.
        stochastic: Whether its steps use noise.
        formula: The update in one line of text, for tables and reports.
    """

    name: str
    function: Callable[[VPSDE, Tensor, Tensor, Quadrature], ScoreStep]
    quadrature: Quadrature
    stochastic: bool
    formula: str

    def coefficients(self, sde: VPSDE, t: Time, s: Time, quadrature: Quadrature | None = None) -> ScoreStep:
        """Return the coefficients of the step(s) from `t` to `s`.

        Args:
            sde: Forward process.
            t: Time(s) the step leaves.
            s: Time(s) it lands on, smaller than `t`, of the same shape.
            quadrature: Overrides the rule's own choice of gamma.
        """
        return self.function(sde, as_float64(t), as_float64(s), quadrature or self.quadrature)


@dataclass(frozen=True)
class ProxRule:
    """A named proximal discretisation.

    Attributes:
        name: Name in the API, the command line and results.
        function: `(sde, t, s, quadrature) -> ProxStep`, elementwise over tensors of times.
        quadrature: How gamma is computed unless the caller says otherwise.
        stochastic: Whether its steps use noise.
        formula: The update in one line of text, for tables and reports.
        gamma_limit: The step is defined for gamma below this number only.
    """

    name: str
    function: Callable[[VPSDE, Tensor, Tensor, Quadrature], ProxStep]
    quadrature: Quadrature
    stochastic: bool
    formula: str
    gamma_limit: float = float("inf")

    def coefficients(self, sde: VPSDE, t: Time, s: Time, quadrature: Quadrature | None = None) -> ProxStep:
        """Return the coefficients of the step(s) from `t` to `s`.

        Args:
            sde: Forward process.
            t: Time(s) the step leaves.
            s: Time(s) it lands on, smaller than `t`, of the same shape.
            quadrature: Overrides the rule's own choice of gamma.

        Raises:
            StepError: A step has gamma at or above `gamma_limit`.
        """
        chosen = quadrature or self.quadrature
        t, s = as_float64(t), as_float64(s)
        if (problem := self.undefined(sde, t, s, chosen)) is not None:
            raise StepError(f"{problem}; take shorter steps, or prox-hybrid, which is defined for every gamma")
        return self.function(sde, t, s, chosen)

    def undefined(self, sde: VPSDE, t: Time, s: Time, quadrature: Quadrature | None = None) -> str | None:
        """Return what is wrong with the first step that is not defined, or None if all of them are."""
        if self.gamma_limit == float("inf"):
            return None
        gamma = step_size(sde, t, s, quadrature or self.quadrature).reshape(-1)
        bad = torch.nonzero(gamma >= self.gamma_limit)
        if not bad.numel():
            return None
        i = int(bad[0, 0])
        t_i, s_i = (float(as_float64(time).reshape(-1).expand(len(gamma))[i]) for time in (t, s))
        return (
            f"the {self.name} step {i + 1} of {len(gamma)} from t = {t_i:g} to s = {s_i:g} has gamma = "
            f"{float(gamma[i]):.4g}, but it is defined for gamma < {self.gamma_limit:g} only"
        )


Rule = ScoreRule | ProxRule

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        ScoreRule("euler-maruyama", euler_maruyama, "left", True, "x' = (1 + γ/2) x + γ s(x, t) + √γ z"),
        ScoreRule("ode-euler", ode_euler, "left", False, "x' = x + γ/2 (x + s(x, t))"),
        ProxRule("prox-hybrid", hybrid, "integral", True, "x' = prox((1 + γ/2) x + √γ z, s, λ = γ)"),
        ProxRule(
            "prox-backward",
            backward,
            "integral",
            True,
            "x' = prox((x + √γ z) / (1 - γ/2), s, λ = γ / (1 - γ/2))",
            gamma_limit=2.0,
        ),
        ProxRule("prox-ode", prox_ode, "integral", False, "x' = prox((1 + γ/2) x, s, λ = γ/2)"),
    )
}
"""Every discretisation by name."""


def find_rule(name: str) -> Rule:
    """Return the rule of that name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    if name not in RULES:
        raise ValueError(f"unknown sampler {name!r}{did_you_mean(name, RULES)}; the samplers are {', '.join(RULES)}")
    return RULES[name]


def find_prox_rule(name: str) -> ProxRule:
    """Return the proximal rule of that name.

    Raises:
        ValueError: There is no such rule, or it is a score rule.
    """
    rule = find_rule(name)
    if not isinstance(rule, ProxRule):
        names = ", ".join(key for key, value in RULES.items() if isinstance(value, ProxRule))
        raise ValueError(f"{name!r} uses a score, not a proximal operator; the proximal rules are {names}")
    return rule
