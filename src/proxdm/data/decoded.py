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

from proxdm.data.archives import shards_of
from proxdm.data.hugging_face import is_saved_dataset
from proxdm.errors import DataError, one_line
from proxdm.runtime.files import replacing

Pixels = NDArray[np.uint8]


def cache_folder() -> Path:
    """Return the folder of downloaded data sets: `PROXDM_DATA` if set, else `~/.cache/proxdm/data`."""
    return Path(os.environ.get("PROXDM_DATA") or "~/.cache/proxdm/data").expanduser()


def place_of(path: Path, names: Sequence[str], *what: object) -> Path:
    """Return the place of the decoded pictures of a folder, an archive, shards or a saved data set."""
    digest = hashlib.sha256(repr((str(path.resolve()), what)).encode())
    if not path.is_dir():
        files = [path]
    elif is_saved_dataset(path):
        files = sorted(path.rglob("*.arrow"))
    else:
        files = shards_of(path) or [path / name for name in names]
    for file in files:
        found = file.stat()
        digest.update(f"{file}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return cache_folder() / "decoded" / f"{path.stem}-{digest.hexdigest()[:16]}.npy"


@contextmanager
def room_on_disk(name: str, shape: Sequence[int], place: Path) -> Iterator[Pixels]:
    """Give an array of this shape, which stands at `place` when the block has ended without an error."""
    need, folder = math.prod(shape), place.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise DataError(f"{name}: {folder} cannot be written ({one_line(error)}); set PROXDM_DATA") from error
    if need > free:
        raise DataError(
            f"{name}: {shape[0]:,} pictures of {'x'.join(map(str, shape[1:]))} need {need / 2**30:.3g} GiB in "
            f"{folder}, which has {free / 2**30:.3g}; make room, name another folder (PROXDM_DATA), or take "
            "a smaller size= or a limit="
        )
    print(f"{name}: {need / 2**30:.3g} GiB, more than memory may hold; decoded once to {place}", file=sys.stderr)
    with replacing(place) as part:
        store = np.lib.format.open_memmap(part, "w+", np.uint8, tuple(shape))
        yield store
        store.flush()
