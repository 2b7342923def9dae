"""Pictures in a folder, a tar or a zip archive: found recursively, sorted by name, decoded to uint8 in memory.

A picture is turned upright (EXIF), flattened on white where it is transparent, converted to RGB or grey (ITU-R 601
luma), and, where a size is asked for, cut to its central square and resized with the Lanczos filter.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from proxdm.data.errors import DataError
from proxdm.data.images import ImageData, check_memory
from proxdm.errors import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
"""File names that are taken for pictures, in any case."""

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Archives that are read without unpacking them."""

_READ_ERRORS = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
_DECODE_ERRORS = (OSError, EOFError, SyntaxError, ValueError, KeyError, IndexError, struct.error, zlib.error)
_CHUNK = 128


@dataclass(frozen=True)
class Pictures:
    """The encoded pictures of a folder or an archive."""

    source: Path  # The folder or archive
    names: tuple[str, ...]  # Names relative to it, sorted; their order is the order of the data set
    places: tuple[int, ...]  # Where each stands in an archive: in the order of these, reading is quick
    content: Callable[[str], bytes]  # Returns the bytes of the picture of a name

    def decoded(
        self, order: Sequence[int], *, size: int | None = None, grey: bool = False
    ) -> Iterator[tuple[int, NDArray[np.uint8] | DataError]]:
        """Yield (index, picture `(C, H, W)` or the error that names it) in the given order, decoding in threads."""

        def read(index: int) -> bytes | DataError:
            try:
                return self.content(self.names[index])
            except _READ_ERRORS as error:
                return self._broken(index, error)

        def work(index: int, content: bytes | DataError) -> NDArray[np.uint8] | DataError:
            try:
                return content if isinstance(content, DataError) else decode(content, size=size, grey=grey)
            except DataError as error:
                return self._broken(index, error)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(order), _CHUNK):  # archives are read in this thread alone
                chunk = order[start : start + _CHUNK]
                yield from zip(chunk, pool.map(work, chunk, map(read, chunk)), strict=True)

    def _broken(self, index: int, error: Exception) -> DataError:
        return DataError(
            f"{self.source}: cannot decode {self.names[index]} ({one_line(error)}); repair or remove it, or leave "
            "such pictures out with skip_broken"
        )


def is_archive(path: Path) -> bool:
    """Return whether the name is that of an archive which can be read (:data:`ARCHIVES`)."""
    return path.name.lower().endswith(ARCHIVES)


@contextmanager
def open_pictures(path: Path) -> Iterator[Pictures]:
    """Open a folder or an archive of pictures; use it in a `with` statement.

    Hidden files and folders (names that start with a dot, `__MACOSX`) are left out, links to folders not followed.
    """
    with ExitStack() as stack:
        content: Callable[[str], bytes]
        try:
            if path.is_dir():
                files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
                places = {file.relative_to(path).as_posix(): 0 for file in files}
                content = lambda name: (path / name).read_bytes()  # noqa: E731
            elif not path.is_file():
                raise DataError(f"there is no folder or archive {path}")
            elif path.suffix.lower() == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(path))
                places = {info.filename: info.header_offset for info in archive.infolist() if not info.is_dir()}
                content = archive.read
            elif is_archive(path):
                tar = stack.enter_context(tarfile.open(path))
                members = {member.name: member for member in tar.getmembers() if member.isfile()}
                places = {name: member.offset_data for name, member in members.items()}
                content = lambda name: tar.extractfile(members[name]).read()  # type: ignore[union-attr]  # noqa: E731
            else:
                raise DataError(f"{path} is neither a folder nor an archive ({', '.join(ARCHIVES)})")
        except _READ_ERRORS as error:
            raise DataError(f"{path} is a broken archive ({one_line(error)}); make or download it again") from error
        names = tuple(sorted(name for name in places if name.lower().endswith(EXTENSIONS) and not _hidden(name)))
        if not names:
            raise DataError(f"there are no pictures under {path}; looked for {', '.join(EXTENSIONS)} in it and below")
        yield Pictures(path, names, tuple(places[name] for name in names), content)


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name.removeprefix("./")).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def decode(content: bytes, *, size: int | None = None, grey: bool = False) -> NDArray[np.uint8]:
    """Return one picture as uint8 `(C, H, W)`, C = 1 for grey and else 3."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
        return fit(_plain(upright, "L" if grey else "RGB"), size)
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        raise DataError("not a picture of a known format" if unknown else one_line(error)) from error


def fit(picture: Image, size: int | None) -> NDArray[np.uint8]:
    """Return an `L` or `RGB` picture as uint8 `(C, H, W)`, cut to its central square and resized where asked."""
    from PIL import Image

    if size is not None and picture.size != (size, size):
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    array = np.asarray(picture, dtype=np.uint8)
    return array[None].copy() if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def fit_note(size: int) -> str:
    """Return what :func:`fit` does, in words."""
    return f"central square, Lanczos to {size}x{size}"


def _plain(picture: Image, mode: str) -> Image:
    """Return the picture in 8 bits, flattened on white, as `L` or `RGB`."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them to 255
        wide = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray((wide.clip(0, 65535) // 257).astype(np.uint8))
    elif picture.mode == "F":
        raise DataError("floating-point pixels have no known range; convert it to 8 bits")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert(mode)


def read_pictures(
    path: Path, *, size: int | None = None, grey: bool = False, limit: int | None = None, skip_broken: bool = False
) -> ImageData:
    """Decode a folder or archive into memory."""
    from tqdm import tqdm

    with open_pictures(path) as pictures:
        total = min(limit or len(pictures.names), len(pictures.names))
        if size is not None:
            check_memory(str(path), (total, 1 if grey else 3, size, size))
        store: NDArray[np.uint8] | None = None
        first, broken = "", []
        order = sorted(range(total), key=lambda index: pictures.places[index])
        found = pictures.decoded(order, size=size, grey=grey)
        for index, picture in tqdm(found, f"reading {path.name}", total, disable=None, leave=False, unit="picture"):
            if isinstance(picture, DataError):
                if not skip_broken:
                    raise picture
                broken.append(index)
                continue
            if store is None:
                check_memory(str(path), (total, *picture.shape))
                store, first = np.empty((total, *picture.shape), np.uint8), pictures.names[index]
            if picture.shape != store.shape[1:]:
                raise DataError(
                    f"{path}: {pictures.names[index]} is {_wide(picture.shape)}, {first} is "
                    f"{_wide(store.shape[1:])} (width x height); give size= to cut and resize all of them"
                )
            store[index] = picture
    if store is None:
        raise DataError(f"{path}: none of the {total} pictures can be decoded")
    if broken:
        store = np.delete(store, broken, axis=0)
        warnings.warn(
            f"{path}: left out {len(broken)} broken of {total} pictures, the first is {pictures.names[min(broken)]}",
            stacklevel=2,
        )
    fitted = fit_note(size) if size else f"as stored, {_wide(store.shape[1:])}"
    note = f"{'grey' if grey else 'RGB'} uint8, {fitted}"
    return ImageData(torch.from_numpy(store), path.name, preprocessing=note, skipped=len(broken))


def _wide(shape: Sequence[int]) -> str:
    return f"{shape[2]}x{shape[1]}"
