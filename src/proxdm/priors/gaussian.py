r"""One Gaussian as a prior: every operator in closed form.

`N(mu, C)`, `C = U diag(c_1 ... c_k) U^T + c_0 (I - U U^T)`: mean, k orthonormal directions, one variance for the rest.
A function of C costs O(k d): `f(C) v = f(c_0) v + U (f(c) - f(c_0)) U^T v`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from proxdm.priors.base import Prior
from proxdm.schedules import Time, as_float64


@dataclass(frozen=True, eq=False)
class GaussianPrior(Prior):
    """`N(mu, C)` (Wang and Vastola, arXiv 2412.09726).

    Attributes:
        mean: `(d,)`, float64, d the product of `shape`.
        basis: U, orthonormal columns, `(d, k)`.
        variances: c, `(k,)`, at least 0.
        rest: c_0, a scalar tensor, at least 0.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    rest: Tensor

    @property
    def directions(self) -> int:
        """The number k of directions."""
        return self.basis.shape[1]

    @cached_property
    def farthest(self) -> float:
        """10^6 times the size of the data; nothing of them is left there."""
        return 1e6 * float(self.variances.sum().sqrt() + self.mean.abs().max() + 1e-3)

    def denoise(self, x: Tensor, s: Time) -> Tensor:
        """Return `mu + C (C + s^2)^{-1} (x - mu)`; x itself at s = 0."""
        return self._function(x, s, lambda c, v: torch.where(v > 0, c / v, torch.ones_like(v)))

    def score(self, x: Tensor, s: Time) -> Tensor:
        """Return `-(C + s^2)^{-1} (x - mu)`."""
        return self._function(x, s, lambda c, v: -1 / v, shift=False)

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """Return `mu + sqrt((C + end^2) (C + start^2)^{-1}) (x - mu)`."""
        return self._function(x, start, lambda c, v: ((c + end**2) / v).sqrt())

    def prox(self, y: Tensor, s: Time, lam: Time) -> Tensor:
        """Return `mu + (C + s^2)(C + s^2 + lam)^{-1} (y - mu)`, the prox of `-lam log N(mu, C + s^2)`."""
        weight = as_float64(lam).reshape(-1, 1)
        return self._function(y, s, lambda c, v: v / (v + weight))

    def log_prob(self, x: Tensor, s: Time) -> Tensor:
        """Return the log density of `x_0 + s z` at x, float64 `(B,)`."""
        moved = self._flat(x) - self.mean
        along, noise = moved @ self.basis, as_float64(s).square().to(moved.device).reshape(-1, 1)
        v, v_0 = self.variances + noise, self.rest + noise
        outside = (moved.square().sum(1, keepdim=True) - along.square().sum(1, keepdim=True)).clamp(min=0)
        others = self.basis.shape[0] - self.directions
        square = (along.square() / v).sum(1) + (outside / v_0)[:, 0] if others else (along.square() / v).sum(1)
        volume = v.log().sum(1) + (others * v_0.log()[:, 0] if others else 0)
        return -(square + volume + self.basis.shape[0] * math.log(2 * math.pi)) / 2

    def _function(self, x: Tensor, s: Time, f: Callable[[Tensor, Tensor], Tensor], *, shift: bool = True) -> Tensor:
        """Return `mu + f(C, C + s^2) (x - mu)` (without mu where there is to be no shift), of the shape of x."""
        moved = self._flat(x) - self.mean
        noise = as_float64(s).square().to(moved.device).reshape(-1, 1)
        outside = f(self.rest, self.rest + noise)
        inside = f(self.variances, self.variances + noise)
        out = outside * moved + ((inside - outside) * (moved @ self.basis)) @ self.basis.T
        return ((self.mean + out) if shift else out).reshape(x.shape).to(device=x.device, dtype=x.dtype)
