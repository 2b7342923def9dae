"""Few evaluations side by side: ours and DPM-Solver++ from the same noise, real pictures below.

proxdm prior fit MODEL                                  # once; a run has its prior already
python examples/mosaic.py MODEL --data fashion-mnist --out mosaic.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import proxdm
from proxdm.data import DataConfig, load_data
from proxdm.imaging import grid
from proxdm.pixels import to_uint8

OURS, THEIRS, INK, MUTED = (1, 2, 3, 5), (2, 3, 5, 10), "#1a1a1a", "#6b6b6b"


def rows(model: proxdm.ScoreModel, count: int, seed: int, grids: bool) -> list[tuple[str, Tensor]]:
    """Return captions and pictures: one row for each number of evaluations."""
    shape, found = (count, *model.config.model.shape), []
    for name, label, steps in (
        ("multistep", "multistep, with its prior", OURS),
        ("dpm++2m", "DPM-Solver++(2M)", THEIRS),
    ):
        for n in steps:
            # Without a prior the best grids are those that `proxdm tune` found; else the usual ones.
            tuned = model.grids.get(name, {}).get(n) if grids else None
            x = proxdm.sample(model, name, n, shape, grid=tuned, seed=seed)
            found.append((f"{label}\nN = {n}", to_uint8(x)))
    return found


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="fashion-mnist", help="real pictures of the last row")
    parser.add_argument("--out", type=Path, default=Path("mosaic.png"))
    parser.add_argument("--count", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tuned", action="store_true", help="DPM-Solver++ on the grids stored by `proxdm tune`")
    options = parser.parse_args()
    model = proxdm.load(options.model)
    images = load_data(DataConfig(options.data)).images
    every = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))[: options.count]
    found = [*rows(model, options.count, options.seed, options.tuned), ("real pictures", to_uint8(images[every]))]
    height, gap = 0.62, 0.16
    total = len(found) * height + 3 * gap + 0.1
    figure = Figure(figsize=(2.0 + options.count * height, total), dpi=120, facecolor="white")
    top = 0.1
    for number, (caption, pictures) in enumerate(found):
        top += gap if number in (len(OURS), len(OURS) + len(THEIRS)) else 0.0
        width = options.count * height
        axes = figure.add_axes((1.9 / (2.0 + width), 1 - (top + height) / total, width / (2.0 + width), height / total))
        axes.imshow(grid(pictures, columns=options.count, zoom=1), cmap="gray", interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        figure.text(
            1.82 / (2.0 + width), 1 - (top + height / 2) / total, caption, ha="right", va="center", fontsize=8.5,
            color=INK if number < len(OURS) else MUTED,
        )  # fmt: skip
        top += height
    figure.savefig(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
