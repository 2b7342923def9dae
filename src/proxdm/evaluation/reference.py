"""What samples are compared with: a file of statistics, or a data set."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proxdm.config import Config
from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig, load_data, test_part
from proxdm.metrics.features import FeatureExtractor, sides
from proxdm.metrics.registry import METRICS
from proxdm.metrics.statistics import ReferenceStatistics, StatisticsError, compute_statistics
from proxdm.models import LearnedModel
from proxdm.operators import label_indices
from proxdm.runtime.files import sha256_of

_ROWS = 4096
_SUBSET_SEED = 0


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics, or images of which statistics, features and pixels are taken when they are first asked for."""

    name: str  # What it is, for people
    digest: str  # SHA-256 of the file of statistics, or of the images
    extractor: FeatureExtractor  # What makes the features
    given: ReferenceStatistics | None = None  # Statistics of a file
    images: ImageData | None = None  # Images of a data set, unless there are statistics
    cache: Path | None = None  # Folder in which the statistics of a data set are kept
    forced: str | None = None  # What makes the statistics unfit for the features, if they are used all the same
    progress: bool = False  # Show progress bars where there is a terminal
    held: ImageData | None = None  # Images that nothing was fitted to, for metrics that need them
    _features: dict[int | None, Tensor] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def statistics(self) -> ReferenceStatistics:
        """Moments of the features of all images, from the cache if they are there."""
        if self.given is not None:
            return self.given
        features = self.extractor
        mark = hashlib.sha256(f"{features.weights} {features.resize}".encode()).hexdigest()[:8]
        name = f"reference-{features.name}-{mark}-{self.digest[:16]}.npz"
        path = None if self.cache is None or features.name == "pixels" else self.cache / name
        if path is not None and path.is_file():
            return replace(ReferenceStatistics.load(path), source="")
        found = compute_statistics(self._data, features, progress=self.progress)
        if path is not None:
            found.save(path, overwrite=True)
        return found

    @property
    def count(self) -> int | None:
        """Number of images; None where statistics do not say it."""
        return self.statistics.n if self.images is None else len(self.images)

    def pixels(self, most: int | None) -> Tensor:
        """Return the images, uint8 or in [-1, 1]: all, or `most` of them, chosen at random and always the same."""
        return self._data.images[self._chosen(most)]

    def pair(self, most: int | None) -> tuple[Tensor, Tensor]:
        """Return as many images as are held, at most `most`, and those, uint8 or in [-1, 1]."""
        assert self.held is not None, "no held images were asked for when the reference was opened"
        count = min(len(self.held), len(self._data), most or len(self.held))
        return self.pixels(count), self.held.images[_chosen(len(self.held), count)]

    def features(self, most: int | None) -> Tensor:
        """Return the features `(n, D)` of the images that :meth:`pixels` returns."""
        if most not in self._features:
            chosen = self._chosen(most)
            parts = [self.extractor(self._data.images[part]).cpu() for part in torch.split(chosen, 64)]
            self._features[most] = torch.cat(parts)
        return self._features[most]

    def labelled(self, most: int | None) -> tuple[Tensor, Tensor]:
        """Return the features of :meth:`features`, and the classes of these images."""
        assert self._data.labels is not None, "no labels were asked for when the reference was opened"
        return self.features(most), self._data.labels[self._chosen(most)]

    def stamp(self) -> dict[str, Any]:
        """Return what identifies it, in plain types."""
        kind, of = ("statistics", self.statistics) if self.images is None else ("images", self.images)
        dataset = of.dataset if isinstance(of, ReferenceStatistics) else of.name
        known = {"name": self.name, "sha256": self.digest, "kind": kind, "dataset": dataset, "split": of.split}
        return {**known, "n": self.count, **({} if self.forced is None else {"forced": self.forced})}

    @property
    def _data(self) -> ImageData:
        if self.images is None:
            raise StatisticsError(f"{self.name} holds statistics only, no images; name the data set instead")
        return self.images

    def _chosen(self, most: int | None) -> Tensor:
        return _chosen(len(self._data), most)


def _chosen(count: int, most: int | None) -> Tensor:
    """Return `most` of so many numbers, always the same ones, in their order."""
    if most is None or count <= most:
        return torch.arange(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_SUBSET_SEED))
    return order[:most].sort().values


