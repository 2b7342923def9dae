"""`proxdm sample`: pictures from a trained model, as a grid, a folder, an array or an animation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from proxdm import imaging
from proxdm.checkpoints.load import find, other_library
from proxdm.cli.options import ModelOptions, speaker
from proxdm.data.pictures import RECORD
from proxdm.errors import check_least
from proxdm.generation import Generated, SamplePlan, generate
from proxdm.runtime.files import check_folder, staged

ANIMATED = 64
"""Samples in an animation that comes beside another output."""

MOST_TITLES = 20
"""Classes up to which each has a column of the grid."""


@dataclass(frozen=True, kw_only=True)
class Sample(ModelOptions, SamplePlan):
    """Draw samples from a trained model and write them as a grid, a folder of pictures, an array or an animation.

    Sample i depends on the seed and i alone: asking for more samples, or in other batches, does not change it.
    """

    # A run, a checkpoint, a model file or folder, a repository on the hub (owner/name), or one of the paper's .pth
    # files.
    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    # A .png (one grid), .npz (array `samples`) or .gif file (from noise to samples); any other name is a folder of
    # numbered PNG files.
    out: Annotated[Path, arg(aliases=("-o",))] = Path("samples.png")
    columns: int | None = None  # Pictures in a row of the grid; by default one for every class, or as many as rows.
    no_caption: bool = False  # Leave the line below the grid out, which says what it shows.
    # Also write an animation of the first samples on their way from noise, beside the output.
    trajectory_gif: bool = False
    latents: bool = False  # Write the samples of latent models as they are (.npz only).
    overwrite: bool = False  # Replace what is there.

    def __post_init__(self) -> None:
        """Check also where the output goes."""
        super().__post_init__()
        check_least(1, columns=self.columns)
        if self.kind == "gif" and self.trajectory_gif:
            raise ValueError(f"--out = {self.out} is an animation by itself: leave --trajectory-gif out")

    @property
    def kind(self) -> str:
        """What the output is, by its ending; no ending, or an existing folder, is a folder."""
        suffix = self.out.suffix.lower()
        if self.out.is_dir() or not suffix:
            return "folder"
        if suffix not in (".png", ".npz", ".gif"):
            raise ValueError(
                f"--out = {self.out} ends in {self.out.suffix}; use .png (grid), .npz (array), .gif (animation), or a "
                "name without an ending for a folder of pictures"
            )
        return suffix[1:]

    @property
    def animation(self) -> Path | None:
        """The file of the animation, if one is wanted."""
        if not self.trajectory_gif:
            return self.out if self.kind == "gif" else None
        return self.out / "trajectory.gif" if self.kind == "folder" else self.out.with_suffix(".gif")


def run(options: Sample, prog: str) -> int:
    """Draw samples and write them: everything, or nothing."""
    kind, animation = options.kind, options.animation
    folder, last = (options.out, RECORD) if kind == "folder" else (options.out.parent, options.out.name)
    names = [last] + ([animation.name] if animation else [])
    if kind == "folder":  # one picture of an earlier run says as much as all of them
        numbered = map(imaging.picture_name, range(options.samples))
        names += [name for name in numbered if (folder / name).exists()][:1]
    if not options.source.endswith(".pth") and other_library(options.source) is None:
        # What is wrong with the model is said before what is wrong with the output.
        find(options.source, options.weights)
    check_folder(folder, names, overwrite=options.overwrite)
    with staged(folder, last) as stage:
        found = generate(
            options.source,
            options,
            **options.chosen,
            pictures=kind != "npz",
            frames=0 if animation is None else options.samples if kind == "gif" else min(options.samples, ANIMATED),
            each={
                "folder": lambda start, batch: imaging.save_pictures(batch, stage, start),
                "gif": lambda start, batch: None,
            }.get(kind),
            progress=True,
            say=speaker(prog),
        )
        _write(found, options, stage / last, None if animation is None else stage / animation.name)
    if kind == "folder":  # pictures of an earlier, larger set would pass for samples of this one
        for path in folder.glob("*.png"):
            if re.fullmatch(r"\d{6,}", path.stem) and int(path.stem) >= options.samples:
                path.unlink()
    record, beside = found.record, animation if animation != options.out else None
    print(
        f"{options.samples} samples of {record['weights']} by {record['sampler']} on {record['grid']}, "
        f"{record['nfe']} evaluations each, in {found.seconds:.1f} s on {found.device}: {options.out}"
        + (f" and {beside}" if beside else "")
    )
    return 0


def caption(record: Mapping[str, Any]) -> str:
    """Return in one line what samples are of: model, sampler, evaluations."""
    prior = " + prior" if "prior" in record else ""
    guidance = f", guidance {record['guidance']:g}" if record.get("guidance", 1) != 1 else ""
    sampler = f"{record['sampler']}{prior}{guidance}"
    return f"{record['source']}: {sampler}, {record['nfe']} evaluations, {record['weights']}"


def _write(found: Generated, options: Sample, path: Path, animation: Path | None) -> None:
    """Write what is not written already."""
    kind, columns, titles = options.kind, options.columns, found.classes
    if columns is None and 1 < len(titles) <= MOST_TITLES:
        columns = len(titles)
    if kind == "png":
        text = None if options.no_caption else caption(found.record)
        above = titles if columns == len(titles) <= options.samples and text else ()
        imaging.save_grid(found.samples, path, columns=columns, caption=text, titles=above, metadata=found.record)
    elif kind == "npz":
        imaging.save_npz(found.samples, path, found.record)
    elif kind == "folder":
        path.write_text(json.dumps(found.record, indent=2) + "\n", encoding="utf-8")
    if animation is not None:
        imaging.save_gif(found.frames, animation, columns=columns, metadata=found.record)
