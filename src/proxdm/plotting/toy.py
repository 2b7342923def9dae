"""Figures of the synthetic experiment: final particles, W2 against NFE, and an animation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proxdm.experiments.toy import METHODS
from proxdm.experiments.toy_result import ToyResult, Trajectory
from proxdm.plotting.style import (
    RC,
    TARGET_COLOUR,
    End,
    Style,
    draw_floor,
    end_labels,
    family_style,
    log_axes,
    rule_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VIEW = 1.15
"""Half width of a panel of final particles; the targets lie in [-1, 1]^2."""

WIDE_VIEW = 1.75
"""Half width of a panel of the animation, which starts from standard normal particles."""


def style_of(method: str) -> Style:
    """Return the style of a method, which does not depend on what else is drawn.

    Args:
        method: A name out of :data:`proxdm.experiments.toy.METHODS`, or the text of a sampler.
    """
    if method not in METHODS:
        return rule_style(method)
    score = METHODS[method].sampler.operator != "prox"
    family = [name for name, other in METHODS.items() if (other.sampler.operator != "prox") == score]
    return family_style(family.index(method), score=score)


def particles(result: ToyResult) -> Figure:
    """Return the grid of final particles of the first seed: a row a method, a column an N, W2 in each panel.

    Args:
        result: What :func:`proxdm.experiments.toy.run_toy` returned.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = _names(result)
    rows, columns = len(names), len(result.steps)
    side, left, top, bottom, gap = 1.28, 1.35, 0.55, 0.08, 0.06
    width, height = left + max(columns * (side + gap), 6.2), top + rows * (side + gap) + bottom  # room for the title
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height))
        for row, name in enumerate(names):
            for column, steps in enumerate(result.steps):
                box = (
                    (left + column * (side + gap)) / width,
                    1 - (top + row * (side + gap) + side) / height,
                    side / width,
                    side / height,
                )
                axes = figure.add_axes(box)
                _panel(axes, result, name, steps)
                if row == 0:
                    axes.set_title(f"N = {steps}", pad=4)
                if column == 0:
                    colour = style_of(name).colour
                    axes.set_ylabel(_wrapped(name), rotation=0, ha="right", va="center", labelpad=8, color=colour)
        figure.text(
            left / width,
            1 - 0.08 / height,
            f"{result.dataset}: {result.samples} particles (seed {result.seeds[0]}), target in grey, "
            f"numbers are W2; exact draws give {result.floor.w2.values[0]:.3f}",
            ha="left",
            va="top",
        )
    return figure


def w2_vs_nfe(result: ToyResult) -> Figure:
    """Return W2 against the measured NFE, both logarithmic: mean and deviation over seeds, with the floor.

    Args:
        result: What :func:`proxdm.experiments.toy.run_toy` returned.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(6.6, 4.3))
        axes = figure.add_axes((0.095, 0.12, 0.635, 0.79))
        ends: list[End] = []
        for name, cells in result.methods.items():
            style = style_of(name)
            nfe = [cell.nfe for cell in cells.values()]
            mean = [cell.w2.mean for cell in cells.values()]
            axes.errorbar(
                nfe,
                mean,
                yerr=[cell.w2.std or 0.0 for cell in cells.values()],
                color=style.colour,
                marker=style.marker,
                markerfacecolor=style.face,
                markersize=5,
                linestyle=style.line,
                linewidth=1.4,
                capsize=2,
                elinewidth=0.8,
            )
            ends.append(End(name, style, nfe[-1], mean[-1]))
        draw_floor(axes, result.floor.w2.mean, result.floor.w2.std or 0.0)
        log_axes(axes, sorted({cell.nfe for cells in result.methods.values() for cell in cells.values()}))
        axes.set_xlabel("score or prox evaluations per particle (NFE)")
        axes.set_ylabel("W2 to the target")
        axes.set_title(f"{result.dataset}: {result.samples} particles, {_seeds(result)}", loc="left")
        end_labels(axes, ends)
    return figure


def animation(result: ToyResult, path: Path, *, seconds_per_step: float = 0.45, hold: float = 2.5) -> None:
    """Write a GIF of the particles of the first seed along their trajectories, the methods side by side.

    Every frame is a state of the samplers, nothing is interpolated.

    Args:
        result: What :func:`proxdm.experiments.toy.run_toy` returned, with at least one trajectory.
        path: The file, `*.gif`.
        seconds_per_step: Time a frame is shown.
        hold: Time the last frame is shown.

    Raises:
        ValueError: The result has no trajectory.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    names = [name for name in _names(result) if name in result.trajectories]
    if not names:
        raise ValueError(f"no method is defined for N = {result.trajectory_steps}, so there is nothing to animate")
    frames = []
    with matplotlib.rc_context(RC):
        columns = min(4, len(names))
        rows = math.ceil(len(names) / columns)
        figure = Figure(figsize=(0.1 + 2.0 * columns, 0.36 + 2.28 * rows), dpi=100)
        canvas: Any = FigureCanvasAgg(figure)
        title = figure.text(0.1 / figure.get_figwidth(), 1 - 0.1 / figure.get_figheight(), "", va="top")
        draw = [_moving(figure, i, rows, columns, name, result) for i, name in enumerate(names)]
        for k in range(result.trajectory_steps + 1):
            title.set_text(f"{result.dataset}: step {k} of {result.trajectory_steps}")
            for update in draw:
                update(k)
            canvas.draw()
            image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            frames.append(image)
    # One palette for all frames, taken from the last and the first, or colours would flicker.
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(128)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [round(1000 * seconds_per_step)] * len(small)
    durations[0], durations[-1] = round(2000 * seconds_per_step), round(1000 * hold)
    small[0].save(path, save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=False)


