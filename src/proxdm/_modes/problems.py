"""The negative log density whose minimum is sought, at many points at once, in three representations.

:class:`SharedProblem` (all variances equal) moves the point y in the hull of the atoms: y stands for
`z = (V X + Lambda y) / (V + Lambda)`, and the density is, up to a factor, `sum_i W_i exp(-|y - mu_i|^2 / (2 T))`
with `T = V (V + Lambda) / Lambda`: the same atoms for every row, whatever its time and lam, so an evaluation is
two matrix products. :class:`GatheredProblem` (any variances, or T so small that products would lose digits) holds
the components that matter to each row, as differences from the strongest one; where they are fewer than the
dimensions, in coordinates of the subspace they span. :class:`FullProblem` (any variances) works in data space with
all components, for rows to which very many of them matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from proxdm._modes.atoms import EPS, Atoms, PerRow, log_joint

DENSE_DIM = 16
"""Up to this dimension the matrix M is formed; above, Newton's equation is solved by conjugate gradients."""


class Implicit(NamedTuple):
    """The matrix M where it is not formed."""

    trace: Tensor  # Which bounds its eigenvalues, `(f,)`
    apply: Callable[[Tensor], Tensor]  # `p -> M p` for p `(f, n)`


class Evaluation(NamedTuple):
    """What a problem says about a batch of points."""

    value: Tensor  # Negative log density, up to one number per row, `(f,)`
    step: Tensor  # Mean shift (EM) step, `(f, n)`
    length: Tensor  # Local scale sqrt(1 / D), `(f,)`
    floor: Tensor  # Size of the rounding error of `step`, `(f,)`
    curvature: Tensor | Implicit  # M, `(f, n, n)`; in high dimension implicit


class Problem(PerRow, ABC):
    """A batch of densities; row i of a point batch belongs to row i of the problem."""

    @abstractmethod
    def evaluate(self, y: Tensor) -> Evaluation:
        """Evaluate at y, `(f, n)`."""


@dataclass(frozen=True)
class SharedProblem(Problem):
    """All components for every row, equal variances, in the coordinate y of the hull of the atoms."""

    atoms: Atoms  # Components
    base: Tensor  # `X / (V + Lambda)`, `(f, n)`
    inverse: Tensor  # `1 / V`, `(f, 1)`
    precision: Tensor  # `1 / T = Lambda / (V (V + Lambda))`, `(f,)`

    def evaluate(self, y: Tensor) -> Evaluation:
        """Evaluate at y, `(f, n)`, points of the hull."""
        atoms, n = self.atoms, self.atoms.dim
        # z / V, with z = (V X + Lambda y) / (V + Lambda): these are the responsibilities of the components for z.
        pulled = self.base + y * self.precision[:, None]
        logits = torch.cat([pulled, -self.inverse, torch.ones_like(self.inverse)], dim=1) @ atoms.dual
        top = logits.amax(1, keepdim=True)
        weights = logits.sub_(top).exp_()
        curvature: Tensor | Implicit
        if n <= DENSE_DIM:
            sums = weights @ atoms.moments
            total = sums[:, :1]
            mean = sums[:, 1 : n + 1] / total
            second = (sums[:, n + 1 :] / total).view(-1, n, n)
            curvature = (second - mean[:, :, None] * mean[:, None, :]) * self.precision[:, None, None]
        else:
            total = weights.sum(1, keepdim=True)
            mean = (weights @ atoms.points) / total
            spread = 2 * (weights @ atoms.half_squares) / total[:, 0] - mean.square().sum(1)

            def apply(p: Tensor) -> Tensor:
                along = weights * (p @ atoms.points.T - (mean * p).sum(1, keepdim=True)) / total
                return (along @ atoms.points) * self.precision[:, None]

            curvature = Implicit(spread * self.precision, apply)
        value = y.square().sum(1) * self.precision / 2 - top[:, 0] - total[:, 0].log()
        length = self.precision.rsqrt()
        radius = atoms.radius
        noise = EPS * radius * (pulled.square().sum(1).sqrt() + radius * self.inverse[:, 0])
        floor = 8 * (EPS * radius + noise * length.clamp(max=radius))
        return Evaluation(value, mean - y, length, floor, curvature)


