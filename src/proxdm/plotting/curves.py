"""Curves of evaluation and training: a metric against the number of network evaluations, the loss against the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from proxdm.evaluation.comparison import FRACTIONS, Key, Panel, Series, better_in_words
from proxdm.plotting.style import PROX_MARKERS, RC, SCORE_MARKERS, End, Style, end_labels, family_style, log_axes
from proxdm.rules import RULES, ScoreRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "fid": "Fréchet distance (FID)",
    "w2": "W2",
    "sliced_w2": "sliced W2",
    "kid": "kernel distance (KID)",
    "fid_infinity": "Fréchet distance at infinitely many samples",
    "nearest": "distance to the nearest image",
    "copied": "fraction of near copies",
    "precision": "precision",
    "recall": "recall",
}
"""Metrics in words; others by their names."""

PHASES = ("#3d3d3d", "#9a5b13", "#5a3d8a", "#17734f")
"""Colours of the phases of a training."""

_RC = {**RC, "text.parse_math": False}  # names of runs may hold dollars

_LEVEL = 3.0
"""A panel whose largest value is less than so many times its smallest has ticks between 1, 2 and 5 too."""


def metric_title(metric: str) -> str:
    """Return the name of a metric in words."""
    return TITLES.get(metric, metric.replace("_", " "))


def curve_styles(panels: Sequence[Panel]) -> dict[Key, Style]:
    """Return the look of every curve of the panels, the same in all of them.

    A sampler has its usual look (:func:`proxdm.plotting.style.rule_style`) in the first model that it samples; further
    models and unknown samplers have what is left of their family's. Markers of more than five curves of a family stand
    with other colours than at first.

    Args:
        panels: What is drawn.
    """
    keys = list(dict.fromkeys(one.key for panel in panels for one in panel.series))
    styles: dict[Key, Style] = {}
    for score in (True, False):
        family = [name for name, rule in RULES.items() if isinstance(rule, ScoreRule) == score]
        members = [key for key in keys if _is_score(key.sampler) == score]
        taken: dict[Key, int] = {}
        for key in members:
            if key.sampler in family and family.index(key.sampler) not in taken.values():
                taken[key] = family.index(key.sampler)
        for key in members:
            number = next(n for n in range(len(keys) + len(family)) if n not in taken.values())
            styles[key] = _member(taken.setdefault(key, number), score=score)
    return {key: styles[key] for key in keys}


def metric_curves(panels: Sequence[Panel], *, title: str = "") -> Figure:
    """Return one figure with a panel for each metric: mean against measured NFE, bars of one standard deviation.

    Axes are logarithmic, but for shares and for values that are not positive. A single curve panel has names at the
    ends of its curves, several panels share a legend.

    Args:
        panels: What to draw, at least one.
        title: Over the first panel.
    """
    import matplotlib
    from matplotlib.figure import Figure

    styles = curve_styles(panels)
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    side, gap, top, bottom = 3.55, 0.72, 0.62, 0.55
    height = 3.0
    direct = len(panels) == 1 and _logarithmic(panels[0])
    names = [one.label for panel in panels for one in panel.series]
    legend = 0.75 + 0.075 * max(map(len, names), default=0)
    lines = max(len({one.label for panel in panels for one in panel.series}), 1)
    width = gap + columns * (side + gap) - 0.45 + legend
    total = max(top + rows * (height + bottom + 0.2), top + 0.24 * lines + 0.4)
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, total))
        for i, panel in enumerate(panels):
            row, column = divmod(i, columns)
            left, low = gap + column * (side + gap), total - top - (row + 1) * height - row * (bottom + 0.2)
            axes = figure.add_axes((left / width, low / total, side / width, height / total))
            ends = draw_panel(axes, panel, styles)
            if direct:
                end_labels(axes, ends)
            axes.set_title(metric_title(panel.metric), loc="left", fontweight="bold")
        if not direct:
            _legend(figure, panels, styles, (gap + columns * (side + gap) - 0.4) / width, 1 - (top - 0.05) / total)
        figure.text(gap / width, 1 - 0.12 / total, title, ha="left", va="top", color="#555555")
    return figure


def metric_panel(panel: Panel, styles: Mapping[Key, Style], *, size: tuple[float, float] = (4.1, 3.0)) -> Figure:
    """Return a small figure of one metric without names of the curves, to stand beside a legend in a page.

    Args:
        panel: What to draw.
        styles: Look of the curves, of :func:`curve_styles`.
        size: Width and height in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    width, height = size
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=size)
        axes = figure.add_axes((0.62 / width, 0.52 / height, (width - 0.72) / width, (height - 0.62) / height))
        draw_panel(axes, panel, styles)
        axes.set_ylabel(panel.metric.replace("_", " "))
    return figure


