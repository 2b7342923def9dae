"""Where to start so that the highest mode is found.

In one to three dimensions, equal variances: on a grid over the hull of the atoms the density of every row is one
matrix product (the grid does not move with the rows), and its local maxima are the starts. No mode is missed by
height: the Hessian of the negative log density is at most I/T, so the grid point nearest to a mode, at distance
delta, is at most delta^2 / (2 T) below it; grid points farther than that below the best are dropped.

Elsewhere: the component centres, best density first, each suppressing those within a local length of it; and the
mean-shift image of the point itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from proxdm._modes.atoms import Atoms
from proxdm._modes.problems import GatheredProblem

GRID_LIMIT = {1: 2048, 2: 64, 3: 14}
"""Points per axis at most, by dimension."""
GRID_SPACING = 1 / 3
"""Spacing of the grid in local lengths sqrt(T)."""
MOST_STARTS = 8
"""Centres that are started from at most, per row."""
HEAVY_STARTS = 4
"""The same where an evaluation costs a product with very many components."""
CENTRE_MARGIN = 10.0
"""Centres whose log density is this much below the best are not started from."""
TABLE_ATOMS = 1024
"""Up to this number of components the density at all centres comes from a table of kernel values."""
CANDIDATES = 64
"""Centres that are ranked by density otherwise."""


def grid_counts(atoms: Atoms, length: float) -> list[int] | None:
    """Return the points per axis of the grid for a local length, or None where a grid would be too large."""
    if atoms.dim not in GRID_LIMIT:
        return None
    spacing = GRID_SPACING * length
    counts = [int(2 * half / spacing) + 2 if half > 0 else 1 for half in atoms.half_extent.tolist()]
    return counts if max(counts) <= GRID_LIMIT[atoms.dim] else None


def grid_starts(atoms: Atoms, log_weights: Tensor, t: float, counts: list[int]) -> tuple[Tensor, Tensor]:
    """Return starts for rows of one T: `(row, y)`, `(S,)` and `(S, n)`, at least one for each row."""
    half = atoms.half_extent
    axes = [
        torch.linspace(-1, 1, count, dtype=half.dtype, device=half.device) * side
        for count, side in zip(counts, half, strict=True)
    ]
    grid = torch.cartesian_prod(*axes).reshape(-1, atoms.dim)
    kernel = (torch.cdist(atoms.points, grid).square() / (-2 * t)).exp().to(torch.float32)
    density = (log_weights - log_weights.amax(1, keepdim=True)).exp().to(torch.float32) @ kernel
    best = density.amax(1, keepdim=True)
    spacing = sum((side / max(count - 1, 1)) ** 2 for side, count in zip(half.tolist(), counts, strict=True))
    margin = spacing / (2 * t) + 0.02  # float32 is good for 1e-5 of this
    keep = (density >= _neighbours_max(density, counts)) & (density >= best * torch.exp(torch.tensor(-margin)))
    row, point = torch.nonzero(keep, as_tuple=True)
    return row, grid[point]


def _neighbours_max(density: Tensor, counts: list[int]) -> Tensor:
    """Return the largest density among each grid point and its neighbours, `(b, M)`."""
    image = density.reshape(-1, *counts)
    for axis, count in enumerate(counts, start=1):
        # Axis by axis; much faster than pooling layers.
        around = image.clone()
        lower, upper = around.narrow(axis, 0, count - 1), around.narrow(axis, 1, count - 1)
        torch.maximum(lower, image.narrow(axis, 1, count - 1), out=lower)
        torch.maximum(upper, image.narrow(axis, 0, count - 1), out=upper)
        image = around
    return image.reshape(density.shape)


def table_starts(atoms: Atoms, log_weights: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return component centres as starts for rows of one T, as :func:`grid_starts` does, for moderate K."""
    distances = atoms.squared_distances
    kernel = (distances / (-2 * t)).exp()
    density = (log_weights - log_weights.amax(1, keepdim=True)).exp().to(torch.float32) @ kernel
    row, column = suppress(density.log(), lambda chosen: distances[chosen] < t)
    return row, atoms.points[column]


def gathered_starts(problem: GatheredProblem) -> tuple[Tensor, Tensor]:
    """Return centres of the heaviest components as starts for rows that have components of their own."""
    candidates = problem.centres[:, :CANDIDATES]
    value, square = problem.values(candidates)

    def near(chosen: Tensor) -> Tensor:
        centre = candidates.gather(1, chosen[:, None, None].expand(-1, 1, candidates.shape[2]))
        return (candidates - centre).square().sum(2) < square.gather(1, chosen[:, None])

    row, column = suppress(-value, near)
    return row, candidates[row, column]


def suppress(score: Tensor, near: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Choose candidates greedily: the best of each row, then the best that is not near a chosen one, and so on."""
    rows, columns = [], []
    everyone = torch.arange(len(score), device=score.device)
    limit = score.amax(1) - CENTRE_MARGIN
    for _ in range(min(MOST_STARTS, score.shape[1])):
        value, chosen = score.max(1)
        good = (value >= limit) & (value > -torch.inf)
        if not bool(good.any()):
            break
        rows.append(everyone[good])
        columns.append(chosen[good])
        score.masked_fill_(near(chosen), -torch.inf)
        score.scatter_(1, chosen[:, None], -torch.inf)
    return torch.cat(rows), torch.cat(columns)
