"""Pictures side by side: a row for each method, a column for each setting, real pictures below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proxdm.imaging import grid
from proxdm.plotting import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE, GAP, LEFT, TOP = 0.5, 0.14, 1.75, 0.55
"""Inches: side of a picture, space between cells, and of the captions."""


def draw_mosaic(
    cells: Mapping[str, Mapping[str, Tensor]], real: Tensor | None = None, *, title: str = "", first: Sequence[str] = ()
) -> Figure:
    """Return the figure.

    Args:
        cells: Pictures uint8 `(k, C, H, W)` by row and column, k the same everywhere; a row may lack a column.
        real: Real pictures for the last row, as many as fit.
        title: Above it.
        first: Rows to set apart by a darker caption.
    """
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    some = next(picture for row in cells.values() for picture in row.values())
    count, (height, width) = len(some), some.shape[2:]
    tall, wide = PICTURE * height / max(height, width), count * PICTURE * width / max(height, width)
    rows = dict(cells)
    if real is not None:
        rows["real pictures"] = dict(zip(columns, torch.split(real, count), strict=False))
    size = (LEFT + len(columns) * (wide + GAP), TOP + len(rows) * (tall + GAP / 2) + GAP)
    with style.drawing(*size) as figure:
        style.heading(figure, 0.1, 0.08, title)
        for column, label in enumerate(columns):
            place = LEFT + column * (wide + GAP)
            figure.text((place + wide / 2) / size[0], 1 - 0.44 / size[1], label, ha="center", va="center")
        for row, (name, of) in enumerate(rows.items()):
            top = TOP + row * (tall + GAP / 2)
            colour = "#1a1a1a" if name in first or not first else "#6b6b6b"
            middle = 1 - (top + tall / 2) / size[1]
            figure.text((LEFT - 0.1) / size[0], middle, name, ha="right", va="center", color=colour)
            for label, pictures in of.items():
                left = LEFT + columns.index(label) * (wide + GAP)
                axes = style.axes_at(figure, left, top, wide * len(pictures) / count, tall)
                axes.imshow(grid(pictures, columns=count, zoom=1), cmap="gray", interpolation="nearest", aspect="auto")
                axes.set_axis_off()
    return figure
