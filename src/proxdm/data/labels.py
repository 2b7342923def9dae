"""Labels of images: the classes that known data sets come with, or the sub-folders of a folder of pictures.

They are for models of classes, and for the classifiers whose features measure samples
(:mod:`proxdm.metrics.classifier`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import torch
from torch import Tensor

from proxdm.data.errors import unknown_name
from proxdm.data.known import DATASETS, Split, find_dataset
from proxdm.data.pictures import is_archive, open_pictures
from proxdm.errors import DataError


class Described(Protocol):
    """What labels need of a :class:`proxdm.data.load.DataConfig`."""

    @property
    def name(self) -> str:
        """A known data set, or a path."""

    @property
    def root(self) -> str | None:
        """Folder that holds it."""

    @property
    def split(self) -> Split:
        """Part of a known data set."""

    @property
    def limit(self) -> int | None:
        """Number of images that are taken."""

    @property
    def skip_broken(self) -> bool:
        """Whether broken pictures are left out."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes of a set of images."""

    values: Tensor  # int64 `(n,)`, from 0 to one below the number of classes
    names: tuple[str, ...]  # Names of the classes, by their number


def labelled() -> list[str]:
    """Return the names of the known data sets that have labels."""
    return [name for name, entry in DATASETS.items() if entry.labels is not None]


def has_labels(name: str) -> bool:
    """Return whether a known data set has labels, or a folder sub-folders that may be classes."""
    path = Path(name)
    if name in list(DATASETS):
        return name in labelled()
    return path.is_dir() and sum(one.is_dir() and not one.name.startswith(".") for one in path.iterdir()) > 1


def load_labels(config: Described) -> Labels:
    """Return the labels of the images that :func:`proxdm.data.load.load_data` returns for the same configuration.

    Folders and archives of pictures have one sub-folder a class, as in torchvision's ImageFolder, in sorted order;
    pictures deeper in it belong to it. Folders that hold nothing but one folder are gone through.
    """
    root = None if config.root is None else Path(config.root).expanduser()
    if config.name in DATASETS:
        known = find_dataset(config.name, config.split)
        read = known.labels
        if read is None:
            raise DataError(f"{config.name} has no labels; data sets with labels are {', '.join(labelled())}")
        values = read(root, config.split)
        names = known.classes or tuple(map(str, range(int(values.max()) + 1)))
    else:
        values, names = _of_folders(config, (root or Path()) / Path(config.name).expanduser())
    return Labels(values[: config.limit], names)


def _of_folders(config: Described, path: Path) -> tuple[Tensor, tuple[str, ...]]:
    if not path.exists():
        remedy = f", or the path of a folder or archive of pictures, one sub-folder a class (there is no {path})"
        raise unknown_name("data set with labels", config.name, labelled(), remedy)
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
    names = tuple(sorted({parts[0] for parts in folders}))
    return torch.tensor([names.index(parts[0]) for parts in folders]), names
