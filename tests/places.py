"""Where things of a figure stand."""

from __future__ import annotations

from io import BytesIO

from matplotlib.text import Text


def texts(figure, names):
    """Boxes of the texts that are one of the names, or begin with one of them; without the line to a curve."""
    figure.savefig(BytesIO())
    found = [text for text in figure.findobj(Text) if text.get_text() and text.get_text().startswith(tuple(names))]
    return [Text.get_window_extent(text) for text in found]


def apart(boxes):
    """Whether no box lies over another."""
    return not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def inside(figure, boxes=()):
    """Whether boxes, and all axes with their labels, lie within the figure."""
    figure.savefig(BytesIO())
    whole, every = figure.bbox, [*boxes, *(axes.get_tightbbox() for axes in figure.axes)]
    return all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in every)
