"""Figures of the experiments: particles, W2 against NFE, an animation of the toy; KL and W2 against N of the rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from proxdm.experiments.convergence import ROUNDING, GaussianRates, RatesResult
from proxdm.experiments.toy import METHODS, Particles, ToyResult
from proxdm.imaging import save_gif
from proxdm.plotting import style
from proxdm.samplers import SAMPLERS
from proxdm.sweep import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VIEW = 1.15
"""Half width of a panel of final particles; the targets lie in [-1, 1]^2."""

WIDE_VIEW = 1.75
"""Half width of a panel of the animation, which starts from standard normal particles."""

STEPS = "N: steps, each one score or prox evaluation"


def style_of(method: str) -> style.Style:
    """Return the style of a method of the synthetic experiment, or of a sampler, whatever else is drawn."""
    prox = style.is_prox(method)
    family = [name for name in dict.fromkeys((*METHODS, *SAMPLERS)) if style.is_prox(name) == prox]
    return style.family_style(family.index(method), prox=prox) if method in family else style.sampler_style(method)


def particles(result: ToyResult) -> Figure:
    """Return the grid of final particles of the first seed: a row a method, a column an N, W2 in each panel."""
    names = result.names
    side, left, top, bottom, gap = 1.28, 1.35, 0.55, 0.08, 0.06
    width = left + max(len(result.steps) * (side + gap), 6.2)  # room for the title
    with style.drawing(width, top + len(names) * (side + gap) + bottom) as figure:
        for row, name in enumerate(names):
            for column, steps in enumerate(result.steps):
                axes = style.axes_at(figure, left + column * (side + gap), top + row * (side + gap), side, side)
                if (cell := result.methods[name].get(steps)) is None:
                    _draw_nothing(axes, name)
                else:
                    final, text = result.particles[name][steps], f"{cell.w2.values[0]:.3f}"
                    _draw_particles(axes, result, name, final, VIEW, text)
                if row == 0:
                    axes.set_title(f"N = {steps}", pad=4)
                if column == 0:
                    family, _, rest = name.partition("-")
                    label, colour = f"{family}-\n{rest}" if len(name) > 14 else name, style_of(name).colour
                    axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8, color=colour)
        text = f"{result.target}: {result.samples} particles (seed {result.seeds[0]}), target in grey, "
        text += f"numbers are W2; exact draws give {result.floor.w2.values[0]:.3f}"
        style.heading(figure, left, 0.08, text)
    return figure


def w2_vs_nfe(result: Results) -> Figure:
    """Return W2 against the measured NFE, both logarithmic: mean and deviation over seeds, with the floor."""
    count = len(result.seeds)
    seeds = f"mean ± standard deviation of {count} seeds" if count > 1 else f"seed {result.seeds[0]}"
    with style.drawing(6.6, 4.3) as figure:
        axes = figure.add_axes((0.095, 0.12, 0.635, 0.79))
        axes.set_title(f"{result.target}: {result.samples} particles, {seeds}", loc="left")
        draw_w2(axes, result, "score or prox evaluations per particle (NFE)", by_nfe=True)
    return figure


def draw_w2(axes: Axes, result: Results, label: str, *, by_nfe: bool = False) -> None:
    """Draw W2 of every method against N, or the measured NFE, with the floor."""
    ends, places = [], set[int]()
    for name, cells in result.methods.items():
        if cells:
            x = [cell.nfe if by_nfe else n for n, cell in cells.items()]
            places.update(x)
            ends.append(style.draw_curve(axes, name, style_of(name), x, [cell.w2 for cell in cells.values()]))
    if not ends:
        style.say_nothing(axes)
        return
    style.draw_floor(axes, result.floor.w2)
    style.log_axes(axes, sorted(places))
    axes.set(xlabel=label, ylabel="W2 to the target")
    style.end_labels(axes, ends)


def animation(result: ToyResult, path: Path) -> None:
    """Write a GIF of the particles of the first seed along their trajectories, the methods side by side.

    Every frame is a state of the samplers, nothing is interpolated.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    steps = result.trajectory_steps
    if not result.trajectories:
        raise ValueError(f"no method is defined for N = {steps}, so there is nothing to animate")
    frames, columns = [], min(4, len(result.trajectories))
    size = 0.1 + 2.0 * columns, 0.36 + 2.28 * math.ceil(len(result.trajectories) / columns)
    for k in range(steps + 1):
        with style.drawing(*size) as figure:
            style.heading(figure, 0.1, 0.1, f"{result.target}: step {k} of {steps}")
            for i, (name, trajectory) in enumerate(result.trajectories.items()):
                row, column = divmod(i, columns)
                axes = style.axes_at(figure, 0.1 + 2.0 * column, 0.64 + 2.28 * row, 1.9, 1.9)
                axes.set_title(name, color=style_of(name).colour, pad=3)
                w2 = result.methods[name][steps].w2.values[0]
                text = f"W2 = {w2:.3f}" if k == steps else f"t = {trajectory.times[k]:.2g}"
                _draw_particles(axes, result, name, trajectory.states[k], WIDE_VIEW, text)
            canvas: Any = FigureCanvasAgg(figure)
            canvas.draw()
            frames.append(torch.tensor(np.asarray(canvas.buffer_rgba())[None, ..., :3]).movedim(3, 1))
    save_gif(frames, path, zoom=1, milliseconds=450)


def _draw_particles(axes: Axes, result: ToyResult, name: str, points: Particles, view: float, text: str) -> None:
    """Draw the target in grey and particles in the colour of their method, in a square with a text in the corner."""
    axes.set(xlim=(-view, view), ylim=(-view, view), xticks=[], yticks=[])
    look: Any = {"linewidths": 0, "rasterized": True}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    axes.scatter(result.points[:, 0], result.points[:, 1], s=10, color=style.TARGET_COLOUR, **look)
    axes.scatter(points[:, 0], points[:, 1], s=3, color=style_of(name).colour, alpha=0.4, **look)
    axes.text(0.04, 0.04, text, transform=axes.transAxes, ha="left", va="bottom", bbox=box)


def _draw_nothing(axes: Axes, name: str) -> None:
    """Say that a method is not defined."""
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[], facecolor="#f5f5f5")
    limit = getattr(SAMPLERS.get(name.partition("(")[0]), "gamma_limit", math.inf)
    reason = f"not defined\n(γ ≥ {limit:g})" if math.isfinite(limit) else "not defined"
    axes.text(0, 0, reason, ha="center", va="center", color="#777777", linespacing=1.4)


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
    width, height, left, beside, top, bottom = 4.3, 4.4, 0.72, 2.3, 0.6, 0.5
    each = left + width + beside  # names stand there
    with style.drawing(len(targets) * each, bottom + height + top) as figure:
        for i, rates in enumerate(targets):
            axes = style.axes_at(figure, i * each + left, top, width, height)
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
