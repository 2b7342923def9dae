"""Components of a mixture in data space, and the log weights that a point gives them without losing digits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps
TINY = 1e-200
"""Variances and precisions are kept above this, so that their inverses stay finite."""
REFINE_ABOVE = 1e-11
"""Rounding error of a log weight above which the competing components are recomputed."""
REFINED = 64
"""How many components of a point are recomputed then."""


@dataclass(frozen=True)
class PerRow:
    """Tensors with an entry for every row of a batch (and maybe the atoms, which all rows share)."""

    def __getitem__(self, rows: Tensor) -> Self:
        """Return some rows, with repetition if need be."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{name: value[rows] for name, value in values.items() if isinstance(value, Tensor)})


@dataclass(frozen=True)
class Atoms:
    """Means, weights and variances of a mixture, float64, moved so that their bounding box is centred at 0."""

    points: Tensor  # Means, `(K, n)`
    centre: Tensor  # What was subtracted from them, `(n,)`
    log_weights: Tensor  # Logarithms of the normalised weights, `(K,)`
    variances: Tensor  # Variances of the components at t = 0: `(1,)` where all are equal, else `(K,)`

    @property
    def count(self) -> int:
        """Number of components K."""
        return self.points.shape[0]

    @property
    def dim(self) -> int:
        """Dimension n."""
        return self.points.shape[1]

    @property
    def equal(self) -> bool:
        """Whether all components have the same variance."""
        return self.variances.numel() == 1

    @cached_property
    def half_squares(self) -> Tensor:
        """`|mu_i|^2 / 2`, `(K,)`."""
        return self.points.square().sum(1) / 2

    @cached_property
    def half_extent(self) -> Tensor:
        """Half the sides of the bounding box, `(n,)`."""
        return self.points.amax(0)

    @cached_property
    def radius(self) -> float:
        """Radius of a ball around 0 that holds all means."""
        return float((2 * self.half_squares.max()).sqrt())

    @cached_property
    def dual(self) -> Tensor:
        """Rows `mu, |mu|^2 / 2, log w`, `(n + 2, K)`: one product with `(z / V, -1 / V, 1)` gives log weights."""
        return torch.cat([self.points.T, self.half_squares[None], self.log_weights[None]])

    @cached_property
    def moments(self) -> Tensor:
        """Columns `1, mu, mu mu^T`, `(K, 1 + n + n^2)`: one product with weights gives mean and covariance."""
        ones = self.points.new_ones(self.count, 1)
        outer = (self.points[:, :, None] * self.points[:, None, :]).flatten(1)
        return torch.cat([ones, self.points, outer], dim=1)

    @cached_property
    def squared_distances(self) -> Tensor:
        """`|mu_i - mu_j|^2`, `(K, K)`, float32; for moderate K only."""
        return torch.cdist(self.points, self.points).square().to(torch.float32)


def make_atoms(means: Tensor, log_weights: Tensor, variances: Tensor) -> Atoms:
    """Return the atoms of float64 means `(K, n)`, moved to the centre of their bounding box."""
    centre = (means.amax(0) + means.amin(0)) / 2
    if bool((variances == variances[0]).all()):
        variances = variances[:1]
    return Atoms(means - centre, centre, log_weights, variances)


def component_variances(atoms: Atoms, noise: Tensor) -> Tensor:
    """Return V: `std_i^2 + noise` for noise `(b,)`, shape `(b, 1)` where all are equal, else `(b, K)`."""
    return (atoms.variances + noise[:, None]).clamp(min=TINY)


def log_weights_at(atoms: Atoms, x: Tensor, scale: Tensor, norm: Tensor) -> Tensor:
    """Return `log w_i - n/2 log norm_i - |x - mu_i|^2 / (2 scale_i)`, up to one number per row, `(b, K)`.

    From a matrix product: rounding is about eps `(|x| + R)^2 / scale`, R the radius of the atoms. With equal
    variances only `x . mu_i` counts, so that a distant x costs little.
    """
    cross = x @ atoms.points.T
    if atoms.equal:
        return (cross - atoms.half_squares) / scale + atoms.log_weights
    distance = cross - atoms.half_squares - x.square().sum(1, keepdim=True) / 2
    return distance / scale - (atoms.dim / 2) * norm.log() + atoms.log_weights


def log_joint(atoms: Atoms, x: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(relative, offset)` with `log(w_i N(x; mu_i, V_i I)) = relative + offset - n/2 log(2 pi)`.

    Where the matrix product would lose digits (variances that are tiny beside the spread of the atoms, x far
    away), the components that compete are recomputed from differences with the strongest one.
    """
    relative = log_weights_at(atoms, x, variance, variance)
    if atoms.equal:
        offset = -x.square().sum(1, keepdim=True) / (2 * variance) - (atoms.dim / 2) * variance.log()
    else:
        offset = torch.zeros_like(variance[:, :1])
    reach = (x.square().sum(1).sqrt() + atoms.radius).square()
    rough = torch.nonzero(EPS * reach > REFINE_ABOVE * variance.amin(1))[:, 0]
    for rows in torch.split(rough, max(1, 2**22 // (min(REFINED, atoms.count) * atoms.dim))):
        relative[rows], offset[rows] = _refined(atoms, x[rows], variance[rows], relative[rows])
    return relative, offset


def _refined(atoms: Atoms, x: Tensor, variance: Tensor, rough: Tensor) -> tuple[Tensor, Tensor]:
    """Recompute the strongest components of each row relative to the strongest of all."""
    value, index = rough.topk(min(REFINED, atoms.count), dim=1)
    v = variance if atoms.equal else variance.gather(1, index)
    reference = atoms.points[index[:, 0]]
    xi, v0 = x - reference, v[:, :1]
    delta = atoms.points[index] - reference[:, None]
    # |x - mu_i|^2 - |x - mu_0|^2 = |delta|^2 - 2 xi . delta: no large numbers are subtracted.
    gain = (xi[:, None] * delta).sum(2) - delta.square().sum(2) / 2
    square = xi.square().sum(1, keepdim=True)
    exact = gain / v - square / 2 * ((v0 - v) / (v * v0)) + atoms.log_weights[index]
    if not atoms.equal:
        exact = exact - (atoms.dim / 2) * (v / v0).log()
    offset = -square / (2 * v0) - (atoms.dim / 2) * v0.log()
    relative = rough - value[:, :1] + exact[:, :1]
    return relative.scatter(1, index, exact), offset
