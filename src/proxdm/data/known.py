"""The data sets known by name. A new one is a function that reads it and one line in :data:`KNOWN`.

Each is read from a folder that one may name, else from the cache (the environment variable `PROXDM_DATA`, or
`~/.cache/proxdm/data`), where :func:`download` puts it; nothing is downloaded unasked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from proxdm.data.errors import DataError, unknown_name
from proxdm.data.idx import read_idx
from proxdm.data.images import ImageData
from proxdm.data.latents import read_latents
from proxdm.errors import one_line

Split = Literal["train", "test"]

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` keeps the four files."""

_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}

_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR_ROW = 1 + 3 * 32 * 32
_CIFAR_BATCHES: dict[Split, list[str]] = {
    "train": [f"data_batch_{i}" for i in range(1, 6)],
    "test": ["test_batch"],
}


@dataclass(frozen=True)
class KnownData:
    """How to get a data set.

    Attributes:
        read: Returns a split, given the folder to look in (None: the usual ones).
        download: Puts the whole set into a folder; None where there is nothing to download.
        origin: Where the set comes from if it is not downloaded.
        pad: Pixels of black border on every side that belong to the usual form of the set (MNIST: 28 + 2 * 2 = 32).
    """

    read: Callable[[Path | None, Split], ImageData]
    download: Callable[[Path], None] | None = None
    origin: str = ""
    pad: int = 0


def cache_folder() -> Path:
    """Return the folder of downloaded data sets: `PROXDM_DATA` if set, else `~/.cache/proxdm/data`."""
    named = os.environ.get("PROXDM_DATA")
    return Path(named).expanduser() if named else Path("~/.cache/proxdm/data").expanduser()


def download(name: str, root: Path | None = None) -> Path:
    """Download a known data set; what is there already and intact is kept.

    Args:
        name: Name of the data set.
        root: Folder to put it in; None is :func:`cache_folder`.

    Returns:
        The folder, to be given as `root` to the reader.

    Raises:
        DataError: There is no such data set, it needs no download, or no server could be reached.
    """
    if name not in KNOWN:
        raise unknown_name("data set", name, KNOWN)
    fetch = KNOWN[name].download
    if fetch is None:
        raise DataError(f"{name} is not downloaded: {KNOWN[name].origin}")
    folder = root or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fetch(folder)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{name} cannot be downloaded ({one_line(error)}); fetch it elsewhere and put it in {folder}"
        ) from error
    return folder


def digits(root: Path | None, split: Split) -> ImageData:
    """Return scikit-learn's 1797 digits of 8x8 pixels: values 0 to 16, scaled by `round(255 v / 16)` to uint8.

    Part of the test set of Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI, 1998).

    Raises:
        DataError: `split` is `test`: there is one split only.
    """
    if split != "train":
        raise DataError(f"digits has no split {split!r}: all its 1797 images are split=train")
    values = digits_table()[:, :-1].reshape(-1, 8, 8)
    pixels = np.rint(values * (255.0 / 16.0)).astype(np.uint8)
    return ImageData(torch.from_numpy(pixels[:, None]), "digits", split, "grey uint8, round(255 v / 16) of 0 to 16")


def digits_table() -> NDArray[np.float64]:
    """Return the rows of scikit-learn's digits, shape (1797, 65): 64 values from 0 to 16, then the label.

    The file is read where scikit-learn keeps it: importing `sklearn.datasets` takes longer than many an evaluation.
    """
    package = find_spec("sklearn")
    folder = Path(package.origin).parent if package and package.origin else Path()
    file = folder / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.float64)


def mnist(root: Path | None, split: Split) -> ImageData:
    """Return MNIST (LeCun et al. 1998): 60,000 or 10,000 grey digits of 28x28.

    Raises:
        DataError: The IDX file is missing (the message says where it was looked for) or broken.
    """
    return _idx_images("mnist", root, split)


def fashion_mnist(root: Path | None, split: Split) -> ImageData:
    """Return Fashion-MNIST (Xiao et al. 2017): 60,000 or 10,000 grey pictures of clothes of 28x28.

    Debian's package `dataset-fashion-mnist` is found as well.

    Raises:
        DataError: The IDX file is missing (the message says where it was looked for) or broken.
    """
    return _idx_images("fashion-mnist", root, split)


def cifar10(root: Path | None, split: Split) -> ImageData:
    """Return CIFAR-10 (Krizhevsky 2009): 50,000 or 10,000 colour pictures of 32x32.

    The binary version is read as it is, the Python version by torchvision, which checks its MD5 sums first.

    Raises:
        DataError: Neither version is complete under the folder, or a file has the wrong length.
    """
    return ImageData(torch.from_numpy(cifar_arrays(root, split)[0]), "cifar10", split, "RGB uint8")


