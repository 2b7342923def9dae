"""Files of latents: pictures encoded once by an autoencoder (:mod:`proxdm.data.vae`) into an `.npy` file.

A picture is stood for by the mean of the encoder's distribution (mode `mean`) or by a draw from it (mode `sample`).
Which of the two the published weights were trained on is not known to us; `mean` is the default, the same numbers for
everyone. Mirroring a latent is not encoding the mirrored picture; `mirrored=True` encodes both orientations instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from proxdm.data.arrays import read_array
from proxdm.data.images import ImageData
from proxdm.data.pictures import Pictures, fit_note, open_pictures
from proxdm.data.vae import LatentCoder
from proxdm.errors import DataError, OutputError, one_line
from proxdm.noise import SeededNoise
from proxdm.pixels import to_model_range
from proxdm.runtime.files import write_text

LatentMode = Literal["mean", "sample"]
"""What stands for a picture: the mean of the encoder's distribution, or a draw from it."""

_FORMAT = "proxdm-latents-1"


@dataclass(frozen=True)
class LatentStamp:
    """How a file of latents was made; stored beside it as `FILE.npy.json`."""

    source: str  # Name of the pictures
    names: str  # SHA-256 of the pictures' names, or of their pixels where they have no names
    preprocessing: str  # What was done to the pictures before encoding
    images: int  # Number of pictures
    shape: tuple[int, int, int]  # Shape of one latent, (C, H, W)
    vae: str  # Name or path of the autoencoder
    weights: str  # SHA-256 of its weights
    scaling_factor: float  # Factor of the latents
    shift: float  # What is subtracted before scaling
    mode: LatentMode  # `mean` or `sample`
    seed: int  # Seed of the draws; latent i depends on (seed, i) alone
    mirrored: bool  # Whether the second half of the file holds the mirrored pictures
    format: str = _FORMAT  # Name of this layout

    @property
    def rows(self) -> int:
        """Number of latents in the file."""
        return self.images * (2 if self.mirrored else 1)


def encode_pictures(
    source: Path | ImageData,
    out: Path,
    coder: LatentCoder,
    *,
    size: int | None = None,
    mode: LatentMode = "mean",
    seed: int = 0,
    mirrored: bool = False,
    batch_size: int = 16,
) -> ImageData:
    """Encode pictures into `out`, reading those of a folder or archive as they are needed.

    An interrupted call is taken up where it stopped by calling it again; a finished file is not made anew.
    """
    if out.suffix != ".npy" or batch_size < 1:
        raise DataError(f"out = {out} must end in .npy, and batch_size = {batch_size} be at least 1")
    with ExitStack() as stack:
        if isinstance(source, ImageData):
            name, count, note, images = source.name, len(source), source.preprocessing, source.images
            if source.latent or len(source.shape) != 3 or source.shape[0] != 3:
                raise DataError(f"{name}: an autoencoder takes RGB pictures, these have shape {source.shape}")
            shape, read = coder.latent_shape(*source.shape[1:]), images.__getitem__
            digest = hashlib.sha256()
            for chunk in torch.split(images, 1024):
                digest.update(chunk.contiguous().numpy().tobytes())
        else:
            if size is None:
                raise DataError(f"the pictures of {source} need a size=, such as 256")
            pictures = stack.enter_context(open_pictures(source))
            name, count, note = source.name, len(pictures.names), f"RGB uint8, {fit_note(size)}"
            shape, read = coder.latent_shape(size, size), partial(_decoded, pictures, size)
            digest = hashlib.sha256("\n".join(pictures.names).encode())
        of_coder = coder.name, coder.weights_digest(), coder.scaling_factor, coder.shift
        stamp = LatentStamp(name, digest.hexdigest(), note, count, shape, *of_coder, mode, seed, mirrored)
        if out.exists():
            if (found := read_stamp(out)) is None:
                raise OutputError(f"{out} exists and has no stamp beside it; choose another name for the latents")
            _check_same(out, found, stamp)
        else:
            _encode(read, out, coder, stamp, batch_size)
    return read_latents(out)


