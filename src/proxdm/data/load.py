"""One call from any source to samples, and to their classes: known sets, folders, archives, arrays, tensors, `Dataset`.

For what a :class:`DataConfig` describes the order of the steps is fixed: read, take the first `limit`, grey, resize,
pad. Flips are no part of it: they belong to training and stand in :mod:`proxdm.data.batches`. Tensors, arrays and
datasets are taken as the model sees them: floating point `(n, *)` as it is, uint8 `(n, C, H, W)` from [0, 255].
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from proxdm.data.archives import is_archive, shards_of
from proxdm.data.arrays import Layout, Values, read_array
from proxdm.data.hugging_face import is_saved_dataset
from proxdm.data.images import ImageData, check_memory
from proxdm.data.known import DATASETS, Split, find_dataset
from proxdm.data.latents import read_latents, read_stamp
from proxdm.data.pictures import fit, fit_note, open_pictures, read_pictures
from proxdm.errors import DataError, check_choices, did_you_mean, unknown_name

Flip = Literal["none", "random", "frozen"]
"""Horizontal flips in training: none; afresh at every draw; or decided once per image, as the paper's code does."""


@dataclass(frozen=True)
class DataConfig:
    """What to train on or to compare with."""

    # A known data set (:data:`proxdm.data.known.DATASETS`), or the path of a folder, a tar or zip archive of pictures,
    # or an `.npy` or `.npz` file. A known name wins; write `./mnist` for a folder.
    name: str
    # Folder that holds the data set; None looks in `PROXDM_DATA` or `~/.cache/proxdm/data`. For a path, the folder it
    # is relative to.
    root: str | None = None
    split: Split = "train"  # `train` or `test`, of a known data set.
    # Height and width of the result: the picture is cut and resized to what the padding leaves of it. None leaves the
    # pictures as large as they are.
    size: int | None = None
    # Pixels of black border on every side; None is the usual padding of the data set (2 for MNIST and Fashion-MNIST,
    # which makes 32x32, else 0).
    pad: int | None = None
    grey: bool = False  # One channel instead of three.
    limit: int | None = None  # Take the first `limit` images only.
    flip: Flip = "none"  # Horizontal flips in training.
    # Transforms of torchvision in training, such as `RandomAffine(degrees=10)`: :mod:`proxdm.data.batches`.
    augment: tuple[str, ...] = ()
    skip_broken: bool = False  # Leave out broken pictures of a folder with a warning, instead of stopping.
    values: Values = "auto"  # Range of a floating-point array (:data:`proxdm.data.arrays.Values`).
    layout: Layout = "auto"  # Place of the channels in an array of four dimensions.
    # Whether samples come with their classes: those of a known data set, or the sub-folders of a folder of pictures.
    labels: bool = False
    classes: tuple[str, ...] = ()  # Take only the samples of these classes, by name; needs `labels`.

    def __post_init__(self) -> None:
        """Check every value that does not need the data."""
        check_choices(self, "", DataError)
        for key, least in {"size": 1, "pad": 0, "limit": 1}.items():
            value = getattr(self, key)
            if value is not None and (value != int(value) or value < least):
                raise DataError(f"{key} = {value} must be a whole number of at least {least}")
        if self.classes and not self.labels:
            raise DataError(f"classes = {', '.join(self.classes)} are chosen by their labels: set labels as well")


Source = DataConfig | ImageData | Tensor | NDArray[Any] | Dataset[Any] | str | Path
"""What :func:`load_data` takes: a description, a name or path, or the samples themselves."""


def test_part(config: DataConfig) -> DataConfig | None:
    """Return the test part of the known data set that a configuration takes the training part of; None of others."""
    if config.name not in list(DATASETS) or config.split != "train" or "test" not in DATASETS[config.name].splits:
        return None
    return replace(config, split="test", limit=None, flip="none", augment=())


