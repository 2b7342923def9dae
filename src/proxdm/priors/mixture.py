r"""A mixture of Gaussians in the leading principal directions as a prior.

With `z = U^T (x - mean)` `(m,)`, U orthonormal `(d, m)`: z is drawn from K Gaussians of weight pi_k, mean mu_k and
covariance `U_k diag(c_k) U_k^T + c_k0 (I - U_k U_k^T)`, U_k orthonormal `(m, r)`; outside the m directions x has one
variance c_rest. With `P_k = U_k^T (z - mu_k)`, `v = c_k + s^2`, `v_0 = c_k0 + s^2`,

$$\log w_k = \log\pi_k - \tfrac12\Big(\sum_j \frac{P_{kj}^2}{v_j} + \frac{|z - \mu_k|^2 - |P_k|^2}{v_0}
  + \sum_j \log v_j + (m - r)\log v_0\Big) + \mathrm{const},$$
$$D(z, s) = \sum_k w_k\Big(\mu_k + \frac{c_{k0}}{v_0}(z - \mu_k) + U_k\big((c_k/v - c_{k0}/v_0) P_k\big)\Big),$$

w normalised over k; and `c_rest / (c_rest + s^2)` times what is outside. Size: d m + K m (r + 1) numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from proxdm.priors.base import Prior, PriorError, integrate
from proxdm.priors.gaussian import GaussianPrior
from proxdm.schedules import Time, as_float64

FAR = 4.0
"""In units of the largest standard deviation: above, the mixture flows as the Gaussian of its mean and covariance."""

PER_COMPONENT = ("log_weights", "centres", "axes", "variances", "floors")
"""Fields with an entry for every component."""


@dataclass(frozen=True, eq=False)
class MixturePrior(Prior):
    """K Gaussians of rank r in m directions.

    Attributes:
        mean: `(d,)`, float64, d the product of `shape`.
        basis: U, `(d, m)`.
        rest: c_rest, a scalar tensor.
        log_weights: log pi_k, `(K,)`.
        centres: mu_k, `(K, m)`.
        axes: U_k, `(K, m, r)`.
        variances: c_k, `(K, r)`.
        floors: c_k0, `(K,)`.
        groups: Class of every component, `(K,)`, where classes were fitted apart; then :meth:`given` takes labels.
    """

    mean: Tensor
    basis: Tensor
    rest: Tensor
    log_weights: Tensor
    centres: Tensor
    axes: Tensor
    variances: Tensor
    floors: Tensor
    groups: Tensor | None = None

    @property
    def components(self) -> int:
        """K."""
        return len(self.log_weights)

    @property
    def directions(self) -> int:
        """The number m of directions."""
        return self.basis.shape[1]

    @property
    def rank(self) -> int:
        """The number r of directions of a component."""
        return self.axes.shape[2]

    def given(self, labels: Tensor | int | None) -> Prior:
        """Return the prior of samples of these classes `(B,)`, or of one; a number that is no class is any."""
        if labels is None or self.groups is None:
            return self
        return self.of_class(labels) if isinstance(labels, int) else ByClass(self, labels.cpu(), shape=self.shape)

    def of_class(self, label: int) -> MixturePrior:
        """Return the components of a class as a mixture by themselves; all of them if there is none of it."""
        if label not in self._classes:
            assert self.groups is not None
            rows = self.groups == label
            parts: dict[str, Any] = {name: getattr(self, name)[rows] for name in PER_COMPONENT}
            parts["log_weights"] = torch.log_softmax(parts["log_weights"], 0)
            self._classes[label] = replace(self, **parts, groups=None) if bool(rows.any()) else self
        return self._classes[label]

    @cached_property
    def _classes(self) -> dict[int, MixturePrior]:
        """Those of :meth:`of_class` so far."""
        return {}

    @property
    def farthest(self) -> float:
        """That of the Gaussian of its moments."""
        return self.moments.farthest

    @cached_property
    def moments(self) -> GaussianPrior:
        """The Gaussian of the same mean and covariance."""
        plane = self._plane
        centre = self.mean + self.basis @ plane.mean
        return GaussianPrior(centre, self.basis @ plane.basis, plane.variances, self.rest, shape=self.shape)

    @cached_property
    def _plane(self) -> GaussianPrior:
        """The same of z."""
        pi = self.log_weights.exp()
        mean = pi @ self.centres
        moved = (self.centres - mean) * pi.sqrt()[:, None]
        spread = (self.axes * (self.variances - self.floors[:, None])[:, None, :] * pi[:, None, None]).permute(1, 0, 2)
        inner = spread.flatten(1) @ self._flat_axes.T + moved.T @ moved
        inner += (pi @ self.floors) * torch.eye(self.directions, dtype=inner.dtype, device=inner.device)
        c, directions = torch.linalg.eigh((inner + inner.T) / 2)
        return GaussianPrior(mean, directions, c.clamp(min=0), torch.zeros_like(self.rest), shape=(self.directions,))

    def denoise(self, x: Tensor, s: Time) -> Tensor:
        """Return `E[x_0 | x_0 + s z = x]`; x itself at s = 0."""
        z, outside = self._split(x)
        noise = as_float64(s).square().to(z.device).reshape(-1, 1)
        return self._joined(self._denoise(z, noise), _shrink(self.rest, noise) * outside, x)

    def log_prob(self, x: Tensor, s: Time) -> Tensor:
        """Return the log density of `x_0 + s z` at x, float64 `(B,)`."""
        z, outside = self._split(x)
        noise = as_float64(s).square().to(z.device).reshape(-1, 1)
        others, variance = self.basis.shape[0] - self.directions, (self.rest + noise)[:, 0]
        beyond = outside.square().sum(1) / variance + others * variance.log() if others else 0
        constant = self.basis.shape[0] * math.log(2 * math.pi)
        return self._joint(z, noise)[0].logsumexp(1) - (beyond + constant) / 2

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """Return the flow: in closed form far out and outside the m directions, else by steps in log s."""
        z, outside = self._split(x)
        outside = ((self.rest + end**2) / (self.rest + start**2)).sqrt() * outside
        far = end if self.components == 1 else max(self._far, end)
        if start > far or self.components == 1:
            z, start = self._plane.flow(z, start, far), far
        if start != end:
            # In float32, which is faster: rounding is nothing beside the error of the steps.
            single = self._single
            z = integrate(lambda z, s: single._denoise(z, z.new_tensor([[s * s]])), z.float(), start, end).double()
        return self._joined(z, outside, x)

    @cached_property
    def _far(self) -> float:
        """The ratio above which the flow is that of a single Gaussian."""
        return FAR * float(self._plane.variances.max().sqrt())

    @cached_property
    def _single(self) -> MixturePrior:
        """The mixture in float32, for :meth:`_denoise` only."""
        tensors: dict[str, Any] = {name: value.float() for name, value in self.tensors().items() if name != "groups"}
        return replace(self, **tensors)

    @cached_property
    def _flat_axes(self) -> Tensor:
        """All U_k side by side, `(m, K r)`."""
        return self.axes.permute(1, 0, 2).flatten(1).contiguous()

    @cached_property
    def _offsets(self) -> Tensor:
        """`U_k^T mu_k`, `(K, r)`."""
        return torch.einsum("kmr,km->kr", self.axes, self.centres)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z `(B, m)` and what of `x - mean` is outside the m directions, `(B, d)`."""
        moved = self._flat(x) - self.mean
        z = moved @ self.basis
        return z, moved - z @ self.basis.T

    def _joined(self, z: Tensor, outside: Tensor, like: Tensor) -> Tensor:
        """Return the samples of :meth:`_split`, shaped as `like`."""
        return (self.mean + z @ self.basis.T + outside).reshape(like.shape).to(device=like.device, dtype=like.dtype)

    def _joint(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return `log pi_k N(z; k)` without `(2 pi)^{-m/2}`, `(B, K)`, and P, `(B, K, r)`."""
        along = (z @ self._flat_axes).reshape(z.shape[0], *self._offsets.shape) - self._offsets
        square = z.square().sum(1, keepdim=True) - 2 * z @ self.centres.T + self.centres.square().sum(1)
        v, v_0, others = self.variances + noise[..., None], self.floors + noise, self.directions - self.rank
        # |P|^2 stands in two terms: sum_j P_j^2 (1 / v_j - 1 / v_0) + |z - mu|^2 / v_0.
        outer = 1 / v_0 if others else torch.zeros_like(v_0)
        exponent = (along.square() * (1 / v - outer[..., None])).sum(2) + square * outer + v.log().sum(2)
        return self.log_weights - (exponent + others * v_0.log()) / 2, along

    def _denoise(self, z: Tensor, noise: Tensor) -> Tensor:
        joint, along = self._joint(z, noise)
        w, shrink = torch.softmax(joint, 1), _shrink(self.floors, noise)
        w = w * (w > 1e-25)  # subnormal numbers would be ten times as slow, and are nothing
        inside = _shrink(self.variances, noise[..., None]) - shrink[..., None]
        pull = w * (1 - shrink)
        out = pull @ self.centres + (w * shrink).sum(1, keepdim=True) * z
        return out + along.mul_(w[..., None]).mul_(inside).flatten(1) @ self._flat_axes.T


@dataclass(frozen=True, eq=False)
class ByClass(Prior):
    """A mixture for a batch of known classes: every sample has the components of its own."""

    mixture: MixturePrior  # Of all classes
    labels: Tensor  # `(B,)`, on the CPU

    @property
    def farthest(self) -> float:
        """That of the mixture."""
        return self.mixture.farthest

    def denoise(self, x: Tensor, s: Time) -> Tensor:
        """Return `E[x_0 | x_0 + s z = x]` in the class of every sample."""
        ratio = as_float64(s).expand(len(x))
        return self._each(x, lambda prior, rows: prior.denoise(x[rows], ratio[rows]))

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """Return the flow in the class of every sample."""
        return self._each(x, lambda prior, rows: prior.flow(x[rows], start, end))

    def to(self, device: torch.device | str) -> ByClass:
        """Return it with the mixture on a device."""
        return replace(self, mixture=self.mixture.to(device))

    def _each(self, x: Tensor, of: Callable[[MixturePrior, Tensor], Tensor]) -> Tensor:
        if len(x) != len(self.labels):
            raise PriorError(f"the prior is for {len(self.labels)} samples of known classes, and these are {len(x)}")
        out = torch.empty_like(x)
        for label in set(self.labels.tolist()):
            rows = (self.labels == label).nonzero()[:, 0].to(x.device)
            out[rows] = of(self.mixture.of_class(label), rows)
        return out


def _shrink(c: Tensor, noise: Tensor) -> Tensor:
    """Return `c / (c + s^2)`, 1 where both are 0."""
    v = c + noise
    return torch.where(v > 0, c / v.clamp(min=1e-300), 1.0)
