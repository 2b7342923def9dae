"""Reference statistics: the moments of the features of a data set, in a file that says how they were made.

The file is an `.npz` with `mu` `(D,)` and `sigma` `(D, D)`, float64, which pytorch-fid reads too, and further arrays
that stamp it. A Fréchet distance means something only between moments that were made by the same route, so that
:meth:`ReferenceStatistics.distance` compares the stamps first. Files of other programs carry no stamp: they are taken
on trust, with a warning.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from proxdm._version import __version__
from proxdm.data.images import ImageData
from proxdm.errors import OutputError, ProxdmError, one_line
from proxdm.metrics.features import FeatureExtractor, Shape, sides
from proxdm.metrics.frechet import Array, MomentAccumulator, frechet_distance
from proxdm.runtime.files import replacing

AnyArray = NDArray[Any]

_ROUTE = {"backend": "features", "weights": "weights", "resize": "resizing", "shape": "image shape"}


class StatisticsError(ProxdmError, ValueError):
    """Statistics are broken, or were made by another route than those they are compared with."""


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """Mean and covariance of features, and how they were made; None stands for what is not known.

    Attributes:
        mu: Mean `(D,)`, float64.
        sigma: Covariance `(D, D)` with the divisor `n - 1`, float64.
        n: Number of images.
        backend: Name of the features: `inception`, `pixels`, or that of a module file.
        weights: SHA-256 of the network's weights, empty where it has none.
        resize: What was done to the size of the images before the network, in words.
        shape: (C, H, W) of the images before that.
        dataset: What the images are.
        split: Which part of it.
        preprocessing: What was done to the images when they were read, in words.
        version: Version of this package that made them.
        source: The file they were read from; not stored.
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

    @classmethod
    def of(
        cls,
        moments: MomentAccumulator,
        extractor: FeatureExtractor,
        dataset: str,
        split: str = "",
        preprocessing: str = "",
    ) -> ReferenceStatistics:
        """Return moments with the stamp of the extractor that made the features.

        Args:
            moments: Of at least two images.
            extractor: What made the features.
            dataset: What the images are; `samples` for generated ones.
            split: Which part of it.
            preprocessing: What was done to them.

        Raises:
            ValueError: There are fewer than two images, or the dimensions differ.
        """
        if moments.dim != extractor.dim:
            raise StatisticsError(
                f"moments of dimension {moments.dim} are not of the {extractor.dim} {extractor.name} features"
            )
        mean, cov = moments.mean.cpu().numpy(), moments.cov.cpu().numpy()
        made = {**extractor.stamp, "preprocessing": preprocessing, "version": __version__}
        return cls(mean, cov, n=moments.count, dataset=dataset, split=split, **made)

    def check_compatible(self, other: ReferenceStatistics, *, force: bool = False) -> str | None:
        """Check that both were made by the same route.

        Args:
            other: The statistics to compare with.
            force: Warn instead of raising; dimensions must agree all the same.

        Returns:
            What differs, where that was forced, else None.

        Raises:
            StatisticsError: Features, weights, resizing, image shape or dimension differ.
        """
        if self.dim != other.dim:
            what = (
                f"{one.dim} features ({_brief(one.backend)} of images {_brief(one.shape)})" for one in (self, other)
            )
            raise StatisticsError(
                f"{self.label} and {other.label} cannot be compared, {' against '.join(what)}; compute one of them "
                "again with the features of the other"
            )
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
            raise StatisticsError(
                f"{message}; compute one of them again, or force (--force) a number that means little"
            )
        warnings.warn(f"{message}; their distance means little", stacklevel=2)
        return message

    def distance(self, other: ReferenceStatistics, *, force: bool = False) -> float:
        """Return the Fréchet distance to other statistics (the FID, for Inception features).

        Raises:
            StatisticsError: As of :meth:`check_compatible`.
            ValueError: A covariance is none.
        """
        self.check_compatible(other, force=force)
        return frechet_distance(self.mu, self.sigma, other.mu, other.sigma)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the `.npz` file under a temporary name, then rename it; folders above it are made.

        Raises:
            OutputError: There is a file already, or the name does not end in `.npz`.
        """
        check_target(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = {name: getattr(self, name) for name in _stored(self)}
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in stored.items() if value is not None}
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> ReferenceStatistics:
        """Return the statistics of an `.npz` file of this package, of pytorch-fid or of the paper's authors.

        Raises:
            StatisticsError: There is no such file, it is broken or pickled, lacks `mu` or `sigma`, or holds values
                of wrong shape or NaN.
        """
        if not path.is_file():
            raise StatisticsError(f"there is no file {path}; make it with `proxdm stats DATASET --out {path}`")
        try:
            if not zipfile.is_zipfile(path):  # NumPy would take it for a pickle, and advise to load that
                raise zipfile.BadZipFile("it is no .npz archive, or a part of one")
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except Exception as error:  # zip, zlib and NumPy raise whatever comes to their mind
            raise StatisticsError(
                f"{path} cannot be read as statistics ({one_line(error)}); make or download it again"
            ) from error
        if missing := [name for name in ("mu", "sigma") if name not in arrays]:
            found = ", ".join(arrays) or "none"
            raise StatisticsError(f"{path} lacks {' and '.join(missing)} (its arrays: {found}); it is another file")
        try:
            stamp = {name: _RESTORE.get(name, str)(arrays[name]) for name in _stored(cls) if name in arrays}
        except (ValueError, TypeError) as error:
            raise StatisticsError(f"{path}: an array has the wrong type ({one_line(error)}); make it again") from error
        return cls(**stamp, source=str(path))


def compute_statistics(
    data: ImageData, extractor: FeatureExtractor, *, batch_size: int = 64, progress: bool = False
) -> ReferenceStatistics:
    """Return the stamped statistics of a data set, in memory `O(D^2)` beside the images themselves.

    Args:
        data: At least two images.
        extractor: Made for images of their shape (:func:`proxdm.metrics.features.load_extractor`).
        batch_size: Images at a time; the result does not depend on it beyond rounding.
        progress: Show a progress bar where there is a terminal.

    Raises:
        StatisticsError: The data are latents, which have no pixels, or `batch_size` is below 1.
        FeatureError: The images do not fit the extractor.
        ValueError: There are fewer than two images.
    """
    from tqdm import tqdm

    if data.latent:
        raise StatisticsError(f"{data.name} holds latents, which have no pixels; decode them to images first")
    if batch_size < 1:
        raise StatisticsError(f"batch_size = {batch_size} must be at least 1")
    if len(data) < 2:
        raise StatisticsError(f"{data.name} has {len(data)} image; a covariance needs 2 at least")
    moments = MomentAccumulator(extractor.dim)
    hidden = None if progress else True
    with tqdm(total=len(data), unit="img", desc=f"{extractor.name} features", disable=hidden) as bar:
        for batch in torch.split(data.images, batch_size):
            moments.add(extractor(batch))
            bar.update(len(batch))
    known = {"dataset": data.name, "split": data.split, "preprocessing": data.preprocessing}
    return ReferenceStatistics.of(moments, extractor, **known)


def check_target(path: Path, *, overwrite: bool, suffix: str = ".npz", what: str = "statistics") -> None:
    """Check that a file may be written to `path`, before the work of computing what it will hold.

    Raises:
        OutputError: The name does not end in `suffix`, it is a folder, or there is a file that may not be replaced.
    """
    if path.suffix != suffix:
        raise OutputError(f"{what} are kept in {suffix} files, got {path}; name it {path.stem or what}{suffix}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder, not a file; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already; choose another name, or replace it with --overwrite")


def _stored(statistics: ReferenceStatistics | type[ReferenceStatistics]) -> list[str]:
    """Return the names of the arrays of a file."""
    return [field.name for field in fields(statistics) if field.name != "source"]


def _moment(array: AnyArray) -> Array:
    return np.asarray(array, dtype=np.float64)


def _shape(array: AnyArray) -> Shape:
    channels, height, width = map(int, array)
    return channels, height, width


_RESTORE: dict[str, Callable[[AnyArray], Any]] = {"mu": _moment, "sigma": _moment, "n": int, "shape": _shape}
"""What makes a value of a stored array, where it is not text."""


def _brief(value: str | Shape | None) -> str:
    """Return a value of the stamp for messages: hashes are cut short."""
    if isinstance(value, tuple):
        return sides(value)
    return "unknown" if value is None else f"{value[:8]}..." if len(value) == 64 else value or "none"