def load_data(source: Source) -> ImageData:
    """Return the samples of a source."""
    if isinstance(source, ImageData):
        return source
    if isinstance(source, Tensor | np.ndarray):
        return _from_values(source, "tensor" if isinstance(source, Tensor) else "array")
    if isinstance(source, Dataset):
        return _from_dataset(source)
    config = source if isinstance(source, DataConfig) else DataConfig(str(source))
    known = find_dataset(config.name, config.split) if config.name in DATASETS else None
    pad = config.pad if config.pad is not None else known.pad if known is not None else 0
    inner = None if config.size is None else config.size - 2 * pad
    if inner is not None and inner < 1:
        raise DataError(f"size = {config.size} leaves no room for a picture inside pad = {pad} on every side")
    if known is None:
        data = _from_path(config, inner)
    else:
        read = known.read(_root(config), config.split)
        data = read if isinstance(read, ImageData) else replace(_from_values(read, config.name), split=config.split)
    if config.labels:
        if data.labels is None:
            found = load_labels(config)
            data = replace(data.head(config.limit), labels=found.values, classes=found.names)
        data = data.of(config.classes) if config.classes else data
    return _padded(_redrawn(data.head(config.limit), inner, config.grey), pad)


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


def load_labels(config: DataConfig) -> Labels:
    """Return the labels of the images that :func:`load_data` returns for the same configuration.

    Folders and archives of pictures have one sub-folder a class, as in torchvision's ImageFolder, in sorted order;
    pictures deeper in it belong to it. Folders that hold nothing but one folder are gone through.
    """
    if config.name not in DATASETS:
        values, names = _of_folders(config)
    else:
        known = find_dataset(config.name, config.split)
        if known.labels is None:
            raise DataError(f"{config.name} has no labels; data sets with labels are {', '.join(labelled())}")
        values = torch.as_tensor(known.labels(_root(config), config.split)).long()
        names = known.classes or tuple(map(str, range(int(values.max()) + 1)))
    return Labels(values[: config.limit], names)


def _root(config: DataConfig) -> Path | None:
    return None if config.root is None else Path(config.root).expanduser()


def _of_folders(config: DataConfig) -> tuple[Tensor, tuple[str, ...]]:
    path = Path(config.root or "", config.name).expanduser()
    if not path.exists():
        remedy = f", or the path of a folder or archive of pictures, one sub-folder a class (there is no {path})"
        raise unknown_name("data set with labels", config.name, labelled(), remedy)
    if not path.is_dir() and not is_archive(path):
        raise DataError(f"{path} has no labels; give a folder or archive of pictures, one sub-folder a class")
    if config.skip_broken:
        raise DataError("skip_broken would part pictures from their labels; repair or remove the broken ones")
    with open_pictures(path, config.split) as pictures:
        if pictures.labels is not None:
            return pictures.labels, pictures.classes
        if path.is_dir() and shards_of(path):
            raise DataError(f"{path} has no labels: in shards a file .cls beside every picture says its class")
        folders = [PurePosixPath(name).parts[:-1] for name in pictures.names]
    while all(folders) and len({parts[0] for parts in folders}) == 1:
        folders = [parts[1:] for parts in folders]
    if not all(folders):
        bare = pictures.names[folders.index(())]
        raise DataError(f"{path} has no labels: {bare} is in no folder of a class; make one sub-folder a class")
    names = tuple(sorted({parts[0] for parts in folders}))
    return torch.tensor([names.index(parts[0]) for parts in folders]), names


def _from_values(values: Tensor | NDArray[Any], name: str) -> ImageData:
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values.detach()
    if tensor.is_floating_point():
        tensor = tensor.float()
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{name}: NaN or infinite values among the samples; remove them")
    return ImageData(tensor, name)


