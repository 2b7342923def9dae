"""Data sets of Hugging Face on disk, as `save_to_disk` writes them: a column of pictures, perhaps one of classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proxdm.data.images import ImageData, check_memory
from proxdm.data.pictures import decode
from proxdm.errors import DataError, one_line

STATE = "state.json"
"""In the folder of a data set; that of several splits has a folder of each."""


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is one that `save_to_disk` has written."""
    return (path / "dataset_dict.json").is_file() or (
        (path / STATE).is_file() and (path / "dataset_info.json").is_file()
    )


def read_saved_dataset(
    path: Path, split: str, *, size: int | None = None, grey: bool = False, limit: int | None = None
) -> ImageData:
    """Return the pictures of a saved data set, with labels where it has a column of classes.

    Raises:
        DataError: `datasets` is not installed, there is no such split or no column of pictures, or one is broken.
    """
    try:
        from datasets import ClassLabel, Image, load_from_disk
    except ImportError as error:
        raise DataError(f"{path} is a data set of Hugging Face, which needs a package: pip install datasets") from error
    try:
        found: Any = load_from_disk(str(path))
    except Exception as error:  # of a damaged one it raises whatever comes to its mind
        raise DataError(f"{path} cannot be read as a data set ({one_line(error)})") from error
    if hasattr(found, "keys"):
        if split not in found:
            raise DataError(f"{path} has no split {split!r}; it has {', '.join(found)}")
        found = found[split]
    column = next((name for name, kind in found.features.items() if isinstance(kind, Image)), None)
    if column is None:
        raise DataError(f"{path} has no column of pictures; its columns are {', '.join(found.features)}")
    classes = next((name for name, kind in found.features.items() if isinstance(kind, ClassLabel)), None)
    rows = found.cast_column(column, Image(decode=False))
    count = min(limit or len(rows), len(rows))
    store, first = None, ()
    for number in range(count):
        cell = rows[number][column]
        content = cell["bytes"] or Path(cell["path"]).read_bytes()
        try:
            picture = decode(content, size=size, grey=grey)
        except DataError as error:
            raise DataError(f"{path}: cannot decode picture {number} ({error}); take it out") from error
        if store is None:
            check_memory(str(path), (count, *picture.shape))
            store, first = np.empty((count, *picture.shape), np.uint8), picture.shape
        if picture.shape != first:
            raise DataError(f"{path}: picture {number} has shape {picture.shape}, the first {first}; give a size")
        store[number] = picture
    if store is None:
        raise DataError(f"{path} holds no pictures")
    note = "data set of Hugging Face, RGB" if store.shape[1] == 3 else "data set of Hugging Face, grey"
    data = ImageData(torch.from_numpy(store), path.name, preprocessing=note)
    if classes is None:
        return data
    labels = torch.tensor(rows[classes][:count])
    return replace(data, labels=labels, classes=tuple(found.features[classes].names))
