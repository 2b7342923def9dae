"""Pictures from samples: grids, folders of PNG files, arrays and animations.

Images are `(n, C, H, W)` with C = 1 (grey) or 3 (RGB), uint8 or floating point in [-1, 1]; the map between the two is
:func:`proxdm.pixels.to_uint8`, the same everywhere. What was done to make the samples travels inside the files:
as the text `proxdm` of a PNG, the comment of a GIF and the array `metadata` of an NPZ, each of them JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from proxdm.pixels import is_image_shape, to_uint8

Pixels = NDArray[np.uint8]
"""One picture, `(H, W)` grey or `(H, W, 3)` RGB."""

_PADDING = 2
_SMALL = 96
"""Pictures in a grid are enlarged, by whole numbers, to sides of about so many pixels."""


def can_draw(shape: Sequence[int]) -> bool:
    """Return whether :func:`grid` draws samples of this shape: pictures, or points in the plane."""
    return is_image_shape(shape) or tuple(shape) == (2,)


def to_pixels(images: Tensor) -> list[Pixels]:
    """Return every image as a picture."""
    if images.ndim != 4 or not is_image_shape(images.shape[1:]):
        raise ValueError(
            f"samples of shape {tuple(images.shape[1:])} are not pictures of 1 or 3 channels; write them to an .npz"
        )
    rows: Pixels = to_uint8(images.detach()).cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return list(rows[..., 0] if rows.shape[-1] == 1 else rows)


def grid(images: Tensor, *, columns: int | None = None, zoom: int | None = None) -> Pixels:
    """Return all images in one picture, row by row, two white pixels between them; points `(n, 2)` as black dots.

    Points are seen from -1.5 to 1.5 in both coordinates, and farther where they lie farther.
    """
    if images.ndim == 2 and images.shape[1] == 2:
        x, y = images.detach().float().cpu().numpy().T
        reach = max(1.5, float(np.abs([x, y]).max(initial=0)))
        counts, _, _ = np.histogram2d(-y, x, 128, [[-reach, reach]] * 2)
        return np.where(counts > 0, 0, 255).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    pictures = to_pixels(images)
    if not pictures:
        raise ValueError("there are no images to draw: give at least one")
    height, width = pictures[0].shape[:2]
    columns = math.ceil(math.sqrt(len(pictures))) if columns is None else columns
    zoom = max(1, _SMALL // max(height, width)) if zoom is None else zoom
    if columns < 1 or zoom < 1:
        raise ValueError(f"columns = {columns} and zoom = {zoom} must be at least 1")
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    tall, wide = height * zoom + _PADDING, width * zoom + _PADDING
    canvas = np.full((rows * tall + _PADDING, columns * wide + _PADDING, *pictures[0].shape[2:]), 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        cell = canvas[row * tall + _PADDING : (row + 1) * tall, column * wide + _PADDING : (column + 1) * wide]
        cell[:] = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return canvas


def save_png(pixels: Pixels, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write one picture as PNG."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if metadata is not None:
        info.add_text("proxdm", _json(metadata))
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=info)


def save_grid(
    images: Tensor,
    path: Path,
    *,
    columns: int | None = None,
    caption: str | None = None,
    titles: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write all images into one PNG: :func:`grid`, titles above its columns and a line of text below, if there are."""
    save_png(captioned(grid(images, columns=columns), caption or "", titles), path, metadata)


def captioned(pixels: Pixels, text: str, titles: Sequence[str] = ()) -> Pixels:
    """Return a picture with a line of text below it, and a title above each of its equally wide columns.

    Both are cut where there is no more room, and left out where they are empty.
    """
    from PIL import Image, ImageDraw

    height, width = pixels.shape[:2]
    column = (width - _PADDING) / max(1, len(titles))
    below, above = max(10, min(16, width // 40)), max(9, min(14, width // max(1, len(titles)) // 7))
    top = 2 * above if titles else 0
    size = (width, top + height + (2 * below if text else 0))
    canvas = Image.new("RGB" if pixels.ndim == 3 else "L", size, "white")
    canvas.paste(Image.fromarray(pixels), (0, top))
    for number, title in enumerate(titles):
        font, shown = _fitting(title, above, column - _PADDING)
        place = (_PADDING + (number + 0.5) * column, above)
        ImageDraw.Draw(canvas).text(place, shown, fill="black", font=font, anchor="mm")
    if text:
        font, shown = _fitting(text, below, width - 2 * _PADDING)
        ImageDraw.Draw(canvas).text((2 * _PADDING, top + height + below / 2), shown, fill="black", font=font)
    return np.asarray(canvas)


def _fitting(text: str, size: int, width: float) -> tuple[Any, str]:
    """Return the font of a size, and a text cut to a width in it."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    while len(text) > 1 and font.getlength(text) > width:
        text = text.rstrip("…")[:-1] + "…"
    return font, text


def picture_name(index: int) -> str:
    """Return the file name of sample `index` in a folder: `000123.png`."""
    return f"{index:06d}.png"


def save_pictures(images: Tensor, folder: Path, start: int = 0) -> None:
    """Write every image into its own PNG, `000000.png` and so on."""
    for index, picture in enumerate(to_pixels(images), start):
        save_png(picture, folder / picture_name(index))


def save_npz(samples: Tensor, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write samples as the array `samples` of an NPZ file, with `metadata`, a JSON string; nothing in it is pickled."""
    values = samples.detach()
    values = values if values.dtype == torch.uint8 else values.to(torch.float32)
    with path.open("wb") as file:
        np.savez_compressed(file, samples=values.cpu().numpy(), metadata=np.array(_json(metadata)))


def save_gif(
    frames: Sequence[Tensor],
    path: Path,
    *,
    columns: int | None = None,
    zoom: int | None = None,
    milliseconds: int = 120,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an animation of grids that repeats for ever, so many milliseconds each and the last one 2 s."""
    from PIL import Image

    if not frames:
        raise ValueError("there are no frames to animate: give at least one")
    pictures = [Image.fromarray(grid(frame, columns=columns, zoom=zoom)) for frame in frames]
    # A GIF has 256 colours a frame; without dithering the still parts of the picture do not flicker.
    palettes = [p if p.mode == "L" else p.quantize(256, dither=Image.Dither.NONE) for p in pictures]
    palettes[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=palettes[1:],
        duration=[milliseconds] * (len(palettes) - 1) + [2000],
        loop=0,
        optimize=False,
        comment=_json(metadata or {}).encode(),
    )


def _json(metadata: Mapping[str, Any]) -> str:
    return json.dumps(dict(metadata), allow_nan=False)
