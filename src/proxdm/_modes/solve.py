"""The highest (or the nearest downhill) mode for a batch of points: memory, and which way each row is solved."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from proxdm._modes.atoms import Atoms, component_variances, log_joint, log_weights_at
from proxdm._modes.routes import BUDGET, Modes, Options, Rows, solve_full, solve_gathered, solve_shared
from proxdm._modes.search import arange, parts

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


def find_modes(atoms: Atoms, x: Tensor, noise: Tensor, lam: Tensor, *, local: bool, max_iterations: int) -> Modes:
    """Return the modes of `sum_i w_i N(z; mu_i, V_i I) N(z; X, Lambda I)`."""
    out = Modes.empty(x)
    options = Options(local, max_iterations)
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
            out.put(at, solve_shared(atoms, rows, options))
            return
        out.put(at[exact], solve_shared(atoms, rows[exact], options))
        rows, at, exact = rows[~exact], at[~exact], exact[~exact]
    log_weights = log_weights_at(atoms, rows.x, rows.v + rows.lam[:, None], rows.v)
    level = log_weights.amax(1)
    first: Tensor | None = None
    if options.local:
        first, reached = _first_step(atoms, rows, log_weights)
        level = torch.minimum(level, reached)
    active = (log_weights > level[:, None] - PRUNED - log(atoms.count)).sum(1)
    heavy = active * active.clamp(max=atoms.dim) > GATHERED_SIZE
    if bool((heavy & exact).any()):
        chosen = heavy & exact
        out.put(at[chosen], solve_shared(atoms, rows[chosen], options))
    if bool((heavy & ~exact).any()):
        chosen = heavy & ~exact
        start = first if first is not None else _first_step(atoms, rows, log_weights)[0]
        out.put(at[chosen], solve_full(atoms, rows[chosen], log_weights[chosen], start[chosen], options))
    done, size = heavy, 1
    while not bool(done.all()):
        fits = torch.nonzero((active <= size) & ~done)[:, 0]
        done = done | (active <= size)
        count = min(size, atoms.count)
        for part in parts(fits, BUDGET // (count * atoms.dim)) if len(fits) else ():
            index = log_weights[part].topk(count, dim=1).indices
            start_of = None if first is None else first[part]
            out.put(at[part], solve_gathered(atoms, rows[part], index, start_of, options))
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
