"""Pictures in a folder, a tar or a zip archive: found recursively, sorted by name, decoded to uint8 in memory.

A folder of tar archives and no pictures is one set, as webdataset writes it: a file `.cls` beside every picture is its
class. Those of a saved data set of Hugging Face stay in its order.

A picture is turned upright (EXIF), flattened on white where it is transparent, converted to RGB or grey (ITU-R 601
luma), and, where a size is asked for, cut to its central square and resized with the Lanczos filter.
"""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from proxdm.data import images
from proxdm.data.archives import ARCHIVES, is_archive, open_archive, open_shards, shards_of
from proxdm.data.decoded import Pixels, place_of, room_on_disk
from proxdm.data.hugging_face import is_saved_dataset, open_saved_dataset
from proxdm.data.images import ImageData, check_memory
from proxdm.errors import DataError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".avif", ".bmp", ".gif", ".ppm", ".pgm", ".tif",
              ".tiff")  # fmt: skip
"""File names that are taken for pictures, in any case."""

RECORD = "samples.json"
"""What a folder of samples says of how they were made."""

LONGEST_TEXT = 2**26
"""Bytes of a text in a PNG, unpacked, up to which the picture is read."""

_DECODE_ERRORS = (OSError, EOFError, SyntaxError, ValueError, KeyError, IndexError, struct.error, zlib.error)
_CHUNK = 128


@dataclass(frozen=True)
class Pictures:
    """The encoded pictures of a folder or an archive."""

    source: Path  # The folder or archive
    names: tuple[str, ...]  # Names relative to it, sorted; their order is the order of the data set
    places: Sequence[int]  # Where each stands in an archive: in the order of these, reading is quick
    content: Callable[[str], bytes]  # Returns the bytes of the picture of a name
    others: tuple[str, ...] = ()  # Names of the files that are passed over: no pictures by their names
    labels: Tensor | None = None  # Class of every picture, int64 `(n,)`, where the source says it
    classes: tuple[str, ...] = ()  # Names of these classes
    pages: list[int] = field(default_factory=list)  # Of every picture of several that was decoded, their number
    depths: list[int] = field(default_factory=list)  # Of every 16-bit picture that was decoded, its greatest value

    def remarks(self) -> list[str]:
        """Return a line on everything that was passed over or may have been read wrongly, so far."""
        lines = []
        if self.others:
            kinds = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in self.others).most_common(4)
            named = ", ".join(f"{kind} {count}" for kind, count in kinds)
            lines.append(f"{self.source}: left out {len(self.others)} other files ({named})")
        if self.pages:
            lines.append(
                f"{self.source}: of {len(self.pages)} pictures with several pages or frames the first was taken"
            )
        if self.depths and (top := max(self.depths)) < 2**15:
            lines.append(
                f"{self.source}: {len(self.depths)} pictures have 16 bits, but no value above {top}, and are nearly "
                "black; if they use fewer bits, scale them to 16 or to 8"
            )
        return lines

    def decoded(
        self, order: Sequence[int], *, size: int | None = None, grey: bool = False
    ) -> Iterator[tuple[int, Pixels | DataError]]:
        """Yield (index, picture `(C, H, W)` or the error that names it) in the given order, decoding in threads."""

        def read(index: int) -> bytes | DataError:
            try:
                return self.content(self.names[index])
            except Exception as error:  # as :func:`open_archive`
                return DataError(one_line(error))

        def work(index: int, content: bytes | DataError) -> Pixels | DataError:
            try:
                if isinstance(content, DataError):
                    raise content
                return decode(content, size=size, grey=grey, seen=self)
            except DataError as error:
                return DataError(
                    f"{self.source}: cannot decode {self.names[index]} ({error}); repair or remove it, or leave "
                    "such pictures out with skip_broken (--skip-broken, in training --data.skip-broken)"
                )

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(order), _CHUNK):  # archives are read in this thread alone
                chunk = order[start : start + _CHUNK]
                yield from zip(chunk, pool.map(work, chunk, map(read, chunk)), strict=True)


@contextmanager
def open_pictures(path: Path, split: str = "train") -> Iterator[Pictures]:
    """Open a folder or an archive of pictures, or a split of a saved data set; use it in a `with` statement.

    Hidden files and folders (names that start with a dot, `__MACOSX`) are left out, links followed, each folder once.
    """
    if is_saved_dataset(path):
        rows, read, labels, classes = open_saved_dataset(path, split)
        if not rows:
            raise DataError(f"{path} holds no pictures")
        yield Pictures(path, rows, range(len(rows)), read, labels=labels, classes=classes)
        return
    with ExitStack() as stack:
        content: Callable[[str], bytes]
        if path.is_dir() and (shards := shards_of(path)):
            stored, content = open_shards(shards, stack)
        elif path.is_dir():
            stored = sorted(file.relative_to(path).as_posix() for file in _files(path))
            content = lambda name: (path / name).read_bytes()  # noqa: E731
        elif not path.is_file():
            raise DataError(f"there is no folder or archive {path}")
        elif is_archive(path):
            stored, content = open_archive(path, stack)
        else:
            raise DataError(f"{path} is neither a folder nor an archive ({', '.join(ARCHIVES)})")
        places = {name: place for place, name in enumerate(stored)}
        names = tuple(sorted(name for name in places if name.lower().endswith(EXTENSIONS) and not _hidden(name)))
        if not names:
            raise DataError(f"there are no pictures under {path}; looked for {', '.join(EXTENSIONS)} in it and below")
        known = {name for name in places if _hidden(name) or PurePosixPath(name).name == RECORD}
        labels, classes = None, tuple[str, ...]()
        if (told := {_class_file(name) for name in names}) <= set(places):
            labels, classes = _told(path, names, content)
            known |= told
        others = tuple(set(places) - set(names) - known)
        yield Pictures(path, names, tuple(places[name] for name in names), content, others, labels, classes)


