r"""Samplers on a Gaussian target, in closed form: the law of their output after every step.

For a Gaussian target `N(mu, C)` every step of every rule of :data:`proxdm.rules.RULES` is affine in x, and acts in
each eigen-direction of C by itself; so a target is given in those directions, by means `mu_i` and standard deviations
`sigma_i`, and a diagonal C is no restriction. At time t a direction follows `N(m, v)`, `m = sqrt(alpha_bar) mu_i`,
`v = alpha_bar sigma_i^2 + 1 - alpha_bar` (notation of :mod:`proxdm.schedules`), and

$$\nabla\log p_t(x) = -\frac{x - m}{v}, \qquad
\mathrm{prox}_{-\mathrm{lam}\,\log p_t}(y) = \frac{v\,y + \mathrm{lam}\,m}{v + \mathrm{lam}} .$$

A step is then `x' = slope x + offset + noise z`. A Gaussian stays Gaussian, with mean `slope mean + offset` and
variance `slope^2 variance + noise^2`. Nothing is drawn: the distances are exact to float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm.experiments.convergence_result import Distances
from proxdm.experiments.toy import Method
from proxdm.rules import Quadrature, ScoreStep
from proxdm.samplers import check_steps
from proxdm.schedules import VPSDE


@dataclass(frozen=True)
class GaussianTarget:
    """A Gaussian `N(mu, C)` in the eigen-directions of C.

    Attributes:
        name: Name in results and figures.
        mean: mu in those directions.
        std: Square roots of the eigenvalues of C, positive.

    Raises:
        ValueError: There is no direction, the numbers of means and deviations differ, a mean is not finite, or a
            deviation is not positive and finite.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.std or len(self.mean) != len(self.std):
            raise ValueError(
                f"the target {self.name!r} has {len(self.mean)} means and {len(self.std)} standard deviations; give "
                "one of each for every direction, and one direction at least"
            )
        for value in self.mean:
            if not math.isfinite(value):
                raise ValueError(f"the target {self.name!r} has mean {value}; means must be finite")
        for value in self.std:
            if not 0 < value < math.inf:
                raise ValueError(
                    f"the target {self.name!r} has standard deviation {value}; it must be positive and finite, or KL "
                    "does not exist"
                )

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

    def at(self, t: Tensor, sde: VPSDE) -> tuple[Tensor, Tensor]:
        """Return mean m and variance v of p_t, float64.

        Args:
            t: Times `(T,)`.
            sde: Forward process.

        Returns:
            Two tensors `(T, d)`, d the number of directions.
        """
        mean = sde.alpha_bar(t).sqrt()[:, None] * torch.tensor(self.mean, dtype=torch.float64)
        variance = torch.stack([sde.variance(t, sigma) for sigma in self.std], dim=1)
        return mean, variance

    def law(self, t: float, sde: VPSDE) -> NormalLaw:
        """Return p_t."""
        mean, variance = self.at(torch.tensor([t], dtype=torch.float64), sde)
        return NormalLaw(mean[0], variance[0])


@dataclass(frozen=True)
class NormalLaw:
    """A normal law with independent directions.

    Attributes:
        mean: float64 `(d,)`.
        variance: float64 `(d,)`, at least 0.
    """

    mean: Tensor
    variance: Tensor

    @staticmethod
    def standard(dimension: int) -> NormalLaw:
        """Return N(0, I)."""
        return NormalLaw(torch.zeros(dimension, dtype=torch.float64), torch.ones(dimension, dtype=torch.float64))

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

    def distances(self, target: NormalLaw) -> Distances:
        """Return both KL and W2 from a target."""
        return Distances(kl=self.kl(target), kl_reverse=target.kl(self), w2=self.w2(target))


@dataclass(frozen=True)
class AffineSteps:
    """The steps of a sampler on a Gaussian target: `x' = slope x + offset + noise z`, in each direction.

    Attributes:
        slope: float64 `(N, d)`.
        offset: float64 `(N, d)`.
        noise: float64 `(N, d)`.
    """

    slope: Tensor
    offset: Tensor
    noise: Tensor

    def apply(self, law: NormalLaw, first: int = 0) -> NormalLaw:
        """Return the law after the steps from number `first` on; negative numbers count from the end."""
        mean, variance = law.mean, law.variance
        squared, added = self.slope.square(), self.noise.square()
        for i in range(len(self.slope))[first:]:
            mean = self.slope[i] * mean + self.offset[i]
            variance = squared[i] * variance + added[i]
        return NormalLaw(mean, variance)


def affine_steps(
    target: GaussianTarget, method: Method, steps: int, sde: VPSDE, quadrature: Quadrature | None = None
) -> AffineSteps:
    """Return the steps of a method on a Gaussian target.

    Args:
        target: The target.
        method: Rule, grid, and whether the last step uses noise.
        steps: N.
        sde: Forward process.
        quadrature: Overrides the rule's choice of gamma.

    Raises:
        StepError: A step is not defined on the grid.
    """
    grid = method.grid(steps)
    check_steps(method.rule, grid, sde, quadrature)
    left, landed = grid.times[:-1], grid.times[1:]
    step = method.rule.coefficients(sde, left, landed, quadrature)
    noise = step.noise.clone()
    if not method.last_noise:
        noise[-1] = 0.0
    mean, variance = target.at(left if isinstance(step, ScoreStep) else landed, sde)
    if isinstance(step, ScoreStep):
        pull = step.score[:, None] / variance
        return AffineSteps(step.drift[:, None] - pull, pull * mean, noise[:, None].expand_as(mean))
    weight = variance / (variance + step.lam[:, None])
    return AffineSteps(step.scale[:, None] * weight, (1 - weight) * mean, noise[:, None] * weight)
