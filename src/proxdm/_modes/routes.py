"""The three ways to solve a batch of rows: one for each representation of their densities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm._modes import starts
from proxdm._modes.atoms import Atoms, log_joint, log_weights_at
from proxdm._modes.problems import DENSE_DIM, FullProblem, GatheredProblem, SharedProblem, gather
from proxdm._modes.search import arange, best_of, merged, parts

BUDGET = 2**21
"""Numbers in the largest temporary arrays, roughly."""


@dataclass(frozen=True)
class Rows:
    """What to solve: X `(b, n)`, V `(b, 1)` or `(b, K)`, Lambda `(b,)`."""

    x: Tensor
    v: Tensor
    lam: Tensor

    def __getitem__(self, rows: Tensor) -> Rows:
        return Rows(self.x[rows], self.v[rows], self.lam[rows])

    def between(self, atoms: Tensor, v: Tensor) -> Tensor:
        """Return `(v X + Lambda a) / (v + Lambda)` for a `(b, n)` or `(b, S, n)`, v `(b, 1)` or `(b, S)`."""
        if atoms.ndim == 2:
            lam = self.lam[:, None]
            return (v * self.x + lam * atoms) / (v + lam)
        lam, v = self.lam[:, None, None], v[:, :, None]
        return (v * self.x[:, None] + lam * atoms) / (v + lam)


@dataclass(frozen=True)
class Modes:
    """Modes in data space."""

    z: Tensor  # The modes, `(b, n)`, centred as the atoms are
    iterations: Tensor  # Evaluations of the density, all starts of a row together, `(b,)`
    converged: Tensor  # Whether the mode was reached to rounding error, `(b,)`
    unimodal: Tensor  # Whether it is proved that no other is as high, `(b,)`

    @classmethod
    def empty(cls, x: Tensor) -> Modes:
        """Return room for the modes of points `(b, n)`."""
        zeros = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return cls(torch.zeros_like(x), zeros, zeros.bool(), zeros.bool())

    def put(self, rows: Tensor, other: Modes) -> None:
        """Write the modes of some rows."""
        self.z[rows] = other.z
        self.iterations[rows] = other.iterations
        self.converged[rows] = other.converged
        self.unimodal[rows] = other.unimodal


@dataclass(frozen=True)
class Options:
    """How to search: downhill from X alone or for the highest mode, and for how long."""

    local: bool
    max_iterations: int


def solve_shared(atoms: Atoms, rows: Rows, options: Options) -> Modes:
    """Solve rows with equal variances from products with all atoms."""
    problem = SharedProblem.make(atoms, rows.x, rows.v, rows.lam)
    batch = BUDGET // (atoms.count if atoms.dim <= DENSE_DIM else atoms.count + atoms.dim)
    # Cov is at most R^2, so the density is log-concave where R^2 < T.
    unimodal = problem.precision * atoms.radius**2 < 1
    row, y = arange(rows.x), torch.zeros_like(rows.x)
    if options.local:
        y = torch.softmax(log_joint(atoms, rows.x, rows.v)[0], dim=1) @ atoms.points
    elif not bool(unimodal.all()):
        found = [(row[unimodal], y[unimodal])]
        for t, group in _groups(problem.precision, ~unimodal):
            among, start = _shared_starts(atoms, problem, rows, t, group, batch)
            found.append((group[among], start))
        row, y = torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])
    siblings = torch.zeros_like(unimodal) if options.local else ~unimodal
    y, iterations, converged = best_of(
        problem, row, y, siblings=siblings, batch=batch, max_iterations=options.max_iterations
    )
    return Modes(rows.between(y, rows.v), iterations, converged, unimodal)


def _groups(precision: Tensor, wanted: Tensor) -> list[tuple[float, Tensor]]:
    """Return `(T, rows)` for every distinct T among the wanted rows."""
    rows = torch.nonzero(wanted)[:, 0]
    values, inverse = torch.unique(precision[rows], return_inverse=True)
    if len(values) == 1:
        return [(1 / float(values[0]), rows)]
    order = torch.argsort(inverse, stable=True)
    groups = torch.split(rows[order], torch.bincount(inverse).tolist())
    return [(1 / value, group) for value, group in zip(values.tolist(), groups, strict=True)]


def _shared_starts(
    atoms: Atoms, problem: SharedProblem, rows: Rows, t: float, group: Tensor, batch: int
) -> tuple[Tensor, Tensor]:
    """Return starts for rows of one T: their numbers within the group, and points."""
    if len(group) < len(rows.x):
        rows, problem = rows[group], problem.take(group)
    weights = log_weights_at(atoms, rows.x, rows.v + rows.lam[:, None], rows.v)
    if (counts := starts.grid_counts(atoms, t**0.5)) is not None:
        return starts.grid_starts(atoms, weights, t, counts)
    here = torch.softmax(log_joint(atoms, rows.x, rows.v)[0], dim=1) @ atoms.points
    average = torch.softmax(weights, dim=1) @ atoms.points
    if atoms.count <= starts.TABLE_ATOMS:
        row, y = starts.table_starts(atoms, weights, t)
        everyone = arange(here)
        return torch.cat([row, everyone, everyone]), torch.cat([y, here, average])
    peaks = atoms.points[weights.topk(starts.HEAVY_STARTS, dim=1).indices]
    return merged(problem, torch.cat([peaks, here[:, None], average[:, None]], dim=1), batch)


def solve_gathered(atoms: Atoms, rows: Rows, index: Tensor, first: Tensor | None, options: Options) -> Modes:
    """Solve rows from the components that matter to each."""
    problem, basis, here = gather(atoms, rows.x, rows.v, rows.lam, index)
    v0 = rows.v if atoms.equal else rows.v.gather(1, index[:, :1])
    reference = rows.between(atoms.points[index[:, 0]], v0)
    unimodal = _proved_unimodal(problem)
    row, several = arange(rows.x), torch.nonzero(~unimodal)[:, 0]
    if first is not None:
        # Projecting the start on the hull brings it nearer to every centre: it only gains height.
        away = first - reference
        y = away if basis is None else (basis.mT @ away[:, :, None])[:, :, 0]
    else:
        y = torch.where(unimodal[:, None], 0.0, here)
        size = index.shape[1] * min(index.shape[1], starts.CANDIDATES)
        for part in parts(several, BUDGET // size) if len(several) else ():
            among, start = starts.gathered_starts(problem.take(part))
            row, y = torch.cat([row, part[among]]), torch.cat([y, start])
    siblings = torch.zeros_like(unimodal) if options.local else ~unimodal
    batch = BUDGET // (index.shape[1] * y.shape[1])
    y, iterations, converged = best_of(
        problem, row, y, siblings=siblings, batch=batch, max_iterations=options.max_iterations
    )
    move = y if basis is None else (basis @ y[:, :, None])[:, :, 0]
    return Modes(reference + move, iterations, converged, unimodal)


def _proved_unimodal(problem: GatheredProblem) -> Tensor:
    """Whether the centres lie in a ball of radius below sqrt(s): then no covariance outweighs the kernel."""
    centres = problem.centres
    if centres.shape[1] == 1:
        return torch.ones(len(centres), dtype=torch.bool, device=centres.device)
    if problem.precision.shape[1] > 1:
        return torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    middle = (centres.amax(1, keepdim=True) + centres.amin(1, keepdim=True)) / 2
    return (centres - middle).square().sum(2).amax(1) * problem.precision[:, 0] < 1


def solve_full(atoms: Atoms, rows: Rows, log_weights: Tensor, first: Tensor, options: Options) -> Modes:
    """Solve rows to which very many components matter, by products with all of them."""
    problem = FullProblem(atoms, rows.x, rows.v, rows.lam)
    batch = BUDGET // (atoms.count + min(atoms.count, 64) * atoms.dim)
    row, y = arange(rows.x), first
    if not options.local:
        index = log_weights.topk(min(starts.HEAVY_STARTS, atoms.count), dim=1).indices
        v = rows.v.expand(-1, index.shape[1]) if atoms.equal else rows.v.gather(1, index)
        peaks = rows.between(atoms.points[index], v)
        row, y = merged(problem, torch.cat([peaks, first[:, None]], dim=1), batch)
    unimodal = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    siblings = torch.full_like(unimodal, not options.local)
    y, iterations, converged = best_of(
        problem, row, y, siblings=siblings, batch=batch, max_iterations=options.max_iterations
    )
    return Modes(y, iterations, converged, unimodal)
