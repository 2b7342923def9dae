"""From starts to modes by mean shift made fast by Newton's method, never losing height; of many starts the best end.

Every iteration evaluates once. It proposes Newton's step and keeps the mean-shift point as a fall-back: where the
proposal turns out to have lost height, the next iteration goes to the fall-back, which never does. Where M has an
eigenvalue above 1 (H indefinite), the step uses |I - M|, which leaves saddle points instead of approaching them;
a start that sits on a saddle point is pushed off along the eigenvector. Where the best end of a row is soft, a better
one may hide beside it, and it is looked for (:func:`best_of`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proxdm._modes.atoms import PerRow
from proxdm._modes.problems import Evaluation, Implicit, Problem

SADDLE = 1e-6
"""An eigenvalue of M above 1 by more than this makes a stationary point a saddle point."""
NEAR = 1e-6
"""Mean shifts shorter than this, in local lengths, are looked at for saddle points."""
ROUNDING = 1e-12
"""Relative differences of the negative log density below this are rounding."""
CG_ITERATIONS = 40
POWER_ITERATIONS = 30
POWER_GLANCE = 7
"""Power iterations after which eigenvalues that are plainly harmless are no longer refined."""
SMALL_TRACE = 0.5
"""Traces of M below this prove, and estimates below this show, that there is no saddle point."""
SOFT = 0.6
"""A mode whose largest eigenvalue of M is above this may have a sibling within a local length."""
SIBLING = 0.75
"""Distance, in local lengths, of the starts that look for it."""
SHIFTS = 3
"""Mean-shift steps before starts that have come together are merged."""
MERGED = 0.05
"""Distance, in local lengths, below which they have."""


@dataclass(frozen=True)
class Options:
    """How to search: downhill from X alone or for the highest mode, and for how long."""

    local: bool
    max_iterations: int


@dataclass(frozen=True)
class Climb(PerRow):
    """Where climbs ended, row by row."""

    y: Tensor  # The modes, `(f, n)`
    value: Tensor  # Negative log density there (in the units of the problem), `(f,)`
    iterations: Tensor  # Evaluations used, `(f,)`
    converged: Tensor  # Whether the mode was reached to rounding error, `(f,)`
    softness: Tensor  # Largest eigenvalue of M: 0 for a lone component, 1 where the mode is about to vanish, `(f,)`
    direction: Tensor  # Its eigenvector, `(f, n)`
    length: Tensor  # Local scale there, `(f,)`


def climb(problem: Problem, y: Tensor, max_iterations: int) -> Climb:
    """Climb from y `(f, n)` to a mode each."""
    index, best, fallback, here = arange(y), y.new_full((len(y),), torch.inf), y, y
    live = torch.ones_like(index, dtype=torch.bool)
    refused = torch.zeros_like(live)
    places, ends = [], []
    for iteration in range(1, max_iterations + 1):
        ev = problem.evaluate(y)
        # A fall-back is always taken, also if rounding makes it look worse: no row refuses twice in a row.
        ok = refused | (ev.value <= best + ROUNDING * (1 + best.abs()))
        newton, softness, direction = newton_step(ev)
        shift, move = ev.step.square().sum(1).sqrt(), newton.square().sum(1).sqrt()
        # The error after the step is about move^2 / (length * e), e the least eigenvalue of I - M, e <= shift / move.
        settled = (move**3 <= 1e-13 * ev.length**2 * shift) | (shift <= ev.floor)
        saddle = softness > 1 + SADDLE
        finished = ok & settled & ~saddle & live
        push = ok & saddle & (shift <= NEAR * ev.length)
        # Newton's model is no longer true farther away than this.
        limit = torch.maximum(shift, ev.length) / move.clamp(min=1e-300)
        # Off a saddle point along its eigenvector: short enough that the quartic term does not undo the gain.
        leap = (softness - 1).clamp(min=0).sqrt().clamp(max=0.3) * ev.length
        step = torch.where(push[:, None], direction * leap[:, None], newton * limit.clamp(max=1.0)[:, None])
        here = torch.where(ok[:, None], y, here)
        y, fallback = torch.where(ok[:, None], y + step, fallback), torch.where(ok[:, None], y + ev.step, fallback)
        best, refused = torch.where(ok, ev.value, best), ~ok
        if iteration < max_iterations and not bool(finished.any()):
            continue
        done = live if iteration == max_iterations else finished
        last, spent = torch.where(finished[:, None], y, here), torch.full_like(index, iteration)
        ends.append(Climb(last, best, spent, finished, softness, direction, ev.length)[done])
        places.append(index[done])
        live = live & ~done
        left = int(live.sum())
        if left == 0:
            break
        if left < 0.75 * len(live):
            rows = torch.nonzero(live)[:, 0]
            problem, index, live = problem[rows], index[rows], live[rows]
            y, fallback, here, best, refused = y[rows], fallback[rows], here[rows], best[rows], refused[rows]
    return _joined(ends)[torch.cat(places).argsort()]


def best_of(
    problem: Problem, row: Tensor, y: Tensor, unimodal: Tensor, batch: int, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb from every start y `(S, n)` of a row `(S,)`; return the best end of every row, how long, and whether.

    Where a row is not proved `unimodal`, soft ends have their surroundings looked at.
    """
    ends = _climb_in_batches(problem, row, y, batch, options)
    pick = _lowest(row, ends.value, len(unimodal))
    iterations = torch.zeros_like(pick).scatter_add(0, row, ends.iterations)
    soft = torch.nonzero((ends.softness[pick] > SOFT) & ~unimodal)[:, 0]
    if not options.local and len(soft):
        ends, twice = ends[pick], torch.cat([soft, soft])
        offset = (SIBLING * ends.length[soft, None]) * ends.direction[soft]
        beside = torch.cat([ends.y[soft] + offset, ends.y[soft] - offset])
        around = _climb_in_batches(problem, twice, beside, batch, options)
        iterations = iterations.scatter_add(0, twice, around.iterations)
        ends = _joined([ends, around])
        pick = _lowest(torch.cat([arange(unimodal), twice]), ends.value, len(unimodal))
    return ends.y[pick], iterations, ends.converged[pick]


