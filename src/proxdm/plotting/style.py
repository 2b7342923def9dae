"""One look for all figures: colours, markers, logarithmic axes, labels at the ends of curves, files.

Score methods in blues with dashed lines and open markers, prox methods in oranges with solid lines and filled markers,
so that the families are told apart in grey as well. A method looks the same in every figure. Figures are matplotlib
`Figure` objects drawn under `matplotlib.rc_context(RC)`; nothing touches the global state of pyplot. Matplotlib is
imported in the functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from proxdm.samplers import SAMPLERS, find_sampler

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#555555",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "svg.fonttype": "path",
    "svg.hashsalt": "proxdm",  # the same figure gives the same file
}

SCORE_COLOURS = ("#0b3c6f", "#2a78b5", "#55a5e0", "#17957f", "#5d6f9e")
PROX_COLOURS = ("#d94801", "#7a1f02", "#ee9a1c", "#c4458a", "#8a6d1d")
SCORE_MARKERS = ("o", "s", "^", "D", "v")
PROX_MARKERS = ("o", "s", "^", "D", "v")
TARGET_COLOUR = "#d4d4d4"
FLOOR_COLOUR = "#6b6b6b"


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Attributes:
        colour: Of its line and particles.
        marker: Of its points in curves.
        line: Dashes for score methods, solid for prox methods.
        face: Fill of its markers: white for score methods, `colour` for prox methods.
    """

    colour: str
    marker: str
    line: str
    face: str

    @property
    def weight(self) -> str:
        """Weight of its name in a figure: bold for prox methods."""
        return "normal" if self.line == "--" else "bold"


def family_style(member: int, *, score: bool) -> Style:
    """Return the style of the member with that number (from 0) of the score or of the prox methods."""
    if score:
        colour = SCORE_COLOURS[member % len(SCORE_COLOURS)]
        return Style(colour, SCORE_MARKERS[member % len(SCORE_MARKERS)], "--", "white")
    colour = PROX_COLOURS[member % len(PROX_COLOURS)]
    return Style(colour, PROX_MARKERS[member % len(PROX_MARKERS)], "-", colour)


def rule_style(name: str) -> Style:
    """Return the style of a sampler, by its text, which does not depend on what else is drawn.

    Raises:
        ValueError: There is no such sampler.
    """
    sampler = find_sampler(name)
    score = sampler.operator != "prox"
    family = [other for other, kind in SAMPLERS.items() if (kind.operator != "prox") == score]
    return family_style(family.index(sampler.name) if sampler.name in family else len(family), score=score)


def save(figure: Figure, stem: Path, *, dpi: int = 200) -> list[Path]:
    """Write a figure as `stem.png` and `stem.svg`, and return the two paths.

    Args:
        figure: What to write.
        stem: Path without a suffix.
        dpi: Resolution of the PNG, and of clouds of points inside the SVG.
    """
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with matplotlib.rc_context(RC):
        figure.savefig(paths[0], dpi=dpi)
        figure.savefig(paths[1], dpi=dpi, metadata={"Date": None})
    return paths


def log_axes(axes: Axes, nfe: Sequence[int]) -> None:
    """Set logarithmic axes with plain numbers: the NFE that were run, and 1, 2, 3, 5 of each decade of W2."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(nfe), tick_labels(nfe))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if nfe:
        axes.set_xlim(nfe[0] / 1.1, nfe[-1] * 1.06)


def tick_labels(nfe: Sequence[int]) -> list[str]:
    """Return the numbers as text, empty where they would stand too close to the one before on a logarithmic axis."""
    labels: list[str] = []
    room = 0.05 * max(math.log(nfe[-1] / nfe[0]), 0.5) if nfe else 0.0
    shown = 0.0
    for n in nfe:
        clear = not labels or math.log(n / shown) >= room
        labels.append(str(n) if clear else "")
        shown = n if clear else shown
    return labels


def draw_floor(axes: Axes, mean: float, deviation: float) -> None:
    """Draw what exact draws give on a logarithmic axis: a line at the mean, a band of one deviation."""
    low = max(mean - deviation, mean / 10)  # a deviation may exceed the mean, a logarithm not
    axes.axhspan(low, mean + deviation, color=FLOOR_COLOUR, alpha=0.18, linewidth=0)
    axes.axhline(mean, color=FLOOR_COLOUR, linewidth=0.9, linestyle=":")
    axes.annotate(
        "exact draws",
        (0.012, low),
        xycoords=("axes fraction", "data"),
        xytext=(0, -2),
        textcoords="offset points",
        va="top",
        color=FLOOR_COLOUR,
    )


class End(NamedTuple):
    """The last point of a curve, where its name is to stand."""

    name: str
    style: Style
    x: float
    y: float


def end_labels(axes: Axes, ends: Sequence[End]) -> None:
    """Write each method's name to the right of the axes, at the height of its last point, none over another."""
    if not ends:
        return
    spacing = 0.052
    low, high = (math.log(limit) for limit in axes.get_ylim())
    order = sorted(ends, key=lambda end: end.y)
    wanted = [(math.log(y) - low) / (high - low) for *_, y in order]
    for (name, style, x, y), height in zip(order, spread(wanted, spacing), strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.075, height),
            textcoords="axes fraction",
            va="center",
            color=style.colour,
            fontweight=style.weight,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": style.colour,
                "linewidth": 0.6,
                "alpha": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 5,
            },
        )


def spread(wanted: Sequence[float], spacing: float) -> list[float]:
    """Return increasing heights at least `spacing` apart, as near as possible to the wanted ones (least squares).

    Args:
        wanted: Heights, increasing.
        spacing: Least distance between neighbours.
    """
    # With h_i = height_i - i spacing the constraint is h_i <= h_(i+1): isotonic regression, by pooling.
    pools: list[list[float]] = []
    for i, height in enumerate(wanted):
        pools.append([height - i * spacing])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    flat = [float(np.mean(pool)) for pool in pools for _ in pool]
    return [height + i * spacing for i, height in enumerate(flat)]