def _from_dataset(source: Dataset[Any]) -> ImageData:
    name = type(source).__name__
    if not isinstance(source, Sized) or len(source) == 0:
        raise DataError(f"the dataset {name} has no length, or is empty; give one with __len__ and __getitem__")
    store, labels = None, []
    for index in range(len(source)):
        item = source[index]
        if isinstance(item, tuple | list) and len(item) > 1 and isinstance(item[1], int):
            labels.append(item[1])
        sample = torch.as_tensor(item[0] if isinstance(item, tuple | list) else item)
        if store is None:
            check_memory(name, (len(source), *sample.shape), sample.element_size())
            store = torch.empty((len(source), *sample.shape), dtype=sample.dtype)
        if sample.shape != store.shape[1:]:
            shapes = f"{tuple(sample.shape)}, sample 0 {tuple(store.shape[1:])}"
            raise DataError(f"{name}: sample {index} has shape {shapes}; they must all have one shape")
        store[index] = sample
    assert store is not None
    data = _from_values(store, name)
    if len(labels) < len(data) or min(labels) < 0:
        return data
    names = getattr(source, "classes", None) or map(str, range(max(labels) + 1))
    return replace(data, labels=torch.tensor(labels), classes=tuple(map(str, names)))


def _from_path(config: DataConfig, inner: int | None) -> ImageData:
    path = Path(config.root or "", config.name).expanduser()
    if not path.exists():
        if len(Path(config.name).parts) > 1 or path.suffix:
            there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"there is no folder or file {path}{did_you_mean(path.name, there)}")
        remedy = f", or the path of a folder, archive, .npy or .npz file (there is no {path})"
        raise unknown_name("data set", config.name, DATASETS, remedy)
    if config.split != "train" and not is_saved_dataset(path):
        raise DataError(f"split = {config.split!r} is for known data sets; name the path of that split instead")
    if path.suffix.lower() == ".npy" and config.values == "auto" and read_stamp(path) is not None:
        return read_latents(path)
    if path.suffix.lower() in (".npy", ".npz"):
        return read_array(path, values=config.values, layout=config.layout)
    if path.is_dir() or is_archive(path):
        return read_pictures(
            path, split=config.split, size=inner, grey=config.grey, limit=config.limit, skip_broken=config.skip_broken
        )
    raise DataError(f"{path} is neither a folder nor an archive of pictures, nor an .npy or .npz file")


def _redrawn(data: ImageData, inner: int | None, grey: bool) -> ImageData:
    """Return the data in grey and resized, where that is asked for and not the case yet."""
    from PIL import Image

    turn = grey and data.shape[0] != 1
    size = None if data.shape[1:] == (inner, inner) else inner
    if not turn and size is None:
        return data
    if data.images.dtype != torch.uint8 or data.shape[0] not in (1, 3):
        raise DataError(
            f"{data.name}: only uint8 images of 1 or 3 channels can be resized or made grey, these are "
            f"{data.images.dtype} {data.shape}; prepare the file, or leave out size= and grey="
        )
    channels, height, width = data.shape
    shape = (len(data), 1 if turn else channels, inner or height, inner or width)
    check_memory(data.name, shape)
    out = torch.empty(shape, dtype=torch.uint8)
    for row, image in zip(out, data.images, strict=True):
        pixels = image[0] if channels == 1 else image.permute(1, 2, 0).contiguous()
        picture = Image.fromarray(pixels.numpy())
        row.copy_(torch.from_numpy(fit(picture.convert("L") if turn else picture, size)))
    notes = [data.preprocessing] + ["grey"] * turn + ([] if size is None else [fit_note(size)])
    return replace(data, images=out, preprocessing="; ".join(notes), memory_mapped=False)


def _padded(data: ImageData, pad: int) -> ImageData:
    """Return the data with `pad` black pixels on every side."""
    if pad == 0:
        return data
    if data.latent or len(data.shape) != 3:
        raise DataError(f"{data.name}: only pictures have black to pad with, these are {data.shape}; leave out pad=")
    shape = (len(data), data.shape[0], data.shape[1] + 2 * pad, data.shape[2] + 2 * pad)
    check_memory(data.name, shape, data.images.element_size())
    black = 0.0 if data.images.dtype == torch.uint8 else -1.0
    images = torch.nn.functional.pad(data.images, (pad, pad, pad, pad), value=black)
    note = f"{data.preprocessing}; padded by {pad} with black to {shape[3]}x{shape[2]}"
    return replace(data, images=images, preprocessing=note, memory_mapped=False)