def merged(problem: Problem, y: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Shift S starts per row, `(b, S, n)`, a few times and return those that stay apart: row and point of each."""
    b, count, n = y.shape
    row, flat = arange(y).repeat_interleave(count), y.reshape(b * count, n)
    ends, lengths = [], []
    for rows, part in zip(parts(row, batch), parts(flat, batch), strict=True):
        some = problem[rows]
        for _ in range(SHIFTS):
            ev = some.evaluate(part)
            part = part + ev.step
        ends.append(part)
        lengths.append(ev.length)
    y, length = torch.cat(ends).reshape(y.shape), torch.cat(lengths).reshape(b, count)
    close = torch.cdist(y, y) < MERGED * length[:, :, None]
    twin = torch.tril(close, diagonal=-1).any(2).flatten()
    return row[~twin], y.reshape(b * count, n)[~twin]


def _climb_in_batches(problem: Problem, row: Tensor, y: Tensor, batch: int, options: Options) -> Climb:
    several = zip(parts(row, batch), parts(y, batch), strict=True)
    return _joined([climb(problem[rows], points, options.max_iterations) for rows, points in several])


def _joined(climbs: list[Climb]) -> Climb:
    return Climb(*(torch.cat(field) for field in zip(*(vars(c).values() for c in climbs), strict=True)))


def _lowest(row: Tensor, value: Tensor, count: int) -> Tensor:
    """Return the position of the lowest value of every row, the first of equal ones."""
    best = value.new_full((count,), float("inf")).scatter_reduce(0, row, value, "amin")
    position = torch.where(value <= best[row], arange(row), len(row) - 1)
    return torch.full((count,), len(row) - 1, device=row.device).scatter_reduce(0, row, position, "amin")


def arange(x: Tensor) -> Tensor:
    """Return the row numbers of x."""
    return torch.arange(len(x), device=x.device)


def parts(x: Tensor, size: int) -> tuple[Tensor, ...]:
    """Return x cut along the first dimension into parts of a size (at least 1); none where x is empty."""
    return torch.split(x, max(1, size)) if len(x) else ()


def newton_step(ev: Evaluation) -> tuple[Tensor, Tensor, Tensor]:
    """Return `|I - M|^{-1} step`, and the largest eigenvalue of M with its eigenvector where they are known."""
    if isinstance(ev.curvature, Implicit):
        return _newton_iterative(ev, ev.curvature)
    n = ev.step.shape[1]
    if n == 1:
        softness = ev.curvature[:, 0, 0]
        return ev.step / _gap(softness)[:, None], softness, torch.ones_like(ev.step)
    if n == 2:
        return _newton_plane(ev.curvature, ev.step)
    values, vectors = torch.linalg.eigh(ev.curvature)
    along = (vectors.mT @ ev.step[:, :, None]) / _gap(values)[:, :, None]
    return (vectors @ along)[:, :, 0], values[:, -1], vectors[:, :, -1]


def _gap(eigenvalue: Tensor) -> Tensor:
    """Return |1 - eigenvalue|, kept away from 0 (steps are capped anyway)."""
    return (1 - eigenvalue).abs().clamp(min=1e-12)


def _newton_plane(matrix: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's step in two dimensions, from the eigenvalues in closed form."""
    a, b, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1]
    half = (a - d) / 2
    root = torch.hypot(half, b)
    high, low = (a + d) / 2 + root, (a + d) / 2 - root
    # Of the two forms of the eigenvector, the one without cancellation; any direction where both eigenvalues agree.
    first = half >= 0
    p = torch.where(first, half + root, b)
    q = torch.where(first, b, root - half)
    norm = torch.hypot(p, q)
    flat = norm <= 1e-300
    p, q = torch.where(flat, 1.0, p / norm), torch.where(flat, 0.0, q / norm)
    along, across = p * step[:, 0] + q * step[:, 1], p * step[:, 1] - q * step[:, 0]
    along, across = along / _gap(high), across / _gap(low)
    out = torch.stack([p * along - q * across, q * along + p * across], dim=1)
    return out, high, torch.stack([p, q], dim=1)


