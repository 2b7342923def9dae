"""Reference statistics: the moments of the features of a data set, in a file that says how they were made.

The file is an `.npz` with `mu` `(D,)` and `sigma` `(D, D)`, float64, which pytorch-fid reads too, and further arrays
that stamp it. A Fréchet distance means something only between moments that were made by the same route, so that
:meth:`ReferenceStatistics.check_compatible` compares the stamps first. Files of other programs carry no stamp: they are
taken on trust, with a warning.
"""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxdm._version import __version__
from proxdm.data.images import ImageData
from proxdm.errors import OutputError, ProxdmError, one_line
from proxdm.metrics.checks import Array
from proxdm.metrics.features import FeatureExtractor, Shape, sides
from proxdm.metrics.frechet import MomentAccumulator
from proxdm.runtime.files import check_new, replacing

_ROUTE = {"backend": "features", "weights": "weights", "resize": "resizing", "shape": "image shape"}


class StatisticsError(ProxdmError, ValueError):
    """Statistics are broken, or were made by another route than those they are compared with."""


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Mean and covariance of features, and how they were made; None stands for what is not known.

    `backend` is the name of the features, `weights` the SHA-256 of their network, `resize` says in words what was done
    to images of the shape (C, H, W) before it, `preprocessing` what was done when they were read. `version` is that of
    this package, `source` the file they come from, which is not stored.
    """

    mu: Array
    sigma: Array
    n: int | None = None
    backend: str | None = None
    weights: str | None = None
    resize: str | None = None
    shape: Shape | None = None
    dataset: str | None = None
    split: str | None = None
    preprocessing: str | None = None
    version: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Check shapes and values."""
        if self.mu.ndim != 1 or not self.mu.size or self.sigma.shape != (self.mu.size, self.mu.size):
            raise StatisticsError(
                f"{self.label}: mu and sigma must be (D,) and (D, D), they are {self.mu.shape} and {self.sigma.shape}"
            )
        if not (np.isfinite(self.mu).all() and np.isfinite(self.sigma).all()):
            raise StatisticsError(f"{self.label}: mu or sigma contain NaN or infinite numbers; compute them again")
        if self.n is not None and self.n < 2:
            raise StatisticsError(f"{self.label}: n = {self.n}, but a covariance needs 2 images at least")

    @property
    def dim(self) -> int:
        """D, the number of features."""
        return self.mu.size

    @property
    def label(self) -> str:
        """What to call them in messages: the file, or the data set and its part."""
        return self.source or " ".join(filter(None, (self.dataset, self.split))) or "these statistics"

    def check_compatible(self, other: ReferenceStatistics, *, force: bool = False) -> str | None:
        """Check that both were made by the same route; with `force`, warn and return what differs instead."""
        if self.dim != other.dim:
            what = [
                f"{one.dim} features ({_brief(one.backend)} of images {_brief(one.shape)})" for one in (self, other)
            ]
            raise StatisticsError(f"{self.label} and {other.label} cannot be compared, {' against '.join(what)}")
        for blank, known in ((self, other), (other, self)):
            if blank.backend is None and known.backend is not None:
                guess = f"{known.backend} features, as {known.label}"
                warnings.warn(f"{blank.label} does not say how it was made; taken to be {guess}", stacklevel=2)
        differing = [
            f"{words} {_brief(mine)} and {_brief(its)}"
            for name, words in _ROUTE.items()
            if None not in (mine := getattr(self, name), its := getattr(other, name)) and mine != its
        ]
        if not differing:
            return None
        message = f"{self.label} and {other.label} were made by different routes: {', '.join(differing)}"
        if not force:
            raise StatisticsError(f"{message}; compute one again, or force (--force) a number that means little")
        warnings.warn(f"{message}; their distance means little", stacklevel=2)
        return message

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the `.npz` file, whole or not at all, where :func:`check_target` allows it; make folders above it."""
        check_target(path, ".npz", overwrite=overwrite)
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items() if value is not None}
        del arrays["source"]
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> ReferenceStatistics:
        """Return the statistics of an `.npz` file of this package, of pytorch-fid or of the paper's authors."""
        if not path.is_file():
            raise StatisticsError(f"there is no file {path}; make it with `proxdm stats DATASET --out {path}`")
        try:
            if not zipfile.is_zipfile(path):  # NumPy would take it for a pickle, and advise to load that
                raise zipfile.BadZipFile("it is no .npz archive, or a part of one")
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            arrays |= {
                name: arrays[old] for name, old in (("mu", "m"), ("sigma", "s")) if old in arrays and name not in arrays
            }
            stamp = {one.name: _value(one.name, arrays[one.name]) for one in fields(cls) if one.name in arrays}
        except Exception as error:  # zip, zlib and NumPy raise whatever comes to their mind
            raise StatisticsError(f"{path} cannot be read as statistics ({one_line(error)}); get it again") from error
        if not {"mu", "sigma"} <= stamp.keys():
            raise StatisticsError(
                f"{path} lacks mu or sigma (its arrays: {', '.join(arrays)}); statistics are an .npz with mu and sigma"
            )
        return cls(**{**stamp, "source": str(path)})


def compute_statistics(
    data: ImageData, extractor: FeatureExtractor, *, batch_size: int = 64, progress: bool = False
) -> ReferenceStatistics:
    """Return the stamped statistics of two images or more, in memory `O(D^2)` beside the images themselves.

    The result does not depend on `batch_size` beyond rounding.
    """
    from tqdm.auto import tqdm

    if data.latent:
        raise StatisticsError(f"{data.name} holds latents, which have no pixels; decode them to images first")
    if batch_size < 1:
        raise StatisticsError(f"batch_size = {batch_size} must be at least 1")
    if len(data) < 2:
        raise StatisticsError(f"{data.name} has {len(data)} image; a covariance needs 2 at least")
    moments, hidden = MomentAccumulator(extractor.dim), None if progress else True
    for batch in tqdm(torch.split(data.images, batch_size), f"{extractor.name} features", disable=hidden, unit="batch"):
        moments.add(extractor(batch))
    made: dict[str, Any] = {
        "dataset": data.name,
        "split": data.split,
        "preprocessing": data.preprocessing,
        "version": __version__,
    }
    mu, sigma = moments.mean.cpu().numpy(), moments.cov.cpu().numpy()
    return ReferenceStatistics(mu, sigma, len(data), **made, **extractor.stamp)


def check_target(path: Path, suffix: str, *, overwrite: bool) -> None:
    """Check that a result may be written to the file `path`, before the work of computing it (OutputError)."""
    if path.suffix != suffix:
        raise OutputError(f"results are kept in {suffix} files, got {path}; name it {path.with_suffix(suffix)}")
    check_new(path, overwrite=overwrite)


def _value(name: str, array: NDArray[Any]) -> Any:
    """Return what a stored array holds."""
    if name in ("mu", "sigma"):
        return np.asarray(array, dtype=np.float64)
    if name == "shape":
        return tuple(map(int, array))
    return int(array) if name == "n" else str(array)


def _brief(value: str | Shape | None) -> str:
    """Return a value of the stamp for messages: hashes are cut short."""
    if isinstance(value, tuple):
        return sides(value)
    return "unknown" if value is None else f"{value[:8]}..." if len(value) == 64 else value or "none"
