"""Data sets known by name: :data:`DATASETS` owns what is said of each, how it is read, labelled and downloaded.

Each is read from a folder that one may name, else from the cache (the environment variable `PROXDM_DATA`, or
`~/.cache/proxdm/data`), where :func:`download` puts it; nothing is downloaded unasked. An own set is one entry, in a
module that is named with `--import`:

    DATASETS.add("ring", KnownData("A circle", lambda root, split: points))       # float (n, *), or uint8 (n, C, H, W)
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from proxdm.data import datasaurus
from proxdm.data.decoded import cache_folder as cache_folder
from proxdm.data.images import ImageData
from proxdm.data.latents import read_latents
from proxdm.errors import DataError, one_line, unknown_name
from proxdm.runtime.registry import Registry

Split = Literal["train", "test"]

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` keeps the four files."""

_CIFAR_ROW = 1 + 3 * 32 * 32
_CIFAR_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


@dataclass(frozen=True)
class KnownData:
    """A data set with a name."""

    title: str  # What it is, with its source, in one line.
    # Returns a split, given the folder to look in (None: the usual ones): :class:`ImageData`, a tensor or an array as
    # :func:`proxdm.data.load.load_data` takes them.
    read: Callable[[Path | None, Split], ImageData | Tensor | NDArray[np.generic]]
    # Returns the classes of a split, whole numbers `(n,)`; None where there are none.
    labels: Callable[[Path | None, Split], Tensor | NDArray[np.integer]] | None = None
    # Puts the whole set into a folder; None where there is nothing to download.
    download: Callable[[Path], object] | None = None
    origin: str = "it has no download"  # Where the set comes from if it is not downloaded.
    splits: tuple[Split, ...] = ("train", "test")  # Its splits.
    # Pixels of black border on every side that belong to the usual form of the set (MNIST: 28 + 2 * 2 = 32).
    pad: int = 0
    classes: tuple[str, ...] = ()  # Names of the classes, where they are more than numbers.


DATASETS: Registry[KnownData] = Registry("data set")
"""Every data set known by name."""