def draw_panel(axes: Axes, panel: Panel, styles: Mapping[Key, Style]) -> list[End]:
    """Draw the curves of a metric, and return where they end.

    Args:
        axes: Where.
        panel: What.
        styles: Look of the curves.
    """
    ends = []
    for one in panel.series:
        style = styles[one.key]
        nfe, mean = [point.nfe for point in one.points], [point.mean for point in one.points]
        _errorbar(axes, nfe, mean, [point.std or 0.0 for point in one.points], style)
        ends.append(End(one.label, style, nfe[-1], mean[-1]))
    log_axes(axes, panel.nfe)
    if not _logarithmic(panel):
        axes.set_yscale("linear")
        if panel.metric in FRACTIONS:
            axes.set_ylim(0, 1)
    elif _narrow(panel):
        from matplotlib.ticker import LogLocator

        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)))
    if len(panel.nfe) == 1:
        axes.set_xlim(panel.nfe[0] / 2, panel.nfe[0] * 2)
    axes.set_xlabel("network evaluations per sample (NFE)")
    axes.set_ylabel(", ".join(filter(None, (panel.metric.replace("_", " "), better_in_words(panel.metric)))))
    return ends


def training_curve(log: Sequence[Mapping[str, Any]], *, size: tuple[float, float] = (4.1, 3.0)) -> Figure | None:
    """Return the loss of a training against its steps, each phase in its own colour and line.

    Args:
        log: Lines of `log.jsonl`; those without a finite loss are left out.
        size: Width and height in inches.

    Returns:
        The figure; None if no line has a loss.
    """
    import matplotlib
    from matplotlib.figure import Figure

    parts = loss_by_phase(log)
    if not parts:
        return None
    width, height = size
    values = [loss for _, points in parts for _, loss in points]
    names = 0.05 + 0.18 * len(parts) if len(parts) > 1 else 0.0
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height + names))
        whole = height + names
        axes = figure.add_axes((0.62 / width, 0.52 / whole, (width - 0.72) / width, (height - 0.62) / whole))
        for i, (name, points) in enumerate(parts):
            style: Any = {
                "color": PHASES[i % len(PHASES)],
                "linewidth": 1.4,
                "linestyle": ("-", "--", "-.", ":")[i % 4],
            }
            marker = "o" if len(points) < 40 else ""
            axes.plot(*zip(*points, strict=True), **style, marker=marker, markersize=3, label=name)
            if i:
                axes.axvline(points[0][0], color="#9a9a9a", linewidth=0.7, linestyle=":")
        if min(values) > 0:
            from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left=0)
        if len(parts) > 1:  # above the axes, where no curve is
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, handlelength=3, borderaxespad=0.2)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss" if len(parts) > 1 else f"loss ({parts[0][0]})")
    return figure


def loss_by_phase(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return name and `(step, loss)` of every phase of a training: the loss function, with zeta where it has one.

    After a resume the steps that were repeated stand in the log twice; the later line counts.

    Args:
        log: Lines of `log.jsonl`.
    """
    points: dict[int, tuple[str, float]] = {}
    for line in log:
        step, loss, zeta = line.get("step"), line.get("loss"), line.get("zeta")
        if not isinstance(step, int) or not isinstance(loss, int | float) or not math.isfinite(loss):
            continue
        name = str(line.get("phase", "loss"))
        points[step] = (f"{name}, ζ = {zeta:g}" if isinstance(zeta, int | float) else name, float(loss))
    parts: list[tuple[str, list[tuple[int, float]]]] = []
    for step, (name, loss) in sorted(points.items()):
        if not parts or parts[-1][0] != name:
            parts.append((name, []))
        parts[-1][1].append((step, loss))
    return parts


def _errorbar(axes: Axes, x: Sequence[int], mean: Sequence[float], std: Sequence[float], style: Style) -> None:
    # A deviation may exceed the mean, a logarithm not.
    low = [min(s, 0.9 * m) if m > 0 else s for m, s in zip(mean, std, strict=True)]
    axes.errorbar(
        x,
        mean,
        yerr=[low, list(std)] if any(std) else None,
        capsize=2,
        elinewidth=0.8,
        **_look(style),
    )


def _look(style: Style) -> dict[str, Any]:
    return {
        "color": style.colour,
        "marker": style.marker,
        "markerfacecolor": style.face,
        "markersize": 5,
        "linestyle": style.line,
        "linewidth": 1.4,
    }


def _legend(figure: Figure, panels: Sequence[Panel], styles: Mapping[Key, Style], left: float, top: float) -> None:
    from matplotlib.lines import Line2D

    series: dict[Key, Series] = {one.key: one for panel in panels for one in panel.series}
    handles = [Line2D([], [], **_look(styles[key]), label=one.label) for key, one in series.items()]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(left, top), frameon=False, handlelength=3, borderaxespad=0
    )


def _is_score(sampler: str) -> bool:
    """Return whether a sampler uses a score; one that is not known here does unless its name says prox."""
    return isinstance(RULES[sampler], ScoreRule) if sampler in RULES else not sampler.startswith("prox")


def _member(number: int, *, score: bool) -> Style:
    style = family_style(number, score=score)
    markers = SCORE_MARKERS if score else PROX_MARKERS
    # After all colours have been used, each meets another marker than before.
    return replace(style, marker=markers[(number + number // len(markers)) % len(markers)])


def _logarithmic(panel: Panel) -> bool:
    values = [point.mean for one in panel.series for point in one.points]
    return panel.metric not in FRACTIONS and min(values, default=0.0) > 0


def _narrow(panel: Panel) -> bool:
    values = [point.mean for one in panel.series for point in one.points]
    return max(values) < _LEVEL * min(values)
