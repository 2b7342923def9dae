"""From one start to one mode: mean shift made fast by Newton's method, never losing height.

Every iteration evaluates once. It proposes Newton's step and keeps the mean-shift point as a fall-back: where the
proposal turns out to have lost height, the next iteration goes to the fall-back, which never does. Where M has an
eigenvalue above 1 (H indefinite), the step uses |I - M|, which leaves saddle points instead of approaching them;
a start that sits on a saddle point is pushed off along the eigenvector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from proxdm._modes.problems import Evaluation, Problem

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


@dataclass(frozen=True)
class Climb:
    """Where climbs ended, row by row."""

    y: Tensor  # The modes, `(f, n)`
    value: Tensor  # Negative log density there (in the units of the problem), `(f,)`
    iterations: Tensor  # Evaluations used, `(f,)`
    converged: Tensor  # Whether the mode was reached to rounding error, `(f,)`
    softness: Tensor  # Largest eigenvalue of M: 0 for a lone component, 1 where the mode is about to vanish, `(f,)`
    direction: Tensor  # Its eigenvector, `(f, n)`
    length: Tensor  # Local scale there, `(f,)`


class _Newton(NamedTuple):
    """Newton's (or |Newton's|) step, the largest eigenvalue of M and its eigenvector where they are known."""

    step: Tensor
    softness: Tensor
    direction: Tensor


def climb(problem: Problem, y: Tensor, max_iterations: int) -> Climb:
    """Climb from y `(f, n)` to a mode each."""
    f = y.shape[0]
    out = Climb(
        y=y.clone(),
        value=y.new_full((f,), float("inf")),
        iterations=torch.full((f,), max_iterations, device=y.device),
        converged=torch.zeros(f, dtype=torch.bool, device=y.device),
        softness=y.new_zeros(f),
        direction=torch.zeros_like(y),
        length=y.new_ones(f),
    )
    index = torch.arange(f, device=y.device)
    best, fallback, here = out.value.clone(), y, y
    live = torch.ones(f, dtype=torch.bool, device=y.device)
    refused = torch.zeros_like(live)
    for iteration in range(1, max_iterations + 1):
        ev = problem.evaluate(y)
        # A fall-back is always taken, also if rounding makes it look worse: no row refuses twice in a row.
        ok = refused | (ev.value <= best + ROUNDING * (1 + best.abs()))
        newton = newton_step(ev)
        shift, move = ev.step.square().sum(1).sqrt(), newton.step.square().sum(1).sqrt()
        # The error after the step is about move^2 / (length * e), e the least eigenvalue of I - M, e <= shift / move.
        settled = (move**3 <= 1e-13 * ev.length**2 * shift) | (shift <= ev.floor)
        saddle = newton.softness > 1 + SADDLE
        finished = ok & settled & ~saddle & live
        push = ok & saddle & (shift <= NEAR * ev.length)
        step = _capped(newton.step, move, torch.maximum(shift, ev.length))
        step = torch.where(push[:, None], _off_saddle(newton, ev), step)
        here = torch.where(ok[:, None], y, here)
        y, fallback = torch.where(ok[:, None], y + step, fallback), torch.where(ok[:, None], y + ev.step, fallback)
        best, refused = torch.where(ok, ev.value, best), ~ok
        last = iteration == max_iterations
        if last or bool(finished.any()):
            done = live if last else finished
            _record(out, index[done], done, torch.where(finished[:, None], y, here), best, ev, newton)
            out.iterations[index[done]], out.converged[index[done]] = iteration, finished[done]
            live = live & ~done
            left = int(live.sum())
            if left == 0:
                break
            if left < 0.75 * len(live):
                rows = torch.nonzero(live)[:, 0]
                problem, index, live = problem.take(rows), index[rows], live[rows]
                y, fallback, here, best, refused = y[rows], fallback[rows], here[rows], best[rows], refused[rows]
    return out


def _record(out: Climb, at: Tensor, done: Tensor, y: Tensor, value: Tensor, ev: Evaluation, newton: _Newton) -> None:
    """Write the ends of the rows `done` of an iteration to the places `at`."""
    out.y[at], out.value[at] = y[done], value[done]
    out.softness[at], out.direction[at] = newton.softness[done], newton.direction[done]
    out.length[at] = ev.length[done]


def _capped(step: Tensor, norm: Tensor, limit: Tensor) -> Tensor:
    """Shorten steps to a length: Newton's model is no longer true farther away."""
    return step * (limit / norm.clamp(min=1e-300)).clamp(max=1.0)[:, None]


