"""Many starts, one answer per row: the lowest end, looked at once more where a better one may hide beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from proxdm._modes.climb import Climb, climb
from proxdm._modes.problems import Problem

SOFT = 0.6
"""A mode whose largest eigenvalue of M is above this may have a sibling within a local length."""
SIBLING = 0.75
"""Distance, in local lengths, of the starts that look for it."""
SHIFTS = 3
"""Mean-shift steps before starts that have come together are merged."""
MERGED = 0.05
"""Distance, in local lengths, below which they have."""


def best_of(
    problem: Problem, row: Tensor, y: Tensor, *, siblings: Tensor, batch: int, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb from every start and return the best end of every row."""
    ends = _climb_in_batches(problem, row, y, batch, max_iterations)
    pick = _lowest(row, ends.value, len(siblings))
    iterations = torch.zeros_like(pick).scatter_add(0, row, ends.iterations)
    soft = torch.nonzero((ends.softness[pick] > SOFT) & siblings)[:, 0]
    if not len(soft):
        return ends.y[pick], iterations, ends.converged[pick]
    best = pick[soft]
    offset = (SIBLING * ends.length[best, None]) * ends.direction[best]
    row = torch.cat([arange(siblings), soft, soft])
    around = _climb_in_batches(
        problem, row[len(pick) :], torch.cat([ends.y[best] + offset, ends.y[best] - offset]), batch, max_iterations
    )
    iterations = iterations.scatter_add(0, row[len(pick) :], around.iterations)
    ends = _joined([_rows_of(ends, pick), around])
    pick = _lowest(row, ends.value, len(siblings))
    return ends.y[pick], iterations, ends.converged[pick]


def merged(problem: Problem, y: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Shift S starts per row, `(b, S, n)`, a few times and return those that stay apart: row and point of each."""
    b, count, n = y.shape
    row, flat = arange(y).repeat_interleave(count), y.reshape(b * count, n)
    ends, lengths = [], []
    for rows, part in zip(parts(row, batch), parts(flat, batch), strict=True):
        some = problem.take(rows)
        for _ in range(SHIFTS):
            ev = some.evaluate(part)
            part = part + ev.step
        ends.append(part)
        lengths.append(ev.length)
    y, length = torch.cat(ends).reshape(y.shape), torch.cat(lengths).reshape(b, count)
    close = torch.cdist(y, y) < MERGED * length[:, :, None]
    twin = torch.tril(close, diagonal=-1).any(2).flatten()
    return row[~twin], y.reshape(b * count, n)[~twin]


def _climb_in_batches(problem: Problem, row: Tensor, y: Tensor, batch: int, max_iterations: int) -> Climb:
    return _joined(
        [
            climb(problem.take(rows), points, max_iterations)
            for rows, points in zip(parts(row, batch), parts(y, batch), strict=True)
        ]
    )


def _joined(climbs: list[Climb]) -> Climb:
    if len(climbs) == 1:
        return climbs[0]
    return Climb(*(torch.cat(field) for field in zip(*(vars(c).values() for c in climbs), strict=True)))


def _rows_of(ends: Climb, rows: Tensor) -> Climb:
    return Climb(*(field[rows] for field in vars(ends).values()))


def _lowest(row: Tensor, value: Tensor, count: int) -> Tensor:
    """Return the position of the lowest value of every row, the first of equal ones."""
    best = value.new_full((count,), float("inf")).scatter_reduce(0, row, value, "amin")
    position = torch.where(value <= best[row], arange(row), len(row) - 1)
    return torch.full((count,), len(row) - 1, device=row.device).scatter_reduce(0, row, position, "amin")


def arange(x: Tensor) -> Tensor:
    """Return the row numbers of x."""
    return torch.arange(len(x), device=x.device)


def parts(x: Tensor, size: int) -> tuple[Tensor, ...]:
    """Return x cut along the first dimension into parts of a size (at least 1); one part where x is empty."""
    return torch.split(x, max(1, size))
