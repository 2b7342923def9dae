"""Figures of the synthetic experiment: final particles, W2 against NFE, and an animation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proxdm.experiments.toy import METHODS, ToyResult
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
                _panel(axes, result, name, steps)
                if row == 0:
                    axes.set_title(f"N = {steps}", pad=4)
                if column == 0:
                    family, _, rest = name.partition("-")
                    text = f"{family}-\n{rest}" if len(name) > 14 else name
                    colour = style_of(name).colour
                    axes.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=8, color=colour)
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


def animation(result: ToyResult, path: Path, *, seconds_per_step: float = 0.45, hold: float = 2.5) -> None:
    """Write a GIF of the particles of the first seed along their trajectories, the methods side by side.

    Every frame is a state of the samplers, nothing is interpolated.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    names = [name for name in result.names if name in result.trajectories]
    if not names:
        raise ValueError(f"no method is defined for N = {result.trajectory_steps}, so there is nothing to animate")
    frames = []
    columns = min(4, len(names))
    with style.drawing(0.1 + 2.0 * columns, 0.36 + 2.28 * math.ceil(len(names) / columns)) as figure:
        canvas: Any = FigureCanvasAgg(figure)
        title = style.heading(figure, 0.1, 0.1, "")
        draw = [_moving(figure, divmod(i, columns), name, result) for i, name in enumerate(names)]
        for k in range(result.trajectory_steps + 1):
            title.set_text(f"{result.target}: step {k} of {result.trajectory_steps}")
            for update in draw:
                update(k)
            canvas.draw()
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    # One palette for all frames, taken from the last and the first, or colours would flicker.
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(128)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [
        round(1000 * seconds) for seconds in (2 * seconds_per_step, *[seconds_per_step] * len(small[2:]), hold)
    ]
    small[0].save(path, save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=False)


def _cloud(axes: Axes, result: ToyResult, name: str, points: Any, view: float, **sizes: float) -> Any:
    """Draw the target in grey and particles in the colour of their method, in a square."""
    axes.set(xlim=(-view, view), ylim=(-view, view), xticks=[], yticks=[])
    if points is None:
        return None
    target, size, alpha = sizes["target"], sizes["size"], sizes["alpha"]
    x, y = result.points.T
    axes.scatter(x, y, s=target, color=style.TARGET_COLOUR, linewidths=0, rasterized=True)
    x, y = points.T
    return axes.scatter(x, y, s=size, color=style_of(name).colour, alpha=alpha, linewidths=0, rasterized=True)


def _panel(axes: Axes, result: ToyResult, name: str, steps: int) -> None:
    """Draw the final particles of one run, or say that there are none."""
    cell = result.methods[name].get(steps)
    final = None if cell is None else result.particles[name][steps]
    _cloud(axes, result, name, final, VIEW, target=10, size=3, alpha=0.4)
    if cell is None:
        axes.set_facecolor("#f5f5f5")
        limit = getattr(SAMPLERS.get(name.partition("(")[0]), "gamma_limit", math.inf)
        reason = f"not defined\n(γ ≥ {limit:g})" if math.isfinite(limit) else "not defined"
        axes.text(0, 0, reason, ha="center", va="center", color="#777777", linespacing=1.4)
    else:
        text = f"{cell.w2.values[0]:.3f}"
        axes.text(0.04, 0.04, text, transform=axes.transAxes, ha="left", va="bottom", bbox=style.BOX)


def _moving(figure: Figure, place: tuple[int, int], name: str, result: ToyResult) -> Any:
    """Add the panel of one method to the animation and return the function that shows its state k."""
    trajectory, (row, column) = result.trajectories[name], place
    axes = style.axes_at(figure, 0.1 + 2.0 * column, 0.36 + 2.28 * row + 0.28, 1.9, 1.9)
    cloud = _cloud(axes, result, name, trajectory.states[0], WIDE_VIEW, target=11, size=3.5, alpha=0.5)
    axes.set_title(name, color=style_of(name).colour, pad=3)
    label = axes.text(0.03, 0.03, "", transform=axes.transAxes, ha="left", va="bottom", bbox=style.BOX)
    w2 = result.methods[name][result.trajectory_steps].w2.values[0]

    def show(k: int) -> None:
        cloud.set_offsets(trajectory.states[k])
        last = k == len(trajectory.times) - 1
        label.set_text(f"W2 = {w2:.3f}" if last else f"t = {trajectory.times[k]:.2g}")

    return show