def _newton_iterative(ev: Evaluation, m: Implicit) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's step by conjugate gradients, the mean shift where the curvature is negative."""
    x, r = torch.zeros_like(ev.step), ev.step.clone()
    p, rr = r.clone(), r.square().sum(1)
    # As exact as the step is short: that keeps the convergence quadratic.
    target = rr * (1e-2 * rr / ev.length.square()).clamp(1e-24, 1e-4)
    going = torch.ones_like(rr, dtype=torch.bool)
    for _ in range(CG_ITERATIONS):
        hp = p - m.apply(p)
        curvature = (p * hp).sum(1)
        going = going & (curvature > 1e-12 * p.square().sum(1)) & (rr > target)
        if not bool(going.any()):
            break
        alpha = torch.where(going, rr / curvature, 0.0)
        x, r = x + alpha[:, None] * p, r - alpha[:, None] * hp
        new = r.square().sum(1)
        beta = torch.where(going, new / rr, 0.0)
        p, rr = r + beta[:, None] * p, torch.where(going, new, rr)
    # The trace bounds the eigenvalues; only where it leaves room for a saddle point near the end they are looked at.
    near = (ev.step.square().sum(1).sqrt() <= NEAR * ev.length) & (m.trace > SMALL_TRACE)
    softness, direction = _power_iteration(m, x) if bool(near.any()) else (m.trace.clamp(max=1.0), torch.zeros_like(x))
    unmoved = x.square().sum(1) == 0
    return torch.where(unmoved[:, None], ev.step, x), softness, direction


def _power_iteration(m: Implicit, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return an estimate, from below, of the largest eigenvalue of M and its eigenvector, of the shape of `like`."""
    start = torch.cos(torch.arange(like.shape[1], device=like.device, dtype=like.dtype) ** 2)
    p = (start / start.norm()).expand_as(like)
    value = torch.zeros_like(m.trace)
    for iteration in range(POWER_ITERATIONS):
        q = m.apply(p)
        value, norm = (p * q).sum(1), q.square().sum(1).sqrt()[:, None]
        p = torch.where(norm > 1e-100, q / norm, p)
        # After a few iterations the estimate is right within a factor of two (n^(1/(2 k)) of the start's share).
        if iteration == POWER_GLANCE and bool((value < SMALL_TRACE).all()):
            break
    return value, p
