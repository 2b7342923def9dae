"""One look for all figures: colours, markers, places in inches, logarithmic axes, labels at the ends of curves, files.

Score methods in blues with dashed lines and open markers, prox methods in oranges with solid lines and filled markers,
so that the families are told apart in grey as well. A method looks the same in every figure. Figures are matplotlib
`Figure` objects drawn under `matplotlib.rc_context(RC)` (:func:`drawing`); nothing touches the global state of pyplot.
Matplotlib is imported in the functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np

from proxdm.samplers import SAMPLERS
from proxdm.sweep import Spread

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
MARKERS = ("o", "s", "^", "D", "v")
TARGET_COLOUR = "#d4d4d4"
FLOOR_COLOUR = "#6b6b6b"

MEMBERS = len(MARKERS) ** 2
"""Looks of a family that can be told apart."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    colour: str  # Of its line and particles
    marker: str  # Of its points in curves
    line: str  # Dashes for score methods, solid for prox methods
    face: str  # Fill of its markers: white for score methods, `colour` for prox methods

    @property
    def look(self) -> dict[str, Any]:
        """What matplotlib draws its curve with."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markerfacecolor": self.face,
            "markersize": 5,
            "linestyle": self.line,
            "linewidth": 1.4,
        }


def is_prox(sampler: str) -> bool:
    """Return whether a sampler uses the proximal operator; one that is not known here does if its name says so."""
    kind = SAMPLERS.get(sampler.partition("(")[0])
    return sampler.startswith("prox") if kind is None else kind.operator == "prox"


def family_style(member: int, *, prox: bool) -> Style:
    """Return the style of the member with that number (from 0) of the score or of the prox methods.

    After all colours have been used, each meets another marker than before: :data:`MEMBERS` styles are different.
    """
    colours = PROX_COLOURS if prox else SCORE_COLOURS
    colour, marker = colours[member % len(colours)], MARKERS[(member + member // len(colours)) % len(MARKERS)]
    return Style(colour, marker, "-", colour) if prox else Style(colour, marker, "--", "white")


def sampler_style(sampler: str) -> Style:
    """Return the style of a sampler, which depends on its text alone and not on what else is drawn."""
    prox = is_prox(sampler)
    # The paper's score samplers come first, whatever the order in which modules add to the table.
    family = sorted(
        (name for name in SAMPLERS if is_prox(name) == prox), key=lambda name: SAMPLERS[name].operator == "denoiser"
    )
    late = 3 * len(MARKERS)
    return family_style(
        family.index(sampler) if sampler in family else late + crc32(sampler.encode()) % (MEMBERS - late), prox=prox
    )


@contextmanager
def drawing(width: float, height: float, **more: Any) -> Iterator[Figure]:
    """Give an empty figure of so many inches, to be drawn on in the block."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {**RC, **more}
    with matplotlib.rc_context(settings):
        yield Figure(figsize=(width, height))


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes to a figure: place of the upper left corner, from that of the figure, and size, all in inches."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def heading(figure: Figure, left: float, top: float, text: str, **more: Any) -> Any:
    """Write a line that begins at a place in inches from the upper left corner of the figure."""
    across, down = figure.get_size_inches()
    return figure.text(left / across, 1 - top / down, text, ha="left", va="top", **more)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as `stem.png` and `stem.svg`, and return the two paths."""
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with matplotlib.rc_context(RC):
        figure.savefig(paths[0], dpi=200)
        figure.savefig(paths[1], dpi=200, metadata={"Date": None})
    return paths


def log_axes(axes: Axes, nfe: Sequence[int]) -> None:
    """Set logarithmic axes with plain numbers: the NFE that were run, and 1, 2, 3, 5 of each decade of W2."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.set_xticks(list(nfe), tick_labels(nfe))
    axes.xaxis.set_minor_locator(NullLocator())
    log_values(axes, (1, 2, 3, 5))
    bare(axes)
    axes.set_xlim(nfe[0] / 1.1, nfe[-1] * 1.06)


def log_values(axes: Axes, ticks: Sequence[float]) -> None:
    """Make the vertical axis logarithmic, with plain numbers at these multiples of the powers of 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def bare(axes: Axes) -> None:
    """Draw a light grid under the curves, and no frame above and to the right."""
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


class End(NamedTuple):
    """The last point of a curve, where its name is to stand."""

    name: str
    style: Style
    x: float
    y: float


def draw_curve(axes: Axes, name: str, style: Style, x: Sequence[int], values: Sequence[Spread]) -> End:
    """Draw means with bars of one deviation; one that exceeds its mean is cut, since axes are logarithmic."""
    mean, high = [value.mean for value in values], [value.std or 0.0 for value in values]
    low = [min(s, 0.9 * m) if m > 0 else s for m, s in zip(mean, high, strict=True)]
    axes.errorbar(x, mean, yerr=[low, high] if any(high) else None, capsize=2, elinewidth=0.8, **style.look)
    return End(name, style, x[-1], mean[-1])


def tick_labels(nfe: Sequence[int]) -> list[str]:
    """Return the numbers as text, empty where they would stand too close to the one before on a logarithmic axis."""
    labels: list[str] = []
    room = 0.05 * max(math.log(nfe[-1] / nfe[0]), 0.5)
    shown = 0.0
    for n in nfe:
        clear = not labels or math.log(n / shown) >= room
        labels.append(str(n) if clear else "")
        shown = n if clear else shown
    return labels


def draw_floor(axes: Axes, floor: Spread) -> None:
    """Draw what exact draws give on a logarithmic axis: a line at the mean, a band of one deviation."""
    mean, deviation = floor.mean, floor.std or 0.0
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


def say_nothing(axes: Axes) -> None:
    """Say that there is no curve: a logarithmic axis cannot be empty."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "no method is defined at any of these N", transform=axes.transAxes, ha="center", va="center")


def end_labels(axes: Axes, ends: Sequence[End]) -> None:
    """Write each method's name to the right of the axes, at the height of its last point, none over another."""
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
            fontweight="normal" if style.line == "--" else "bold",
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
    """Return increasing heights at least `spacing` apart, between 0 and 1, nearest to the wanted (least squares)."""
    from sklearn.isotonic import isotonic_regression

    # With h_i = height_i - i spacing the constraint is h_i <= h_(i+1).
    steps = spacing * np.arange(len(wanted))
    top = max(0.0, 1 - steps[-1])  # all between the ends of the axes, where there is room
    found: list[float] = (isotonic_regression(np.asarray(wanted) - steps, y_min=0.0, y_max=top) + steps).tolist()
    return found