def open_reference(
    spec: str | Path | DataConfig | None,
    model: LearnedModel,
    extractor: FeatureExtractor,
    metrics: Sequence[str],
    *,
    classes: Sequence[str] = (),
    held: str | Path | None = None,
    cache: Path | None = None,
    force: bool = False,
    progress: bool = False,
) -> Reference:
    """Return the reference that `spec` names, checked against the features and the metrics.

    `held` names images that nothing was fitted to; None is the other part of a known data set. Of chosen `classes` the
    reference is their images alone.
    """
    if isinstance(spec, str | Path) and is_statistics(Path(spec)):
        statistics = ReferenceStatistics.load(Path(spec))
        if classes:
            raise StatisticsError(f"{spec} holds statistics of all classes; name images, for those of {classes[0]}")
        forced = check_statistics(statistics, extractor, metrics, force=force)
        return Reference(str(spec), sha256_of(Path(spec)), extractor, given=statistics, forced=forced)
    config = _data_config(spec, model)
    needing = [name for name in metrics if METRICS[name].against == "classes"]
    if needing and (not model.classes or classes):
        why = "the model knows none" if not model.classes else "one would be all there is"
        raise StatisticsError(f"{needing[0]} is counted over all classes of a model, and {why}; leave it out")
    if needing or classes:
        config = replace(config, labels=True)
    chosen = label_indices(model.classes, classes, range(len(classes))) if classes else None
    if chosen is not None and len(model.classes) not in chosen:  # `any` is among all of them
        config = replace(config, classes=tuple(model.classes[number] for number in chosen))
    data = load_data(config)
    if needing and data.classes != model.classes:
        raise StatisticsError(
            f"the reference {data.name} has the classes {', '.join(data.classes)}, and the model knows "
            f"{', '.join(model.classes)}; name a reference of the same"
        )
    if data.latent:
        raise StatisticsError(f"the reference {data.name} holds latents, which have no pixels; name the images instead")
    if data.shape != extractor.shape:
        raise StatisticsError(
            f"the reference {config.name} has images {sides(data.shape)}, those of the model are "
            f"{sides(extractor.shape)} (channels x height x width); name another, or change it with size and grey"
        )
    needs = [name for name in metrics if METRICS[name].against == "held"]
    kept = load_data(_held_config(config, held, needs[0])) if needs else None
    if kept is not None and kept.shape != data.shape:
        raise StatisticsError(f"the held images have sides {sides(kept.shape)}, the reference {sides(data.shape)}")
    digest = _digest(data.images)
    return Reference(config.name, digest, extractor, images=data, cache=cache, progress=progress, held=kept)


def _held_config(config: DataConfig, held: str | Path | None, metric: str) -> DataConfig:
    if held is not None:
        return replace(config, name=str(held), limit=None)
    if (part := test_part(config)) is not None:
        return part
    raise StatisticsError(
        f"{metric} needs images that nothing was fitted to, and {config.name} ({config.split}) has no such part; name "
        "some with --held"
    )


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


def is_statistics(path: Path) -> bool:
    """Return whether a file is an archive of statistics, or a missing or broken one, rather than of images."""
    if path.suffix != ".npz" or path.is_dir():
        return False
    try:
        return bool({"mu.npy", "sigma.npy", "m.npy", "s.npy"} & set(zipfile.ZipFile(path).namelist()))
    except (OSError, zipfile.BadZipFile):
        return True  # reading it says what is wrong


def check_statistics(
    statistics: ReferenceStatistics, extractor: FeatureExtractor, metrics: Sequence[str], *, force: bool
) -> str | None:
    """Return what was forced, if anything."""
    for name in metrics:
        if METRICS[name].against != "moments":
            raise StatisticsError(
                f"{name} needs images of the reference, and {statistics.source} holds statistics only; name the data "
                "set or folder that they were made of"
            )
    zero = np.zeros(extractor.dim)
    sigma = np.broadcast_to(zero, (extractor.dim, extractor.dim))
    expected = ReferenceStatistics(zero, sigma, **extractor.stamp, source="the samples")
    return expected.check_compatible(statistics, force=force)


def _digest(images: Tensor) -> str:
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    for part in torch.split(images, _ROWS):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()
