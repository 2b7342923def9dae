"""Decoded pictures that are too many for the memory: kept in a file that is mapped, once for a folder and a size.

The name of the file depends on names, sizes and times of the pictures and on what was done to them: it is made again
where one of these changes.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proxdm.data import images
from proxdm.errors import DataError, one_line

Pixels = NDArray[np.uint8]


def cache_folder() -> Path:
    """Return the folder of downloaded data sets: `PROXDM_DATA` if set, else `~/.cache/proxdm/data`."""
    return Path(os.environ.get("PROXDM_DATA") or "~/.cache/proxdm/data").expanduser()


def place_of(path: Path, names: Sequence[str], *what: object) -> Path:
    """Return the file of the decoded pictures of a folder or an archive."""
    digest = hashlib.sha256(repr((str(path.resolve()), what)).encode())
    for file in [path / name for name in names] if path.is_dir() else [path]:
        found = file.stat()
        digest.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return cache_folder() / "decoded" / f"{path.stem}-{digest.hexdigest()[:16]}.npy"


def is_large(shape: Sequence[int]) -> bool:
    """Return whether uint8 pictures of this shape `(n, C, H, W)` are more than memory may hold."""
    return math.prod(shape) > images.MEMORY_LIMIT


def room_on_disk(name: str, shape: Sequence[int], place: Path) -> Pixels:
    """Return an array in a file beside `place`, which :func:`settle` moves there.

    Raises:
        DataError: The disk has too little room, or the folder cannot be written.
    """
    need = math.prod(shape)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if need > (free := shutil.disk_usage(place.parent).free):
            raise DataError(
                f"{name}: {shape[0]:,} pictures of {'x'.join(map(str, shape[1:]))} need {need / 2**30:.3g} GiB in "
                f"{place.parent}, which has {free / 2**30:.3g}; make room, name another folder (PROXDM_DATA), or take "
                "a smaller size= or a limit="
            )
        print(f"{name}: {need / 2**30:.3g} GiB, more than memory may hold; decoded once to {place}", file=sys.stderr)
        return np.lib.format.open_memmap(_part(place), "w+", np.uint8, tuple(shape))
    except OSError as error:
        raise DataError(f"{name}: {place.parent} cannot be written ({one_line(error)}); set PROXDM_DATA") from error


@contextmanager
def discarding(place: Path | None) -> Iterator[None]:
    """Remove at the end what :func:`room_on_disk` has made and :func:`settle` has not moved to its place."""
    try:
        yield
    finally:
        if place is not None:
            _part(place).unlink(missing_ok=True)


def settle(store: Pixels, place: Path) -> Pixels:
    """Return the array of :func:`room_on_disk`, whole and mapped from its place."""
    getattr(store, "flush")()  # noqa: B009 (a memmap has it)
    _part(place).replace(place)
    return mapped(place)


def mapped(place: Path) -> Pixels:
    """Return a file of decoded pictures, which never changes."""
    return np.load(place, mmap_mode="c")  # type: ignore[no-any-return]


def _part(place: Path) -> Path:
    return place.with_suffix(f".part-{os.getpid()}")
