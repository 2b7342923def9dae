"""What samples are compared with: a file of statistics, or a data set."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proxdm.config import Config
from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig, load_data
from proxdm.metrics.features import FeatureExtractor, collect
from proxdm.metrics.statistics import ReferenceStatistics, StatisticsError, compute_statistics
from proxdm.models import LearnedModel
from proxdm.runtime.digests import sha256_of

_ROWS = 4096
_SUBSET_SEED = 0


class Reference:
    """Statistics, or images of which statistics, features and pixels are taken when they are first asked for.

    Args:
        name: What it is, for people.
        digest: SHA-256 of the file of statistics, or of the images.
        extractor: What makes the features.
        statistics: Of a file.
        images: Of a data set.
        cache: Folder in which the statistics of a data set are kept.
        forced: What makes the statistics unfit for the features, if they are used all the same.
        progress: Show progress bars where there is a terminal.
    """

    def __init__(
        self,
        name: str,
        digest: str,
        extractor: FeatureExtractor,
        *,
        statistics: ReferenceStatistics | None = None,
        images: ImageData | None = None,
        cache: Path | None = None,
        forced: str | None = None,
        progress: bool = False,
    ) -> None:
        self.name = name
        self.digest = digest
        self._extractor = extractor
        self._statistics = statistics
        self._images = images
        self._cache = cache
        self._forced = forced
        self._progress = progress
        self._features: dict[int | None, Tensor] = {}

    @property
    def statistics(self) -> ReferenceStatistics:
        """Moments of the features of all images."""
        if self._statistics is None:
            self._statistics = self._cached()
        return self._statistics

    def pixels(self, most: int | None) -> Tensor:
        """Return the images, uint8 or in [-1, 1]: all, or `most` of them, chosen at random and always the same."""
        return self._data.images[self._chosen(most)]

    def features(self, most: int | None) -> Tensor:
        """Return the features `(n, D)` of the images that :meth:`pixels` returns."""
        if most not in self._features:
            chosen = self._chosen(most)
            batches = (self._data.images[part] for part in torch.split(chosen, 64))
            self._features[most] = collect(batches, self._extractor)
        return self._features[most]

    def used(self, most: int | None) -> int | None:
        """Return how many images a metric is taken on that takes at most so many; None if it is not known."""
        if self._images is None:
            return self.statistics.n
        return len(self._images) if most is None else min(most, len(self._images))

    def stamp(self) -> dict[str, Any]:
        """Return what identifies it, in plain types."""
        if (data := self._images) is not None:
            known = {"kind": "images", "dataset": data.name, "split": data.split, "n": len(data)}
        else:
            moments = self.statistics
            known = {"kind": "statistics", "dataset": moments.dataset, "split": moments.split, "n": moments.n}
        forced = {} if self._forced is None else {"forced": self._forced}
        return {"name": self.name, "sha256": self.digest, **known, **forced}

    @property
    def _data(self) -> ImageData:
        if self._images is None:
            raise StatisticsError(f"{self.name} holds statistics only, no images; name the data set instead")
        return self._images

    def _chosen(self, most: int | None) -> Tensor:
        count = len(self._data)
        if most is None or count <= most:
            return torch.arange(count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(_SUBSET_SEED))
        return order[:most].sort().values

    def _cached(self) -> ReferenceStatistics:
        """Return the statistics of the images, from the cache if they are there."""
        mark = hashlib.sha256(f"{self._extractor.weights} {self._extractor.resize}".encode()).hexdigest()[:8]
        name = f"reference-{self._extractor.name}-{mark}-{self.digest[:16]}.npz"
        path = None if self._cache is None or self._extractor.name == "pixels" else self._cache / name
        if path is not None and path.is_file():
            return replace(ReferenceStatistics.load(path), source="")
        found = compute_statistics(self._data, self._extractor, progress=self._progress)
        if path is not None:
            found.save(path, overwrite=True)
        return found


def open_reference(
    spec: str | Path | DataConfig | None,
    model: LearnedModel,
    extractor: FeatureExtractor,
    metrics: Sequence[str],
    *,
    cache: Path | None = None,
    force: bool = False,
    progress: bool = False,
) -> Reference:
    """Return the reference that `spec` names, checked against the features and the metrics.

    Args:
        spec: As :attr:`proxdm.evaluation.plan.EvaluationPlan.reference`.
        model: Its training data are the reference if `spec` is None.
        extractor: What makes the features, for the images of the model.
        metrics: Names of the metrics.
        cache: Folder in which the statistics of a data set are kept.
        force: Take statistics of another route, of as many features, with a warning; the reference says so.
        progress: Show progress bars where there is a terminal.

    Raises:
        StatisticsError: It is missing or broken, was made by another route than the features, has images of another
            shape than the model's, or holds no images where a metric needs them.
        DataError: The data set cannot be read.
    """
    if isinstance(spec, str | Path) and _is_statistics(Path(spec)):
        statistics = ReferenceStatistics.load(Path(spec))
        forced = _check_statistics(statistics, extractor, metrics, force=force)
        return Reference(str(spec), sha256_of(Path(spec)), extractor, statistics=statistics, forced=forced)
    if isinstance(spec, str | Path) and Path(spec).suffix == ".npz" and not Path(spec).exists():
        raise StatisticsError(f"there is no file {spec}; make it with `proxdm stats DATASET --out {spec}`")
    config = _data_config(spec, model)
    data = load_data(config)
    if data.latent:
        raise StatisticsError(f"the reference {data.name} holds latents, which have no pixels; name the images instead")
    if data.shape != extractor.shape:
        raise StatisticsError(
            f"the reference {config.name} has images {_text(data.shape)}, those of the model are "
            f"{_text(extractor.shape)} (channels x height x width); name another, or change it with size and grey"
        )
    return Reference(config.name, _digest(data.images), extractor, images=data, cache=cache, progress=progress)


def _data_config(spec: str | Path | DataConfig | None, model: LearnedModel) -> DataConfig:
    trained = model.config.data if isinstance(model.config, Config) else None
    if isinstance(spec, DataConfig):
        return spec
    if spec is None:
        if trained is None:
            raise StatisticsError("the model does not say what it was trained on; name a reference")
        if trained.values == "raw":
            raise StatisticsError("the model was trained on latents, which have no pixels; name images as reference")
        return replace(trained, flip="none")
    if trained is not None and trained.name == str(spec) and trained.values != "raw":
        return replace(trained, flip="none")
    return DataConfig(str(spec))


def _is_statistics(path: Path) -> bool:
    """Return whether a file is an archive of statistics, or a broken one, rather than of images."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return True
    return bool({"mu.npy", "sigma.npy"} & set(names))


def _check_statistics(
    statistics: ReferenceStatistics, extractor: FeatureExtractor, metrics: Sequence[str], *, force: bool
) -> str | None:
    """Return what was forced, if anything.

    Raises:
        StatisticsError: They do not fit the metrics or the features.
    """
    from proxdm.evaluation.measures import MEASURES

    for name in metrics:
        if MEASURES[name].against != "moments":
            raise StatisticsError(
                f"{name} needs images of the reference, and {statistics.source} holds statistics only; name the data "
                "set or folder that they were made of"
            )
    zero = np.zeros(extractor.dim)
    expected = ReferenceStatistics(
        zero,
        np.broadcast_to(zero, (extractor.dim, extractor.dim)),
        backend=extractor.name,
        weights=extractor.weights,
        resize=extractor.resize,
        shape=extractor.shape,
        source="the samples",
    )
    return expected.check_compatible(statistics, force=force)


def _digest(images: Tensor) -> str:
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    for part in torch.split(images, _ROWS):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
