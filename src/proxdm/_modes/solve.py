"""The highest (or the nearest downhill) mode for a batch of points: memory, and which way each row is solved.

There are three ways, one for each representation of the densities (:mod:`proxdm._modes.problems`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from proxdm._modes import starts
from proxdm._modes.atoms import TINY, Atoms, PerRow, component_variances, log_joint, log_weights_at
from proxdm._modes.climb import Options, arange, best_of, merged, parts
from proxdm._modes.problems import DENSE_DIM, FullProblem, GatheredProblem, SharedProblem, gather

BUDGET = 2**21
"""Numbers in the largest temporary arrays, roughly."""
PRUNED = 36.0
"""Components whose peaks are together below exp(-36) = 2e-16 of the density reached are left out."""
SHARED_ATOMS = 512
"""Up to this number all components are kept for every row: gathering would cost more than it saves."""
SHARED_RESOLUTION = 1e4
"""R^2 / T, and a hundredth of R^2 / V, above which products of centred coordinates lose too many digits."""
GATHERED_SIZE = 2**14
"""Numbers per row above which gathered components cost more than products with all."""
NEAREST = 8
"""Atoms whose distance is recomputed from differences in a projection."""


@dataclass(frozen=True)
class Rows(PerRow):
    """What to solve: X `(b, n)`, V `(b, 1)` or `(b, K)`, Lambda `(b,)`."""

    x: Tensor
    v: Tensor
    lam: Tensor

    def between(self, y: Tensor, v: Tensor) -> Tensor:
        """Return `(v X + Lambda y) / (v + Lambda)` for y `(b, n)`, v `(b, 1)`."""
        lam = self.lam[:, None]
        return (v * self.x + lam * y) / (v + lam)

    def centres(self, atoms: Atoms, index: Tensor) -> Tensor:
        """Return the centre c_i of a component i of every row `(b,)`."""
        return self.between(atoms.points[index], self.v if atoms.equal else self.v.gather(1, index[:, None]))


@dataclass(frozen=True)
class Modes(PerRow):
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
        for name, value in vars(self).items():
            value[rows] = getattr(other, name)


def find_modes(atoms: Atoms, x: Tensor, noise: Tensor, lam: Tensor, options: Options) -> Modes:
    """Return the modes of `sum_i w_i N(z; mu_i, V_i I) N(z; X, Lambda I)`."""
    out = Modes.empty(x)
    for chunk in parts(arange(x), BUDGET // max(atoms.count, SHARED_ATOMS)):
        rows = Rows(x[chunk], component_variances(atoms, noise[chunk]), lam[chunk])
        _solve_chunk(atoms, rows, options, out, chunk)
    return out


def nearest(atoms: Atoms, x: Tensor) -> Tensor:
    """Return the atom nearest to each x `(b, n)`, itself `(b, n)`; the weights play no role."""
    out = torch.empty_like(x)
    for chunk in parts(arange(x), BUDGET // max(atoms.count, NEAREST * atoms.dim)):
        rough = x[chunk] @ atoms.points.T - atoms.half_squares
        index = rough.topk(min(NEAREST, atoms.count), dim=1).indices
        candidates = atoms.points[index]
        best = (candidates - x[chunk][:, None]).square().sum(2).argmin(1)
        out[chunk] = candidates[arange(best), best]
    return out


def _solve_chunk(atoms: Atoms, rows: Rows, options: Options, out: Modes, at: Tensor) -> None:
    """Send every row the way that suits it; the choice depends on the row alone."""
    exact = _resolved(atoms, rows)
    if atoms.count <= SHARED_ATOMS and bool(exact.any()):
        if bool(exact.all()):
            out.put(at, _solve_shared(atoms, rows, options))
            return
        out.put(at[exact], _solve_shared(atoms, rows[exact], options))
        rows, at, exact = rows[~exact], at[~exact], exact[~exact]
    log_weights = log_weights_at(atoms, rows.x, rows.v + rows.lam[:, None], rows.v)
    level = log_weights.amax(1)
    first: Tensor | None = None
    if options.local:
        first, reached = _first_step(atoms, rows, log_weights)
        level = torch.minimum(level, reached)
    active = (log_weights > level[:, None] - PRUNED - log(atoms.count)).sum(1)
    heavy = active * active.clamp(max=atoms.dim) > GATHERED_SIZE
    if bool((chosen := heavy & exact).any()):
        out.put(at[chosen], _solve_shared(atoms, rows[chosen], options))
    if bool((chosen := heavy & ~exact).any()):
        start = first if first is not None else _first_step(atoms, rows, log_weights)[0]
        out.put(at[chosen], _solve_full(atoms, rows[chosen], log_weights[chosen], start[chosen], options))
    done, size = heavy, 1
    while not bool(done.all()):
        fits = torch.nonzero((active <= size) & ~done)[:, 0]
        done = done | (active <= size)
        count = min(size, atoms.count)
        for part in parts(fits, BUDGET // (count * atoms.dim)):
            index = log_weights[part].topk(count, dim=1).indices
            start_of = None if first is None else first[part]
            out.put(at[part], _solve_gathered(atoms, rows[part], index, start_of, options))
        size *= 4


def _resolved(atoms: Atoms, rows: Rows) -> Tensor:
    """Whether variances are equal and products of centred coordinates keep enough digits for the row, `(b,)`."""
    if not atoms.equal:
        return torch.zeros(len(rows.x), dtype=torch.bool, device=rows.x.device)
    v, square = rows.v[:, 0], atoms.radius**2
    over_t = square * rows.lam / (v * (v + rows.lam))
    return (over_t <= SHARED_RESOLUTION) & (square / v <= 100 * SHARED_RESOLUTION)


def _first_step(atoms: Atoms, rows: Rows, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean-shift image of X in data space, and its log density on the scale of the peaks `log_weights`."""
    share = torch.softmax(log_joint(atoms, rows.x, rows.v)[0], dim=1)
    lam = rows.lam[:, None]
    if atoms.equal:
        y = share @ atoms.points
        precision = lam / (rows.v * (rows.v + lam))
        logits = log_weights + (y @ atoms.points.T - atoms.half_squares) * precision
        return rows.between(y, rows.v), logits.logsumexp(1) - y.square().sum(1) * precision[:, 0] / 2
    weighted = share / rows.v
    total = weighted.sum(1, keepdim=True)
    # X + lam (sum r_i mu_i / V_i - X sum r_i / V_i) / (1 + lam sum r_i / V_i)
    move = lam * (weighted @ atoms.points - rows.x * total) / (1 + lam * total)
    z = rows.x + move
    relative, offset = log_joint(atoms, z, rows.v)
    reached = relative.logsumexp(1) + offset[:, 0] - move.square().sum(1) / (2 * rows.lam)
    # Both terms are huge where X is far: then nothing can be left out on the strength of their difference.
    sure = rows.x.square().sum(1) * 1e-15 < torch.minimum(rows.lam, rows.v.amin(1))
    return z, torch.where(sure, reached, -torch.inf)