def _class_file(name: str) -> str:
    """Return the name of the file with the class of a picture, where webdataset wrote both."""
    return f"{name.rpartition('.')[0]}.cls"


def _told(path: Path, names: Sequence[str], content: Callable[[str], bytes]) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels and names of the classes, which stand in a file `.cls` beside every picture."""
    try:
        said = [content(_class_file(name)).decode().strip() for name in names]
    except Exception as error:  # as :func:`open_archive`
        raise DataError(f"{path}: a class beside a picture cannot be read ({one_line(error)})") from error
    classes = sorted(set(said), key=lambda text: (int(text) if text.isdecimal() else -1, text))
    number = {text: index for index, text in enumerate(classes)}
    return torch.tensor([number[text] for text in said]), tuple(classes)


def _files(path: Path) -> Iterator[Path]:
    """Yield the files below a folder, in linked folders too, but every real folder once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name.removeprefix("./")).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def decode(content: bytes, *, size: int | None = None, grey: bool = False, seen: Pictures | None = None) -> Pixels:
    """Return one picture as uint8 `(C, H, W)`, C = 1 for grey and else 3; `seen` notes pages and depths."""
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = LONGEST_TEXT
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            if seen is not None:
                if (pages := getattr(opened, "n_frames", 1)) > 1:
                    seen.pages.append(pages)
                if opened.mode.startswith("I"):
                    seen.depths.append(int(np.asarray(opened).max()))
            upright = _upright(opened)
        return fit(_plain(upright, "L" if grey else "RGB"), size)
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        raise DataError("not a picture of a known format" if unknown else one_line(error)) from error


def _upright(picture: Image) -> Image:
    """Return the picture turned as its EXIF says; of malformed EXIF what can be read, and it costs no picture."""
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    with suppress(Exception):  # reading EXIF raises whatever comes to Pillow's mind; ImageOps would write it anew, too
        if (turn := turns.get(int(picture.getexif().get(0x0112, 1)))) is not None:
            return picture.transpose(turn)
    return picture.copy()


def fit(picture: Image, size: int | None) -> Pixels:
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
    path: Path,
    *,
    split: str = "train",
    size: int | None = None,
    grey: bool = False,
    limit: int | None = None,
    skip_broken: bool = False,
) -> ImageData:
    """Decode what :func:`open_pictures` opens into memory, or, where that is too little, once into a file."""
    broken: list[int] = []
    with open_pictures(path, split) as pictures:
        total = min(limit or len(pictures.names), len(pictures.names))
        shape = None if size is None else (total, 1 if grey else 3, size, size)
        if large := shape is not None and math.prod(shape) > images.MEMORY_LIMIT:
            place = place_of(path, pictures.names[:total], split, size, grey)
            if not place.is_file():
                with room_on_disk(str(path), shape, place) as room:
                    _, broken = _filled(pictures, total, size, grey, skip_broken, room)
                    if broken:
                        raise DataError(
                            f"{path}: {len(broken)} pictures are broken, the first is {pictures.names[min(broken)]}; "
                            "of a set this large they must be removed"
                        )
            store: Pixels = np.load(place, mmap_mode="c")
        else:
            store, broken = _filled(pictures, total, size, grey, skip_broken)
        lines, labels = pictures.remarks(), None if pictures.labels is None else pictures.labels[:total]
    if broken:
        store = np.delete(store, broken, axis=0)
        labels = None if labels is None else torch.from_numpy(np.delete(labels.numpy(), broken))
        first = pictures.names[min(broken)]
        lines.append(f"{path}: left out {len(broken)} broken of {total} pictures, the first is {first}")
    for line in lines:
        warnings.warn(line, stacklevel=2)
    fitted = fit_note(size) if size else f"as stored, {_wide(store.shape[1:])}"
    return ImageData(
        torch.from_numpy(store),
        path.name,
        preprocessing=f"{'grey' if grey else 'RGB'} uint8, {fitted}",
        memory_mapped=large,
        labels=labels,
        classes=pictures.classes,
    )


def _filled(
    pictures: Pictures, total: int, size: int | None, grey: bool, skip_broken: bool, store: Pixels | None = None
) -> tuple[Pixels, list[int]]:
    """Return the first pictures, in `store` if there is one, and the numbers of those that are broken."""
    from tqdm.auto import tqdm

    path, first, broken = pictures.source, "", []
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
            store = np.empty((total, *picture.shape), np.uint8)
        first = first or pictures.names[index]
        if picture.shape != store.shape[1:]:
            raise DataError(
                f"{path}: {pictures.names[index]} is {_wide(picture.shape)}, {first} is "
                f"{_wide(store.shape[1:])} (width x height); cut and resize all of them "
                "with size= (--size, in training --data.size)"
            )
        store[index] = picture
    if store is None or not first:
        raise DataError(f"{path}: none of the {total} pictures can be decoded")
    return store, broken


def _wide(shape: Sequence[int]) -> str:
    return f"{shape[2]}x{shape[1]}"