def cifar_arrays(root: Path | None, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pixels `(n, 3, 32, 32)` and labels `(n,)` of CIFAR-10; raises as :func:`cifar10` does."""
    base = root or cache_folder()
    names = _CIFAR_BATCHES[split]
    for folder in (base / "cifar-10-batches-bin", base):
        if all((folder / f"{name}.bin").is_file() for name in names):
            rows = np.concatenate([_cifar_batch(folder / f"{name}.bin") for name in names])
            return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].copy()
    if (base / "cifar-10-batches-py").is_dir():
        return _cifar_python(base, split)
    raise _missing(
        "cifar10", split, [base / "cifar-10-batches-bin", base / "cifar-10-batches-py", base], f"{names[0]}.bin"
    )


def celebahq_latents(root: Path | None, split: Split) -> ImageData:
    """Return the latents of CelebA-HQ (Karras et al. 2018) from `celebahq-latents.npy`.

    The file is made once from a folder of the pictures by :func:`proxdm.data.latents.encode_pictures`.

    Raises:
        DataError: The file is not there or broken, or `split` is `test`.
    """
    path = (root or cache_folder()) / "celebahq-latents.npy"
    if split != "train":
        raise DataError(f"celebahq-latents has no split {split!r}: all of it is split=train")
    if not path.is_file():
        raise DataError(
            f"there is no {path}; encode a folder of CelebA-HQ pictures into it with "
            "proxdm.data.latents.encode_pictures(folder, file, load_vae(), size=256)"
        )
    return read_latents(path)


def idx_file(name: str, root: Path | None, split: Split, kind: Literal["images", "labels"] = "images") -> Path:
    """Return the IDX file of images or labels of `mnist` or `fashion-mnist`, compressed or not.

    Raises:
        DataError: It is missing; the message says where it was looked for.
    """
    base, torchvision_name = root or cache_folder(), _TORCHVISION[name]
    folders = [base, base / torchvision_name / "raw", base / torchvision_name, base / name]
    if root is None and name == "fashion-mnist":
        folders.append(DEBIAN_FASHION_MNIST)
    prefix, rank = "train" if split == "train" else "t10k", "idx3" if kind == "images" else "idx1"
    for folder in folders:
        for stem in (f"{prefix}-{kind}-{rank}-ubyte", f"{prefix}-{kind}.{rank}-ubyte"):
            for path in (folder / stem, folder / f"{stem}.gz"):
                if path.is_file():
                    return path
    raise _missing(name, split, folders, f"{prefix}-{kind}-{rank}-ubyte[.gz]")


def _idx_images(name: str, root: Path | None, split: Split) -> ImageData:
    path = idx_file(name, root, split)
    pixels = read_idx(path)
    if pixels.ndim != 3:
        raise DataError(f"{path} has {pixels.ndim} dimensions, images have 3; is it the labels file?")
    return ImageData(torch.from_numpy(pixels[:, None]), name, split, "grey uint8")


def _missing(name: str, split: Split, folders: Sequence[Path], file: str) -> DataError:
    return DataError(
        f"{name} ({split}) is not here: looked for {file} in {', '.join(map(str, folders))}; run "
        f"`proxdm download datasets {name}`, or name the folder that holds it (root, or the variable PROXDM_DATA)"
    )


def _cifar_batch(path: Path) -> NDArray[np.uint8]:
    """Return one binary batch `(n, 3073)`: rows of a label and 3 planes of 32x32 bytes."""
    rows = np.fromfile(path, np.uint8)
    if rows.size == 0 or rows.size % _CIFAR_ROW:
        raise DataError(
            f"{path} has {rows.size} bytes, not a multiple of {_CIFAR_ROW}; delete it and download it again"
        )
    return rows.reshape(-1, _CIFAR_ROW)


def _cifar_python(base: Path, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(str(base), train=split == "train")
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{base / 'cifar-10-batches-py'} is incomplete or changed ({one_line(error)}); delete it and download it "
            "again"
        ) from error
    pixels = np.ascontiguousarray(np.asarray(data.data, dtype=np.uint8).transpose(0, 3, 1, 2))
    return pixels, np.asarray(data.targets, dtype=np.uint8)


def _fetch_mnist(folder: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(str(folder), download=True)


def _fetch_fashion_mnist(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(folder), download=True)


def _fetch_cifar10(folder: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    batches = [folder / "cifar-10-batches-bin" / f"{name}.bin" for split in _CIFAR_BATCHES.values() for name in split]
    if not all(path.is_file() and path.stat().st_size == 10_000 * _CIFAR_ROW for path in batches):
        download_and_extract_archive(_CIFAR_URL, str(folder), md5=_CIFAR_MD5, remove_finished=True)


KNOWN: dict[str, KnownData] = {
    "digits": KnownData(digits, origin="it is part of scikit-learn"),
    "mnist": KnownData(mnist, _fetch_mnist, pad=2),
    "fashion-mnist": KnownData(fashion_mnist, _fetch_fashion_mnist, pad=2),
    "cifar10": KnownData(cifar10, _fetch_cifar10),
    "celebahq-latents": KnownData(
        celebahq_latents, origin="encode a folder of CelebA-HQ with proxdm.data.latents.encode_pictures"
    ),
}
"""Every data set known by name."""