def _solve_shared(atoms: Atoms, rows: Rows, options: Options) -> Modes:
    """Solve rows with equal variances from products with all atoms."""
    lam, scale = rows.lam[:, None], rows.v + rows.lam[:, None]
    problem = SharedProblem(atoms, rows.x / scale, 1 / rows.v, (lam / (rows.v * scale))[:, 0].clamp(min=TINY))
    batch = BUDGET // (atoms.count if atoms.dim <= DENSE_DIM else atoms.count + atoms.dim)
    # Cov is at most R^2, so the density is log-concave where R^2 < T.
    unimodal = problem.precision * atoms.radius**2 < 1
    row, y = arange(rows.x), torch.zeros_like(rows.x)
    if options.local:
        y = torch.softmax(log_joint(atoms, rows.x, rows.v)[0], dim=1) @ atoms.points
    elif not bool(unimodal.all()):
        found, several = [(row[unimodal], y[unimodal])], row[~unimodal]
        values, inverse = torch.unique(problem.precision[several], return_inverse=True)
        for number, value in enumerate(values.tolist()):
            group = several[inverse == number]
            among, start = _shared_starts(atoms, problem[group], rows[group], 1 / value, batch)
            found.append((group[among], start))
        row, y = torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])
    y, iterations, converged = best_of(problem, row, y, unimodal, batch, options)
    return Modes(rows.between(y, rows.v), iterations, converged, unimodal)


def _shared_starts(atoms: Atoms, problem: SharedProblem, rows: Rows, t: float, batch: int) -> tuple[Tensor, Tensor]:
    """Return starts for rows of one T: their numbers among them, and points."""
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


def _solve_gathered(atoms: Atoms, rows: Rows, index: Tensor, first: Tensor | None, options: Options) -> Modes:
    """Solve rows from the components that matter to each."""
    problem, basis, here = gather(atoms, rows.x, rows.v, rows.lam, index)
    reference = rows.centres(atoms, index[:, 0])
    unimodal = _proved_unimodal(problem)
    row, several = arange(rows.x), torch.nonzero(~unimodal)[:, 0]
    if first is not None:
        # Projecting the start on the hull brings it nearer to every centre: it only gains height.
        away = first - reference
        y = away if basis is None else (basis.mT @ away[:, :, None])[:, :, 0]
    else:
        y = torch.where(unimodal[:, None], 0.0, here)
        size = index.shape[1] * min(index.shape[1], starts.CANDIDATES)
        for part in parts(several, BUDGET // size):
            among, start = starts.gathered_starts(problem[part])
            row, y = torch.cat([row, part[among]]), torch.cat([y, start])
    batch = BUDGET // (index.shape[1] * y.shape[1])
    y, iterations, converged = best_of(problem, row, y, unimodal, batch, options)
    move = y if basis is None else (basis @ y[:, :, None])[:, :, 0]
    return Modes(reference + move, iterations, converged, unimodal)


def _proved_unimodal(problem: GatheredProblem) -> Tensor:
    """Whether the centres lie in a ball of radius below sqrt(s): then no covariance outweighs the kernel."""
    centres = problem.centres
    if problem.precision.shape[1] > 1:
        return torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    middle = (centres.amax(1, keepdim=True) + centres.amin(1, keepdim=True)) / 2
    return (centres - middle).square().sum(2).amax(1) * problem.precision[:, 0] < 1


def _solve_full(atoms: Atoms, rows: Rows, log_weights: Tensor, first: Tensor, options: Options) -> Modes:
    """Solve rows to which very many components matter, by products with all of them."""
    problem = FullProblem(atoms, rows.x, rows.v, rows.lam)
    batch = BUDGET // (atoms.count + min(atoms.count, 64) * atoms.dim)
    row, y = arange(rows.x), first
    if not options.local:
        index = log_weights.topk(min(starts.HEAVY_STARTS, atoms.count), dim=1).indices
        peaks = torch.stack([rows.centres(atoms, column) for column in index.T], dim=1)
        row, y = merged(problem, torch.cat([peaks, first[:, None]], dim=1), batch)
    unimodal = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    return Modes(*best_of(problem, row, y, unimodal, batch, options), unimodal)