def _names(result: ToyResult) -> list[str]:
    """Return the methods of a result, those skipped at every N too."""
    return list(result.names)


def _wrapped(name: str) -> str:
    """Break a long name after its family, e.g. `score-` / `denoise-1e-3`."""
    family, _, rest = name.partition("-")
    return f"{family}-\n{rest}" if len(name) > 14 else name


def _seeds(result: ToyResult) -> str:
    count = len(result.seeds)
    return f"mean ± standard deviation of {count} seeds" if count > 1 else f"seed {result.seeds[0]}"


def _square(axes: Axes, view: float) -> None:
    axes.set_xlim(-view, view)
    axes.set_ylim(-view, view)
    axes.set_xticks([])
    axes.set_yticks([])


def _target(axes: Axes, result: ToyResult, size: float) -> None:
    axes.scatter(result.target[:, 0], result.target[:, 1], s=size, color=TARGET_COLOUR, linewidths=0, rasterized=True)


def _panel(axes: Axes, result: ToyResult, name: str, steps: int) -> None:
    """Draw the final particles of one run, or say that there are none."""
    _square(axes, VIEW)
    cell = result.methods.get(name, {}).get(steps)
    if cell is None:
        axes.set_facecolor("#f5f5f5")
        method = METHODS.get(name)
        limit = getattr(method.sampler if method else None, "gamma_limit", math.inf)
        reason = f"not defined\n(γ ≥ {limit:g})" if math.isfinite(limit) else "not defined"
        axes.text(0, 0, reason, ha="center", va="center", color="#777777", linespacing=1.4)
        return
    _target(axes, result, 10)
    final = result.particles[name][steps]
    axes.scatter(final[:, 0], final[:, 1], s=3, color=style_of(name).colour, alpha=0.4, linewidths=0, rasterized=True)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    axes.text(0.04, 0.04, f"{cell.w2.values[0]:.3f}", transform=axes.transAxes, ha="left", va="bottom", bbox=box)


def _moving(figure: Figure, index: int, rows: int, columns: int, name: str, result: ToyResult) -> Any:
    """Add the panel of one method to the animation and return the function that shows its state k."""
    trajectory: Trajectory = result.trajectories[name]
    width, height = figure.get_figwidth(), figure.get_figheight()
    row, column = divmod(index, columns)
    axes = figure.add_axes(
        ((0.1 + 2.0 * column) / width, 1 - (0.36 + 2.28 * row + 2.18) / height, 1.9 / width, 1.9 / height)
    )
    _square(axes, WIDE_VIEW)
    _target(axes, result, 11)
    axes.set_title(name, color=style_of(name).colour, pad=3)
    start = trajectory.states[0]
    cloud = axes.scatter(start[:, 0], start[:, 1], s=3.5, color=style_of(name).colour, alpha=0.5, linewidths=0)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    label = axes.text(0.03, 0.03, "", transform=axes.transAxes, ha="left", va="bottom", bbox=box)
    w2 = result.methods[name][result.trajectory_steps].w2.values[0]

    def show(k: int) -> None:
        cloud.set_offsets(trajectory.states[k])
        last = k == len(trajectory.times) - 1
        label.set_text(f"W2 = {w2:.3f}" if last else f"t = {trajectory.times[k]:.2g}")

    return show
