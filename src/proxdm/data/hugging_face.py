"""Data sets of Hugging Face on disk, as `save_to_disk` writes them: a column of pictures, perhaps one of classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxdm.errors import DataError, one_line


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is one that `save_to_disk` has written: a data set, or one of several splits."""
    there = {name for name in ("dataset_dict.json", "state.json", "dataset_info.json") if (path / name).is_file()}
    return "dataset_dict.json" in there or len(there) == 2


def open_saved_dataset(
    path: Path, split: str
) -> tuple[tuple[str, ...], Callable[[str], bytes], Tensor | None, tuple[str, ...]]:
    """Return names for the pictures of a saved data set, what gives their bytes, labels, and names of the classes."""
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
    rows = found.cast_column(column, Image(decode=False))

    def content(name: str) -> bytes:
        cell = rows[int(name.removeprefix("picture "))][column]
        return cell["bytes"] or Path(cell["path"]).read_bytes()

    names = tuple(f"picture {number}" for number in range(len(rows)))
    kind = next((name for name, kind in found.features.items() if isinstance(kind, ClassLabel)), None)
    if kind is None:
        return names, content, None, ()
    return names, content, torch.tensor(rows[kind]), tuple(found.features[kind].names)