@dataclass(frozen=True)
class GatheredProblem(Problem):
    """K' components of its own for every row, any variances, in coordinates centred at the first of them."""

    centres: Tensor  # c_i minus the first of them, `(f, K', n)`
    precision: Tensor  # `1 / s_i`, `(f, K')` or `(f, 1)`
    peaks: Tensor  # Logarithms of `W_i / s_i^(n/2)` of the whole space, the largest of each row about 0, `(f, K')`

    def values(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative log density and the squared local scale at candidates `(f, C, n)`, both `(f, C)`."""
        # Differences, not products: the components may lie far closer together than their distance from 0.
        distance = torch.cdist(candidates, self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        logits = self.peaks[:, None] - distance.square() * self.precision[:, None] / 2
        total = logits.logsumexp(2)
        share = (logits - total[:, :, None]).exp()
        return -total, 1 / (share * self.precision[:, None]).sum(2)

    def evaluate(self, y: Tensor) -> Evaluation:
        """Evaluate at y, `(f, n)`."""
        difference = self.centres - y[:, None]
        squares = difference.square().sum(2)
        logits = self.peaks - squares * self.precision / 2
        value = -logits.logsumexp(1)
        share = (logits + value[:, None]).exp()
        weighted = share * self.precision
        # With one precision for all the responsibilities sum to 1; the sum keeps one formula for both cases.
        scale = weighted.sum(1)
        step = (weighted[:, None] @ difference)[:, 0] / scale[:, None]
        # M = sum r_i p_i^2 d_i d_i^T / D - D step step^T, with d_i = c_i - y and D = sum r_i p_i.
        second = weighted / scale[:, None] * self.precision
        curvature: Tensor | Implicit
        if y.shape[1] <= DENSE_DIM:
            outer = scale[:, None, None] * step[:, :, None] * step[:, None, :]
            curvature = (second[:, :, None] * difference).mT @ difference - outer
        else:

            def apply(p: Tensor) -> Tensor:
                along = (difference @ p[:, :, None])[:, :, 0] * second
                return (along[:, None] @ difference)[:, 0] - (scale * (step * p).sum(1))[:, None] * step

            curvature = Implicit((second * squares).sum(1) - scale * step.square().sum(1), apply)
        length = scale.rsqrt()
        floor = 16 * EPS * (y.square().sum(1).sqrt() + length)
        return Evaluation(value, step, length, floor, curvature)


@dataclass(frozen=True)
class FullProblem(Problem):
    """All components for every row, any variances, in data space: where very many components matter to a row."""

    atoms: Atoms  # Components
    x: Tensor  # X, `(f, n)`
    v: Tensor  # V, `(f, 1)` or `(f, K)`
    lam: Tensor  # Lambda, `(f,)`

    def evaluate(self, y: Tensor) -> Evaluation:
        """Evaluate at y, `(f, n)`, a point z of data space."""
        atoms, points = self.atoms, self.atoms.points
        relative, offset = log_joint(atoms, y, self.v)
        top = relative.logsumexp(1)
        share = (relative - top[:, None]).exp()
        away = y - self.x
        value = away.square().sum(1) / (2 * self.lam) - top - offset[:, 0]
        weighted = share / self.v
        total = weighted.sum(1)
        scale = (1 / self.lam + total)[:, None]
        pull = weighted @ points - y * total[:, None]
        step = (pull - away / self.lam[:, None]) / scale
        second = weighted / self.v / scale
        amount = second.sum(1, keepdim=True)
        toward = second @ points
        squares = 2 * (second @ atoms.half_squares) - 2 * (toward * y).sum(1) + amount[:, 0] * y.square().sum(1)
        trace = squares - pull.square().sum(1) / scale[:, 0]

        def apply(p: Tensor) -> Tensor:
            # sum a_i d_i (d_i . p) with d_i = mu_i - z and a = second, less pull (pull . p) / D
            along = second * (p @ points.T - (y * p).sum(1, keepdim=True))
            out = along @ points - y * along.sum(1, keepdim=True)
            return out - pull * ((pull * p).sum(1, keepdim=True) / scale)

        floor = 16 * EPS * (y.square().sum(1).sqrt() + atoms.radius)
        return Evaluation(value, step, scale[:, 0].rsqrt(), floor, Implicit(trace, apply))


def gather(
    atoms: Atoms, x: Tensor, v: Tensor, lam: Tensor, index: Tensor
) -> tuple[GatheredProblem, Tensor | None, Tensor]:
    """Return the problem of chosen components, how to come back from its coordinates, and where x stands in them."""
    chosen = atoms.points[index]
    vi = v if v.shape[1] == 1 else v.gather(1, index)
    v0, lam = vi[:, :1], lam[:, None]
    delta, xi = chosen - chosen[:, :1], x - chosen[:, 0]
    n = atoms.dim
    basis: Tensor | None = None
    if index.shape[1] < n:
        # The stationary points lie in the affine hull of x and the means: leave the other dimensions out.
        basis, coordinates = torch.linalg.qr(torch.cat([xi[:, None], delta[:, 1:]], dim=1).mT)
        delta = torch.cat([torch.zeros_like(coordinates[:, :, :1]), coordinates[:, :, 1:]], dim=2).mT
        xi = coordinates[:, :, 0]
    pull, pull0 = lam / (vi + lam), lam / (v0 + lam)
    # c_i - c_0 with c_i = X + pull_i (mu_i - X); pull_i - pull_0 = lam (V_0 - V_i) / ((V_i + lam)(V_0 + lam)).
    unequal = lam * (v0 - vi) / ((vi + lam) * (v0 + lam))
    centres = pull[:, :, None] * delta - unequal[:, :, None] * xi[:, None]
    gain = (xi[:, None] * delta).sum(2) - delta.square().sum(2) / 2
    peaks = gain / (vi + lam) - xi.square().sum(1, keepdim=True) / 2 * ((v0 - vi) / ((vi + lam) * (v0 + lam)))
    peaks = peaks + atoms.log_weights[index] - (n / 2) * (vi / v0).log()
    peaks = peaks - peaks.amax(1, keepdim=True)
    return GatheredProblem(centres, 1 / vi + 1 / lam, peaks), basis, pull0 * xi
