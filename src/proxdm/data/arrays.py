"""Images in `.npy` and `.npz` files, by explicit rules; what stays ambiguous is an error, never a guess.

Layout: `(n, H, W)` is grey. Of four dimensions, the second or the last is the channels, whichever has 1 or 3 entries
(the second also 4, for latents); where both do, `layout` decides. Floating point `(n, d)` are vectors, kept as they are
unless `values` says otherwise.

Values: uint8 is [0, 255]. Floating point in [-1, 1] with negative values is the model's range, in [0, 1] it is scaled
by `2 x - 1`; `values` overrules this, and `raw` keeps the numbers as they are (latents).

A `.npy` file whose values need no conversion is mapped into memory, not read: it may be larger than the memory.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from proxdm.data.images import ImageData, check_memory
from proxdm.errors import DataError, one_line

Values = Literal["auto", "unit", "signed", "raw"]
"""Range of a floating-point array: decided by its values, [0, 1], [-1, 1], or any (kept as they are)."""

Layout = Literal["auto", "channels-first", "channels-last"]
"""Place of the channels in an array of four dimensions."""

_KEYS = ("images", "samples", "data", "x", "arr_0")
_LONGEST_HEADER = 2**16
_CHUNK_BYTES = 64 * 2**20
_RANGES = {
    "unit": (0.0, 1.0, "scaled from [0, 1] to [-1, 1]"),
    "signed": (-1.0, 1.0, "in [-1, 1]"),
    "raw": (-math.inf, math.inf, "raw values"),
}


def read_array(path: Path, *, values: Values = "auto", layout: Layout = "auto") -> ImageData:
    """Return the images of a `.npy` or `.npz` file."""
    array, where = _channels_first(path, _load(path), layout)
    mapped = isinstance(array, np.memmap)
    if array.dtype == np.uint8:
        if values in ("unit", "signed"):
            raise DataError(f"{path} is uint8, in [0, 255]; values = {values!r} is for floating point: leave it out")
        return ImageData(torch.from_numpy(array), path.stem, preprocessing=f"uint8, {where}", memory_mapped=mapped)
    if array.dtype.kind != "f":
        raise DataError(f"{path} is of type {array.dtype}; images are uint8, or floating point in [0, 1] or [-1, 1]")
    low, high = _bounds(path, array)
    if values == "auto":
        values = "raw" if array.ndim == 2 else "unit" if low >= 0 and high <= 1 else "signed"
        if values == "signed" and (low < -1 or high > 1):
            raise DataError(
                f"{path} is floating point from {low:g} to {high:g}; images are in [0, 1] or [-1, 1]: make values of 0 "
                "to 255 uint8, give values=raw for latents"
            )
    floor, ceiling, note = _RANGES[values]
    if low < floor or high > ceiling:
        raise DataError(
            f"{path} reaches from {low:g} to {high:g}, beyond values = {values!r}: [{floor:g}, {ceiling:g}]"
        )
    if not mapped or values == "unit" or array.dtype != np.float32:
        check_memory(str(path), array.shape, 4)
        array, mapped = array.astype(np.float32, subok=False), False
    floats = torch.from_numpy(array)
    if values == "unit":
        floats.mul_(2.0).sub_(1.0)
    note = f"float, {note}, {where}"
    latent = values == "raw" and array.ndim == 4
    return ImageData(floats, path.stem, preprocessing=note, memory_mapped=mapped, latent=latent)


def _load(path: Path) -> NDArray[Any]:
    """Return the array; a `.npy` is mapped copy-on-write, so the file never changes."""
    if not path.exists():
        raise DataError(f"there is no file {path}")
    with path.open("rb") as file:
        start = file.read(12)
    # The length of the header stands in 4 bytes from version 2 on; NumPy would set that much memory aside.
    if start[:6] == b"\x93NUMPY" and start[6:7] != b"\x01" and int.from_bytes(start[8:12], "little") > _LONGEST_HEADER:
        raise DataError(f"{path} cannot be read as an array (its header is damaged); write it with numpy.save")
    try:
        loaded = np.load(path, mmap_mode="c" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            keys = list(archive.files)
            chosen = keys if len(keys) == 1 else [name for name in _KEYS if name in keys]
            if chosen:
                return np.asarray(archive[chosen[0]])
    except Exception as error:  # of a damaged file NumPy, zip and zlib raise whatever comes to their mind
        remedy = "write it with numpy.save"
        if "object" in str(error).lower():
            remedy = "it holds Python objects, not numbers; statistics for a distance are an .npz with mu and sigma"
        raise DataError(f"{path} cannot be read as an array ({one_line(error)}); {remedy}") from error
    raise DataError(f"{path} holds the arrays {', '.join(keys) or '(none)'}; keep one, or call it {' or '.join(_KEYS)}")


def _channels_first(path: Path, array: NDArray[Any], layout: Layout) -> tuple[NDArray[Any], str]:
    """Return the array as `(n, C, H, W)`, or as it is if it holds vectors, and what it was."""
    shape = "x".join(map(str, array.shape)) or "()"
    if 0 in array.shape:
        raise DataError(f"{path} holds no samples: its shape is {shape}")
    if array.ndim == 3 and array.shape[2] == 3 and array.shape[0] > 3:
        raise DataError(
            f"{path} has shape {shape}: one colour picture, or grey ones that are 3 wide? Give it 4 dimensions: "
            "array[None] or array[..., None]"
        )
    if array.ndim == 3:
        return array[:, None], f"grey {shape}"
    if array.ndim == 2 and array.dtype.kind == "f":
        return array, f"vectors {shape}"
    if array.ndim != 4:
        raise DataError(f"{path} has shape {shape}; images are (n, H, W), (n, H, W, C) or (n, C, H, W), vectors (n, d)")
    if layout == "auto":
        first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 3)
        if first == last:
            raise DataError(f"{path} has shape {shape}: where are its channels? Give layout=channels-first or -last")
        layout = "channels-first" if first else "channels-last"
    return (array if layout == "channels-first" else np.moveaxis(array, 3, 1)), f"{layout} {shape}"


def _bounds(path: Path, array: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the greatest value, reading in chunks so that a mapped file need not fit in memory."""
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    bounds = []
    for start in range(0, len(array), rows):
        chunk = array[start : start + rows]
        bounds += [float(chunk.min()), float(chunk.max())]
        if not all(map(math.isfinite, bounds[-2:])):
            raise DataError(f"{path} holds NaN or infinite values in images {start} to {start + len(chunk) - 1}")
    return min(bounds), max(bounds)