def _off_saddle(newton: _Newton, ev: Evaluation) -> Tensor:
    """Step along the direction of negative curvature: short enough that the quartic term does not undo the gain."""
    size = (newton.softness - 1).clamp(min=0).sqrt().clamp(max=0.3) * ev.length
    return newton.direction * size[:, None]


def newton_step(ev: Evaluation) -> _Newton:
    """Return `|I - M|^{-1} step` and the largest eigenvalue of M with its eigenvector."""
    if ev.matrix is None:
        return _newton_iterative(ev)
    n = ev.step.shape[1]
    if n == 1:
        softness = ev.matrix[:, 0, 0]
        return _Newton(ev.step / _gap(softness)[:, None], softness, torch.ones_like(ev.step))
    if n == 2:
        return _newton_plane(ev.matrix, ev.step)
    return _newton_dense(ev.matrix, ev.step)


def _gap(eigenvalue: Tensor) -> Tensor:
    """Return |1 - eigenvalue|, kept away from 0 (steps are capped anyway)."""
    return (1 - eigenvalue).abs().clamp(min=1e-12)


def _newton_plane(matrix: Tensor, step: Tensor) -> _Newton:
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
    return _Newton(out, high, torch.stack([p, q], dim=1))


def _newton_dense(matrix: Tensor, step: Tensor) -> _Newton:
    """Newton's step from all eigenvalues, where a matrix of moderate size is at hand."""
    values, vectors = torch.linalg.eigh(matrix)
    parts = (vectors.mT @ step[:, :, None]) / _gap(values)[:, :, None]
    return _Newton((vectors @ parts)[:, :, 0], values[:, -1], vectors[:, :, -1])


def _newton_iterative(ev: Evaluation) -> _Newton:
    """Newton's step by conjugate gradients, the mean shift where the curvature is negative."""
    x, r = torch.zeros_like(ev.step), ev.step.clone()
    p, rr = r.clone(), r.square().sum(1)
    # As exact as the step is short: that keeps the convergence quadratic.
    target = rr * (1e-2 * rr / ev.length.square()).clamp(1e-24, 1e-4)
    going = torch.ones_like(rr, dtype=torch.bool)
    for _ in range(CG_ITERATIONS):
        hp = p - ev.apply(p)
        curvature = (p * hp).sum(1)
        going = going & (curvature > 1e-12 * p.square().sum(1)) & (rr > target)
        if not bool(going.any()):
            break
        alpha = torch.where(going, rr / curvature, 0.0)
        x, r = x + alpha[:, None] * p, r - alpha[:, None] * hp
        new = r.square().sum(1)
        beta = torch.where(going, new / rr, 0.0)
        p, rr = r + beta[:, None] * p, torch.where(going, new, rr)
    softness, direction = ev.trace.clone(), torch.zeros_like(x)
    # The trace bounds the eigenvalues; only where it leaves room for a saddle point near the end they are looked at.
    near = (ev.step.square().sum(1).sqrt() <= NEAR * ev.length) & (ev.trace > SMALL_TRACE)
    if bool(near.any()):
        softness, direction = _power_iteration(ev)
    else:
        softness = softness.clamp(max=1.0)
    unmoved = x.square().sum(1) == 0
    return _Newton(torch.where(unmoved[:, None], ev.step, x), softness, direction)


def _power_iteration(ev: Evaluation) -> tuple[Tensor, Tensor]:
    """Return an estimate, from below, of the largest eigenvalue of M and its eigenvector."""
    n = ev.step.shape[1]
    start = torch.cos(torch.arange(n, device=ev.step.device, dtype=ev.step.dtype) ** 2)
    p = (start / start.norm()).expand_as(ev.step)
    value = ev.length.new_zeros(len(p))
    for iteration in range(POWER_ITERATIONS):
        q = ev.apply(p)
        value, norm = (p * q).sum(1), q.square().sum(1).sqrt()[:, None]
        p = torch.where(norm > 1e-100, q / norm, p)
        # After a few iterations the estimate is right within a factor of two (n^(1/(2 k)) of the start's share).
        if iteration == POWER_GLANCE and bool((value < SMALL_TRACE).all()):
            break
    return value, p