def find_dataset(name: str, split: Split) -> KnownData:
    """Return a known data set that has a split."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if split not in DATASETS[name].splits:
        raise DataError(f"{name} has no split {split!r}: all of it is split={DATASETS[name].splits[0]}")
    return DATASETS[name]


def download(name: str, root: Path | None = None) -> Path:
    """Download a known data set; what is there already and intact is kept."""
    known = find_dataset(name, "train")
    if known.download is None:
        raise DataError(f"{name} is not downloaded: {known.origin}")
    folder = root or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        known.download(folder)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name} cannot be downloaded ({one_line(error)}); fetch it elsewhere and put it in {folder}"
        ) from error
    return folder


def _missing(name: str, split: Split, folders: Sequence[Path], file: str) -> DataError:
    return DataError(
        f"{name} ({split}) is not here: looked for {file} in {', '.join(map(str, folders))}; run "
        f"`proxdm download datasets {name}`, or name the folder that holds it (root, or the variable PROXDM_DATA)"
    )


def _digits(root: Path | None, split: Split) -> ImageData:
    from sklearn.datasets import load_digits

    pixels = np.rint(load_digits().images[:, None] * (255.0 / 16.0)).astype(np.uint8)
    return ImageData(torch.from_numpy(pixels), "digits", split, "grey uint8, round(255 v / 16) of 0 to 16")


def _digits_labels(root: Path | None, split: Split) -> NDArray[np.int64]:
    from sklearn.datasets import load_digits

    return load_digits().target  # type: ignore[no-any-return]


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes (Y. LeCun's format), compressed with gzip or not.

    Bytes 0 and 1 are zero, byte 2 is the type (8: unsigned byte), byte 3 the number of dimensions, then one big-endian
    32-bit size per dimension, then the values, last dimension fastest.
    """
    content, start = path.read_bytes(), 4 + 4 * dimensions
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a broken gzip file ({one_line(error)}); delete it and download it again") from error
    if content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimensions (it starts with "
            f"{content[:4].hex(' ') or 'nothing'}, not 00 00 08 {dimensions:02x}); get the right file"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start].ljust(start - 4, b"\0"))
    if (size := math.prod(shape)) != len(content) - start:
        raise DataError(
            f"{path} should hold {size} bytes of shape {'x'.join(map(str, shape))} by its header, but holds "
            f"{len(content) - start}; delete it and download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _find_idx(name: str, torchvision_name: str, kind: str, root: Path | None, split: Split) -> NDArray[np.uint8]:
    base = root or cache_folder()
    folders = [base, base / torchvision_name / "raw", base / torchvision_name, base / name]
    if root is None and name == "fashion-mnist":
        folders.append(DEBIAN_FASHION_MNIST)
    dimensions = 3 if kind == "images" else 1
    stem = f"{'train' if split == 'train' else 't10k'}-{kind}-idx{dimensions}-ubyte"
    names = [f"{form}{ending}" for form in (stem, stem.replace("-idx", ".idx")) for ending in ("", ".gz")]
    for path in (folder / file for folder in folders for file in names):
        if path.is_file():
            return read_idx(path, dimensions)
    raise _missing(name, split, folders, f"{stem}[.gz]")


def _add_idx(name: str, torchvision_name: str, title: str, classes: tuple[str, ...] = ()) -> None:
    def read(root: Path | None, split: Split) -> ImageData:
        pixels = torch.from_numpy(_find_idx(name, torchvision_name, "images", root, split)[:, None])
        return ImageData(pixels, name, split, "grey uint8")

    labels = partial(_find_idx, name, torchvision_name, "labels")
    DATASETS.add(name, KnownData(title, read, labels, partial(_fetch, torchvision_name), pad=2, classes=classes))


def _fetch(torchvision_name: str, folder: Path) -> None:
    import torchvision.datasets

    getattr(torchvision.datasets, torchvision_name)(str(folder), download=True)


def _cifar(root: Path | None, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pixels `(n, 3, 32, 32)` and labels `(n,)`, of the binary or of the Python version (by its MD5 sums)."""
    base = root or cache_folder()
    names = _CIFAR_BATCHES[split]
    binary, python = base / "cifar-10-batches-bin", base / "cifar-10-batches-py"
    for folder in (binary, base):
        paths = [folder / f"{name}.bin" for name in names]
        if not all(path.is_file() for path in paths):
            continue
        for path in paths:
            if (size := path.stat().st_size) == 0 or size % _CIFAR_ROW:
                raise DataError(
                    f"{path} has {size} bytes, not a multiple of {_CIFAR_ROW}; remove it, then download the set"
                )
        rows = np.concatenate([np.fromfile(path, np.uint8) for path in paths]).reshape(-1, _CIFAR_ROW)
        return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]
    if not python.is_dir():
        raise _missing("cifar10", split, [binary, python, base], f"{names[0]}.bin")
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(str(base), train=split == "train")
    except (RuntimeError, OSError) as error:
        raise DataError(f"{python} is incomplete or changed ({one_line(error)}); download it again") from error
    return np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)), np.asarray(data.targets, dtype=np.uint8)


def _celebahq_latents(root: Path | None, split: Split) -> ImageData:
    path = (root or cache_folder()) / "celebahq-latents.npy"
    if not path.is_file():
        raise DataError(f"there is no {path}; {DATASETS['celebahq-latents'].origin} into it")
    return read_latents(path)


def _datasaurus(name: str, root: Path | None, split: Split) -> ImageData:
    points = torch.from_numpy(datasaurus.load(name)).float()
    return ImageData(points, f"datasaurus-{name}", split, "points of the plane, (p - 50) / 50")


DATASETS.add(
    "digits",
    KnownData(
        "scikit-learn's 1797 grey digits of 8x8 (Alpaydin and Kaynak, UCI, 1998)",
        _digits,
        _digits_labels,
        origin="it is part of scikit-learn",
        splits=("train",),
    ),
)
_add_idx("mnist", "MNIST", "70,000 grey digits of 28x28, padded to 32x32 (LeCun et al. 1998)")
_add_idx(
    "fashion-mnist",
    "FashionMNIST",
    "70,000 grey pictures of clothes of 28x28, padded (Xiao et al. 2017)",
    ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"),
)
DATASETS.add(
    "cifar10",
    KnownData(
        "60,000 colour pictures of 32x32 (Krizhevsky 2009)",
        lambda root, split: ImageData(torch.from_numpy(_cifar(root, split)[0]), "cifar10", split, "RGB uint8"),
        labels=lambda root, split: _cifar(root, split)[1],
        download=partial(_fetch, "CIFAR10"),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
)
DATASETS.add(
    "celebahq-latents",
    KnownData(
        "latents of CelebA-HQ (Karras et al. 2018), encoded once by an autoencoder",
        _celebahq_latents,
        origin="encode a folder of CelebA-HQ pictures with proxdm.data.latents.encode_pictures(..., size=256)",
        splits=("train",),
    ),
)
for _name in datasaurus.NAMES:
    DATASETS.add(
        f"datasaurus-{_name}",
        KnownData(
            f"142 points in the plane: {_name} (Matejka and Fitzmaurice 2017)",
            partial(_datasaurus, _name),
            origin="it is part of proxdm",
            splits=("train",),
        ),
    )
