"""Labels of images: the classes that known data sets come with, or the sub-folders of a folder of pictures.

They are for the classifiers whose features measure samples (:mod:`proxdm.metrics.classifier`); no model is conditioned
on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from proxdm.data.errors import DataError, unknown_name
from proxdm.data.idx import read_idx
from proxdm.data.known import KNOWN, Split, cifar_arrays, digits_table, idx_file
from proxdm.data.load import DataConfig
from proxdm.data.pictures import is_archive, open_pictures


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes of a set of images.

    Attributes:
        values: int64 `(n,)`, from 0 to one below the number of classes.
        names: Names of the classes, by their number.
    """

    values: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)


def load_labels(config: DataConfig | str) -> Labels:
    """Return the labels of the images that :func:`proxdm.data.load.load_data` returns for the same configuration.

    Folders and archives of pictures have one sub-folder a class, as in torchvision's ImageFolder, in sorted order;
    pictures deeper in it belong to it. Folders that hold nothing but one folder are gone through.

    Args:
        config: The description, or only its name or path.

    Raises:
        DataError: The data set or its labels are not there or broken, or it has none.
    """
    config = DataConfig(config) if isinstance(config, str) else config
    root = None if config.root is None else Path(config.root).expanduser()
    if config.name in LABELS:
        values = LABELS[config.name](root, config.split)
        names: Sequence[str] = [str(number) for number in range(int(values.max()) + 1)]
    elif config.name in KNOWN:
        raise DataError(f"{config.name} has no labels; data sets with labels are {', '.join(LABELS)}")
    else:
        values, names = _of_folders(config, (root or Path()) / Path(config.name).expanduser())
    return Labels(values[: config.limit], tuple(names))


def _of_folders(config: DataConfig, path: Path) -> tuple[Tensor, list[str]]:
    if not path.exists():
        remedy = f", or the path of a folder or archive of pictures, one sub-folder a class (there is no {path})"
        raise unknown_name("data set with labels", config.name, LABELS, remedy)
    if not path.is_dir() and not is_archive(path):
        raise DataError(f"{path} has no labels; give a folder or archive of pictures, one sub-folder a class")
    if config.skip_broken:
        raise DataError("skip_broken would part pictures from their labels; repair or remove the broken ones")
    with open_pictures(path) as pictures:
        folders = [PurePosixPath(name).parts[:-1] for name in pictures.names]
    while all(folders) and len({parts[0] for parts in folders}) == 1:
        folders = [parts[1:] for parts in folders]
    if not all(folders):
        bare = pictures.names[folders.index(())]
        raise DataError(f"{path} has no labels: {bare} is in no folder of a class; make one sub-folder a class")
    names = sorted({parts[0] for parts in folders})
    number = {name: index for index, name in enumerate(names)}
    return torch.tensor([number[parts[0]] for parts in folders]), names


def _digits(root: Path | None, split: Split) -> Tensor:
    if split != "train":
        raise DataError(f"digits has no split {split!r}: all its 1797 images are split=train")
    return torch.from_numpy(digits_table()[:, -1].astype(np.int64))


def _mnist(root: Path | None, split: Split) -> Tensor:
    return _idx_labels("mnist", root, split)


def _fashion_mnist(root: Path | None, split: Split) -> Tensor:
    return _idx_labels("fashion-mnist", root, split)


def _cifar10(root: Path | None, split: Split) -> Tensor:
    return torch.from_numpy(cifar_arrays(root, split)[1].astype(np.int64))


def _idx_labels(name: str, root: Path | None, split: Split) -> Tensor:
    path = idx_file(name, root, split, "labels")
    values = read_idx(path)
    if values.ndim != 1:
        raise DataError(f"{path} has {values.ndim} dimensions, labels have 1; is it the images file?")
    return torch.from_numpy(values.astype(np.int64))


LABELS: dict[str, Callable[[Path | None, Split], Tensor]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar10,
}
"""How to read the labels of every known data set that has some."""
