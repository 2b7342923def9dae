"""Figures of the convergence rates: KL against N on Gaussian targets, W2 against N on mixtures, a panel a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from proxdm.experiments.convergence import ROUNDING, GaussianRates, RatesResult
from proxdm.plotting import style
from proxdm.plotting.toy import draw_w2, style_of
from proxdm.sweep import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (4.3, 4.4)
"""Width and height of the axes of one panel, in inches."""

BESIDE = 2.3
"""Room for names to the right of a panel, in inches."""

STEPS = "N: steps, each one score or prox evaluation"

LEFT, BOTTOM, TOP, TITLE = 0.72, 0.5, 0.3, 0.3
"""Room around a panel, and above the whole figure, in inches."""


def kl_vs_n(result: RatesResult) -> Figure:
    """Return KL(output || target) against N, a panel a Gaussian target, with the fitted slopes.

    Started from N(0, I) with markers, from p_1 as a dotted line, which is hidden where the start makes no difference.
    """
    if not result.gaussians:
        raise ValueError("the result has no Gaussian target to draw; measure isotropic or anisotropic")
    text = "Exact errors on Gaussian targets, with slopes of the last points. Markers: from N(0, I); dotted: from p₁"
    return _panels(result, result.gaussians, _gaussian, text)


def w2_vs_n(result: RatesResult) -> Figure:
    """Return W2 against N, a panel a mixture: mean and deviation over seeds, with the floor."""
    if not result.mixtures:
        raise ValueError("the result has no mixture to draw; measure mixture or dino")
    first = result.mixtures[0]
    seeds = f"{len(first.seeds)} seeds, mean ± standard deviation" if len(first.seeds) > 1 else "1 seed"
    text = f"{first.samples} particles against as many stratified draws, {seeds}"
    return _panels(result, result.mixtures, lambda axes, rates: draw_w2(axes, rates, STEPS), text)


def _panels(result: RatesResult, targets: Sequence[Results], draw: Callable[[Axes, Any], None], text: str) -> Figure:
    """Return a figure with a panel for every target."""
    each = LEFT + PANEL[0] + BESIDE
    with style.drawing(len(targets) * each, BOTTOM + PANEL[1] + TOP + TITLE) as figure:
        for i, rates in enumerate(targets):
            axes = style.axes_at(figure, i * each + LEFT, TOP + TITLE, *PANEL)
            axes.set_title(f"{rates.target}: {rates.formula}", loc="left")
            draw(axes, rates)
        style.heading(figure, 0.12, 0.1, text + (f"; grid {result.grid}" if result.grid else ""), wrap=True)
    return figure


def _gaussian(axes: Axes, rates: GaussianRates) -> None:
    from matplotlib.ticker import LogFormatterMathtext, LogLocator

    ends: list[style.End] = []
    for name in rates.names:
        look = style_of(name)
        exact = _visible(rates.values(name, "exact_kl"))
        axes.plot(list(exact), list(exact.values()), color=look.colour, linestyle=":", linewidth=1.0, alpha=0.8)
        if not (normal := _visible(rates.values(name, "kl"))):
            continue
        axes.plot(list(normal), list(normal.values()), **look.look)
        fit = rates.fit(name)
        slope = "" if fit is None else f"   {fit.slope:.2f}".replace("-", "−") if fit.straight else "   bends"
        ends.append(style.End(f"{name}{slope}", look, *list(normal.items())[-1]))
    if not ends:
        style.say_nothing(axes)
        return
    style.log_axes(axes, sorted({n for cells in rates.methods.values() for n in cells}))
    axes.yaxis.set_major_locator(LogLocator(numticks=12))
    axes.yaxis.set_major_formatter(LogFormatterMathtext())
    axes.set(xlabel=STEPS, ylabel="KL(output ‖ target)  [nats]")
    _guide(axes)
    style.end_labels(axes, ends)


def _guide(axes: Axes) -> None:
    """Draw a line of slope -2 in the lower left corner, to read slopes by."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x = [left * (right / left) ** fraction for fraction in (0.06, 0.26)]
    bottom = low * (high / low) ** 0.06
    y = [bottom * (x[1] / x[0]) ** 2, bottom]
    if y[0] > high:
        return
    axes.plot(x, y, color=style.FLOOR_COLOUR, linewidth=1.0)
    axes.annotate(
        "N⁻²", (x[0], y[0]), xytext=(4, 1), textcoords="offset points", color=style.FLOOR_COLOUR, va="bottom", ha="left"
    )
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _visible(values: dict[int, float]) -> dict[int, float]:
    """Return what a logarithmic axis can show, without rounding errors."""
    return {n: value for n, value in sorted(values.items()) if math.isfinite(value) and value > ROUNDING["kl"]}
