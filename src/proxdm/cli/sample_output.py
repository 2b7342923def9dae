"""Where `proxdm sample` puts what it has drawn: a grid, a folder, an array or an animation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from proxdm import imaging
from proxdm.data.images import to_uint8
from proxdm.runtime.files import check_folder, staged
from proxdm.samplers import SamplerState

Kind = Literal["png", "npz", "gif", "folder"]

METADATA_FILE = "samples.json"
"""In a folder of pictures: how they were made."""

TRAJECTORY = 64
"""Samples in an animation that comes beside another output."""

_MOST_FRAMES = 60
_KINDS: dict[str, Kind] = {".png": "png", ".npz": "npz", ".gif": "gif"}


@dataclass(frozen=True)
class Target:
    """Where samples go.

    Attributes:
        path: File, or folder of pictures.
        kind: What it is.
        gif: File of an animation besides.
    """

    path: Path
    kind: Kind
    gif: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder in which everything lands."""
        return self.path if self.kind == "folder" else self.path.parent

    def check(self, count: int, *, overwrite: bool) -> None:
        """Check, before the work, that `count` samples can be written.

        Raises:
            OutputError: The folder cannot be written, or something is there already.
        """
        pictures = [imaging.picture_name(index) for index in range(count)] if self.kind == "folder" else []
        names = [METADATA_FILE] if self.kind == "folder" else [self.path.name]
        names += [self.gif.name] if self.gif else []
        # One picture of an earlier run says as much as all of them.
        names += [name for name in pictures if (self.folder / name).exists()][:1]
        check_folder(self.folder, names, overwrite=overwrite)


def choose_target(path: Path, *, gif: bool) -> Target:
    """Return where samples go, by the ending of the path.

    Args:
        path: `.png`, `.npz` or `.gif`; no ending, or an existing folder, is a folder.
        gif: Whether an animation is wanted besides.

    Raises:
        ValueError: Another ending, or an animation beside itself.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return Target(path, "folder", path / "trajectory.gif" if gif else None)
    if suffix not in _KINDS:
        raise ValueError(
            f"--out = {path} ends in {path.suffix}; use .png (grid), .npz (array), .gif (animation), or a name without "
            "an ending for a folder of pictures"
        )
    if gif and suffix == ".gif":
        raise ValueError(f"--out = {path} is an animation by itself: leave --trajectory-gif out")
    return Target(path, _KINDS[suffix], path.with_suffix(".gif") if gif else None)


class Frames:
    """The first samples on their way from noise, at up to 60 of the sampler's times.

    Args:
        steps: Steps of the sampler.
        count: Samples to watch; 0 for none.
    """

    def __init__(self, steps: int, count: int) -> None:
        chosen = torch.linspace(0, steps, min(steps + 1, _MOST_FRAMES)).round().int().tolist()
        self.count = count
        self.parts: dict[int, list[Tensor]] = {step: [] for step in chosen}

    def add(self, start: int, state: SamplerState, decode: Callable[[Tensor], Tensor]) -> None:
        """Keep what is wanted of a state of the batch that begins with sample `start`."""
        wanted = state.x[: max(0, self.count - start)]
        if len(wanted) and state.step in self.parts:
            self.parts[state.step].append(to_uint8(decode(wanted)).cpu())

    def batches(self) -> list[Tensor]:
        """Return every frame, `(count, C, H, W)` uint8."""
        return [torch.cat(parts) for parts in self.parts.values()]


def write(
    target: Target,
    batches: Iterable[tuple[int, Tensor]],
    frames: Frames,
    metadata: Mapping[str, Any],
    *,
    columns: int | None = None,
) -> None:
    """Write samples as they come, and put everything in its place at the end.

    Args:
        target: Where to.
        batches: Number of the first sample, and samples: uint8 pictures, or numbers for an array.
        frames: Filled while `batches` is consumed.
        metadata: Goes into the files; read after the last batch.
        columns: Pictures in a row of a grid.
    """
    last = METADATA_FILE if target.kind == "folder" else target.path.name
    kept: list[Tensor] = []
    with staged(target.folder, last) as stage:
        count = 0
        for start, batch in batches:
            count = start + len(batch)
            if target.kind == "folder":
                imaging.save_pictures(batch, stage, start)
            elif target.kind != "gif":
                kept.append(batch)
        if target.kind == "png":
            imaging.save_grid(torch.cat(kept), stage / last, columns=columns, metadata=metadata)
        elif target.kind == "npz":
            imaging.save_npz(torch.cat(kept), stage / last, metadata)
        elif target.kind == "folder":
            (stage / last).write_text(json.dumps(dict(metadata), indent=2) + "\n", encoding="utf-8")
        if (animation := target.path if target.kind == "gif" else target.gif) is not None:
            imaging.save_gif(frames.batches(), stage / animation.name, columns=columns, metadata=metadata)
    if target.kind == "folder":
        _remove_pictures_after(target.folder, count)


def _remove_pictures_after(folder: Path, count: int) -> None:
    """Remove pictures of an earlier, larger set, which would pass for samples of this one."""
    for path in folder.glob("*.png"):
        if re.fullmatch(r"\d{6,}", path.stem) and int(path.stem) >= count:
            path.unlink()
