"""Curves of evaluation and training: a metric against the number of network evaluations, the loss against the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from proxdm.evaluation.comparison import Key, Panel, Series
from proxdm.metrics.registry import title_of, value_of
from proxdm.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASES = ("#3d3d3d", "#9a5b13", "#5a3d8a", "#17734f")
"""Colours of the phases of a training."""

SMALL = (4.1, 3.0)
"""Width and height in inches of a figure that stands in a page."""

_NAMES = {"text.parse_math": False}  # names of runs may hold dollars

_LEVEL = 3.0
"""A panel whose largest value is less than so many times its smallest has ticks between 1, 2 and 5 too."""


def metric_name(metric: str, features: str) -> str:
    """Return the short name of a metric; a Fréchet distance is a FID only if the features are Inception's."""
    return metric.replace("_", " ").replace("fid", "FID" if features == "inception" else "Fréchet distance")


def features_of(panel: Panel) -> str:
    """Return the name of the features of a panel; empty if they differ."""
    names = {setting.features[0] for setting in panel.settings}
    return names.pop() if len(names) == 1 else ""


def curve_styles(panels: Sequence[Panel]) -> dict[Key, style.Style]:
    """Return the look of every curve of the panels, the same in all of them.

    A sampler has its usual look (:func:`proxdm.plotting.style.sampler_style`) in the first model that it samples;
    further models have what is left of their family's.
    """
    keys = list(dict.fromkeys(one.key for panel in panels for one in panel.series))
    styles: dict[Key, style.Style] = {}
    for key in keys:
        if (usual := style.sampler_style(key.sampler)) not in styles.values():
            styles[key] = usual
    for key in [key for key in keys if key not in styles]:
        family = (style.family_style(number, prox=style.is_prox(key.sampler)) for number in range(style.MEMBERS))
        styles[key] = next((look for look in family if look not in styles.values()), style.sampler_style(key.sampler))
    return styles


def metric_curves(panels: Sequence[Panel], *, title: str = "") -> Figure:
    """Return one figure with a panel for each metric: mean against measured NFE, bars of one standard deviation.

    Axes are logarithmic, but for shares and for values that are not positive. A single curve panel has names at the
    ends of its curves, several panels share a legend.
    """
    styles = curve_styles(panels)
    series: dict[Key, Series] = {one.key: one for panel in panels for one in panel.series}
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    side, gap, top, bottom, height = 3.55, 0.72, 0.62, 0.55, 3.0
    legend = 0.75 + 0.075 * max(len(one.label) for one in series.values())
    right = gap + columns * (side + gap)
    total = max(top + rows * (height + bottom + 0.2), top + 0.24 * len(series) + 0.4)
    direct = len(panels) == 1 and _logarithmic(panels[0])
    with style.drawing(right - 0.45 + legend, total, **_NAMES) as figure:
        for i, panel in enumerate(panels):
            row, column = divmod(i, columns)
            axes = style.axes_at(figure, gap + column * (side + gap), top + row * (height + bottom + 0.2), side, height)
            ends = draw_panel(axes, panel, styles)
            if direct:
                style.end_labels(axes, ends)
            axes.set_title(title_of(panel.metric, features_of(panel)), loc="left", fontweight="bold")
        if not direct:
            from matplotlib.lines import Line2D

            place = ((right - 0.4) / (right - 0.45 + legend), 1 - (top - 0.05) / total)
            handles = [Line2D([], [], **styles[key].look, label=one.label) for key, one in series.items()]
            plain: Any = {"frameon": False, "handlelength": 3, "borderaxespad": 0}
            figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, **plain)
        style.heading(figure, gap, 0.12, title, color="#555555")
    return figure


def metric_panel(panel: Panel, styles: Mapping[Key, style.Style]) -> Figure:
    """Return a small figure of one metric without names of the curves, to stand beside a legend in a page."""
    width, height = SMALL
    with style.drawing(width, height, **_NAMES) as figure:
        axes = style.axes_at(figure, 0.62, 0.1, width - 0.72, height - 0.62)
        draw_panel(axes, panel, styles)
        axes.set_ylabel(metric_name(panel.metric, features_of(panel)))
    return figure


def draw_panel(axes: Axes, panel: Panel, styles: Mapping[Key, style.Style]) -> list[style.End]:
    """Draw the curves of a metric, and return where they end."""
    ends = []
    for one in panel.series:
        nfe = [point.nfe for point in one.points]
        ends.append(style.draw_curve(axes, one.label, styles[one.key], nfe, one.points))
    style.log_axes(axes, panel.nfe)
    values = [point.mean for one in panel.series for point in one.points]
    if not _logarithmic(panel):
        axes.set_yscale("linear")
        if value_of(panel.metric).fraction:
            axes.set_ylim(0, 1)
    elif min(values) < max(values) < _LEVEL * min(values):
        style.log_values(axes, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))
    if len(panel.nfe) == 1:
        axes.set_xlim(panel.nfe[0] / 2, panel.nfe[0] * 2)
    axes.set_xlabel("network evaluations per sample (NFE)")
    name = metric_name(panel.metric, features_of(panel))
    axes.set_ylabel(", ".join(filter(None, (name, value_of(panel.metric).better_in_words))))
    return ends


def training_curve(log: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Return the loss of a training against its steps, each phase in its own colour and line."""
    parts = loss_by_phase(log)
    if not parts:
        return None
    width, height = SMALL
    names = 0.05 + 0.18 * len(parts) if len(parts) > 1 else 0.0
    with style.drawing(width, height + names, **_NAMES) as figure:
        axes = style.axes_at(figure, 0.62, 0.1 + names, width - 0.72, height - 0.62)
        for i, (name, points) in enumerate(parts):
            colour, line = PHASES[i % len(PHASES)], ("-", "--", "-.", ":")[i % 4]
            marker = "o" if len(points) < 40 else ""
            look: Any = {"color": colour, "linewidth": 1.4, "linestyle": line, "marker": marker, "markersize": 3}
            axes.plot(*zip(*points, strict=True), **look, label=name)
            if i:
                axes.axvline(points[0][0], color="#9a9a9a", linewidth=0.7, linestyle=":")
        if min(loss for _, points in parts for _, loss in points) > 0:
            style.log_values(axes, (1, 2, 5))
        axes.set_xlim(left=0)
        if len(parts) > 1:  # above the axes, where no curve is
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, handlelength=3, borderaxespad=0.2)
        style.bare(axes)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss" if len(parts) > 1 else f"loss ({parts[0][0]})")
    return figure


def loss_by_phase(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return name and `(step, loss)` of every phase of a training: the loss function, with zeta where it has one.

    After a resume the steps that were repeated stand in the log twice; the later line counts.
    """
    points: dict[int, tuple[str, float]] = {}
    for line in log:
        step, loss, zeta = line.get("step"), line.get("loss"), line.get("zeta")
        if not isinstance(step, int) or not isinstance(loss, int | float) or not math.isfinite(loss):
            continue
        name = str(line.get("phase", "loss"))
        points[step] = (f"{name}, ζ = {zeta:g}" if isinstance(zeta, int | float) else name, float(loss))
    phases = groupby(sorted(points.items()), key=lambda item: item[1][0])
    return [(name, [(step, loss) for step, (_, loss) in phase]) for name, phase in phases]


def _logarithmic(panel: Panel) -> bool:
    values = [point.mean for one in panel.series for point in one.points]
    return not value_of(panel.metric).fraction and min(values) > 0
