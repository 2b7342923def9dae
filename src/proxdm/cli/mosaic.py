"""`proxdm mosaic`: samplers on one model side by side, as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from tyro.conf import Positional, arg

from proxdm.checkpoints.portable import model_config
from proxdm.cli.options import ModelOptions, speaker
from proxdm.config import Config
from proxdm.data.load import load_data
from proxdm.errors import DataError
from proxdm.generation import TUNED, SamplePlan, generate
from proxdm.pixels import to_uint8
from proxdm.plotting import style
from proxdm.plotting.mosaic import draw_mosaic
from proxdm.runtime.files import check_new


@dataclass(frozen=True, kw_only=True)
class Mosaic(ModelOptions):
    """Draw samplers on one model side by side, from the same noise, with real pictures below.

    Samplers for which `proxdm tune` has found the best grid of an N take it, and are marked as tuned.
    """

    # A run, a model file or folder, a repository on the hub, hf:FOLDER, or a model in the box: digits, fashion-mnist.
    source: Annotated[Positional[str], arg(metavar="MODEL")] = "fashion-mnist"
    # Texts of samplers, a row each.
    sampler: tuple[str, ...] = ("multistep", "dpm++2m", "ddim", "euler-maruyama", "ode-euler", "prox-hybrid")
    steps: tuple[int, ...] = (1, 2, 3, 5)  # Numbers of steps, a column each.
    count: int = 6  # Pictures of a cell.
    seed: int = 0  # Of the noise.
    out: Annotated[Path, arg(aliases=("-o",))] = Path("mosaic.png")  # A .png file; an .svg is written beside it.
    overwrite: bool = False  # Replace what is there.

    def __post_init__(self) -> None:
        """Check every value that does not need the model."""
        if self.out.suffix != ".png":
            raise ValueError(f"--out = {self.out} must end in .png")
        if self.count < 1 or min(self.steps, default=0) < 1 or not self.sampler:
            raise ValueError(f"--count = {self.count} and --steps = {self.steps} must be at least 1, with a --sampler")


def run(options: Mosaic, prog: str) -> int:
    """Run the verb and return the exit status."""
    check_new(options.out, options.out.with_suffix(".svg"), overwrite=options.overwrite)
    print(", ".join(map(str, draw(options, prog))))
    return 0


def draw(options: Mosaic, prog: str) -> list[Path]:
    """Draw the figure and return its files."""
    opened = options.open(options.source)
    if len(shape := model_config(opened.model.config).shape) != 3:
        raise ValueError(f"a mosaic is of pictures, and {options.source} has samples of shape {shape}: proxdm sample")
    cells: dict[str, dict[str, Tensor]] = {}
    for text in options.sampler:
        found: dict[str, Tensor] = {}
        tuned = False
        for n in options.steps:
            grid = TUNED if n in opened.model.grids.get(text, {}) else None
            plan = SamplePlan(text, n, options.count, options.seed, grid, batch_size=options.count)
            try:
                found[f"N = {n}"] = generate(opened, plan, pictures=True, say=lambda line: None).samples
            except ValueError as error:  # a step that this sampler cannot take
                speaker(prog)(f"{text} at N = {n} is left out: {error}")
                continue
            tuned = tuned or grid is not None
        prior = " + prior" if text == "multistep" and opened.model.prior is not None else ""
        if found:
            cells[f"{text}{prior}{', tuned' if tuned else ''}"] = found
    title = f"{options.source}: N evaluations of one network, from the same noise"
    figure = draw_mosaic(
        cells, real_pictures(opened.model.config, len(options.steps) * options.count), title=title, first=[*cells][:1]
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    return style.save(figure, options.out.with_suffix(""))


def real_pictures(config: object, count: int) -> Tensor | None:
    """Return some pictures that the model was trained on, uint8; None where they are not on this machine."""
    if not isinstance(config, Config) or len(model_config(config).shape) != 3 or config.data.values == "raw":
        return None
    try:
        images = load_data(config.data).images
    except DataError:
        return None
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    return to_uint8(images[order])