def read_stamp(path: Path) -> LatentStamp | None:
    """Return how a file of latents was made, or None if there is no stamp beside it."""
    path = _beside(path, ".json")
    if not path.exists():
        return None
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
        if stamp["format"] != _FORMAT:
            raise ValueError(f"format {stamp['format']!r}, not {_FORMAT}")
        return LatentStamp(**{**stamp, "shape": tuple(stamp["shape"])})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a stamp of latents ({one_line(error)}); delete it and encode again") from error


def read_latents(path: Path) -> ImageData:
    """Return the latents of a file that :func:`encode_pictures` made, mapped from disk."""
    stamp = read_stamp(path)
    if stamp is None:
        raise DataError(f"{path} has no stamp {path.name}.json beside it; make both with proxdm.data.latents")
    data = read_array(path, values="raw", layout="channels-first")
    if tuple(data.images.shape) != (stamp.rows, *stamp.shape):
        raise DataError(f"{path} holds {tuple(data.images.shape)}, not what its stamp says; encode it again")
    both = ", then all mirrored" if stamp.mirrored else ""
    note = f"{stamp.preprocessing}; latents of {stamp.vae} ({stamp.mode}, factor {stamp.scaling_factor:g}){both}"
    return replace(data, name=stamp.source, preprocessing=note)


def _encode(
    read: Callable[[slice], Tensor], out: Path, coder: LatentCoder, stamp: LatentStamp, batch_size: int
) -> None:
    """Fill `out.partial`, whose rows are NaN until they are done, and rename it when it is complete."""
    from tqdm.auto import tqdm

    part, shape = _beside(out, ".partial"), (stamp.rows, *stamp.shape)
    note, text = _beside(part, ".json"), json.dumps(asdict(stamp), indent=1)
    if part.exists() and (found := read_stamp(part)) is not None:
        _check_same(part, found, stamp)
    else:
        part.parent.mkdir(parents=True, exist_ok=True)
        store = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
        store[:] = np.nan
        store.flush()
        write_text(note, text)
    store = np.lib.format.open_memmap(part, mode="r+")
    if store.shape != shape:
        raise DataError(f"{part} does not fit {note.name}; delete both and encode again")
    missing = np.isnan(store).any(axis=(1, 2, 3))
    done = int(missing.argmax()) if missing.any() else stamp.rows
    with tqdm(total=stamp.rows, initial=done, desc=f"encoding {stamp.source}", unit="picture", disable=None) as bar:
        while done < stamp.rows:
            # No batch lies on both sides of `images`, where the mirrored ones begin.
            mirrored = done >= stamp.images
            stop = min(done + batch_size, stamp.rows if mirrored else stamp.images)
            shift = stamp.images * mirrored
            images = to_model_range(read(slice(done - shift, stop - shift)))
            images = images.flip(-1) if mirrored else images
            noise = None
            if stamp.mode == "sample":
                noise = SeededNoise(stamp.seed, range(done, stop), stamp.shape).initial()
            store[done:stop] = coder.encode(images, noise).cpu().numpy()
            bar.update(stop - done)
            done = stop
    store.flush()
    del store
    write_text(_beside(out, ".json"), text)
    part.replace(out)
    note.unlink()


def _decoded(pictures: Pictures, size: int, rows: slice) -> Tensor:
    store = np.empty((rows.stop - rows.start, 3, size, size), np.uint8)
    for index, picture in pictures.decoded(range(rows.start, rows.stop), size=size):
        if isinstance(picture, DataError):
            raise picture
        store[index - rows.start] = picture
    return torch.from_numpy(store)


def _check_same(path: Path, found: LatentStamp, wanted: LatentStamp) -> None:
    old, new = asdict(found), asdict(wanted)
    if changes := [f"{key} {old[key]!r} instead of {new[key]!r}" for key in new if old[key] != new[key]]:
        words = ", ".join(changes)
        raise OutputError(f"{path} was made with other settings ({words}); delete it or choose another name")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
