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
from proxdm.evaluation.plan import EvaluationPlan
from proxdm.metrics.features import FeatureExtractor, sides
from proxdm.metrics.registry import METRICS, Metric
from proxdm.metrics.statistics import ReferenceStatistics, StatisticsError, compute_statistics
from proxdm.models import LearnedModel
from proxdm.operators import label_indices
from proxdm.pixels import to_model_range
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

    def features(self, most: int | None) -> Tensor:
        """Return the features `(n, D)` of all images, or of `most` of them, chosen at random and always the same."""
        if most not in self._features:
            chosen = _chosen(len(self._data), most)
            parts = [self.extractor(self._data.images[part]).cpu() for part in torch.split(chosen, 64)]
            self._features[most] = torch.cat(parts)
        return self._features[most]

    def taken(self, metric: Metric) -> Any:
        """Return what a metric compares samples with."""
        if metric.against == "moments":
            return self.statistics.mu, self.statistics.sigma
        if metric.against == "classes":
            return self.features(None), self._data.labels
        if metric.against == "held":
            assert self.held is not None, "no held images were asked for when the reference was opened"
            count = min(len(self.held), len(self._data), metric.most or len(self.held))
            return tuple(to_model_range(one.images[_chosen(len(one), count)]) for one in (self._data, self.held))
        most = metric.most if metric.against == "some" else None
        if metric.keeps == "features":
            return self.features(most)
        return to_model_range(self._data.images[_chosen(len(self._data), most)])

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


def _chosen(count: int, most: int | None) -> Tensor:
    """Return `most` of so many numbers, always the same ones, in their order."""
    if most is None or count <= most:
        return torch.arange(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_SUBSET_SEED))
    return order[:most].sort().values


def open_reference(
    plan: EvaluationPlan, model: LearnedModel, extractor: FeatureExtractor, *, cache: Path | None, progress: bool
) -> Reference:
    """Return the reference of a plan, checked against features, metrics and classes; of chosen ones, their images."""
    spec, metrics, classes = plan.compared_with, plan.metrics, plan.classes
    if isinstance(spec, str | Path) and is_statistics(Path(spec)):
        statistics = ReferenceStatistics.load(Path(spec))
        if classes:
            raise StatisticsError(f"{spec} holds statistics of all classes; name images, for those of {classes[0]}")
        forced = check_statistics(statistics, extractor, metrics, force=plan.force)
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
    kept = load_data(_held_config(config, plan.held, needs[0])) if needs else None
    if kept is not None and kept.shape != data.shape:
        raise StatisticsError(f"the held images have sides {sides(kept.shape)}, the reference {sides(data.shape)}")
    digest = _digest(data.images)
    return Reference(config.name, digest, extractor, images=data, cache=cache, progress=progress, held=kept)


def _held_config(config: DataConfig, held: str | None, metric: str) -> DataConfig:
    """Return where the images are that nothing was fitted to: what was named, or the other part of a known data set."""
    if held is not None:
        return replace(config, name=held, limit=None)
    if (part := test_part(config)) is not None:
        return part
    raise StatisticsError(
        f"{metric} needs images that nothing was fitted to, and {config.name} ({config.split}) has no such part; name "
        "some with --held"
    )


def _data_config(spec: str | Path | DataConfig | None, model: LearnedModel) -> DataConfig:
    """Return what to read: what was named, as the model's training did if it is the same, or what it was trained on."""
    if isinstance(spec, DataConfig):
        return spec
    trained = model.config.data if isinstance(model.config, Config) else None
    latents = trained is not None and trained.values == "raw"
    if spec is None and trained is None:
        raise StatisticsError("the model does not say what it was trained on; name a reference")
    if spec is None and latents:
        raise StatisticsError("the model was trained on latents, which have no pixels; name images as reference")
    if trained is not None and not latents and str(spec or trained.name) == trained.name:
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
    if needing := [name for name in metrics if METRICS[name].against != "moments"]:
        raise StatisticsError(
            f"{needing[0]} needs images of the reference, and {statistics.source} holds statistics only; name the data "
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
