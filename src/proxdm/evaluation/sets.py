"""Two sets of pictures compared, whoever made them: pytorch-fid's use, with every metric and any features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from tqdm.auto import tqdm
from tyro.conf import arg

from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig, load_data
from proxdm.errors import check_least
from proxdm.evaluation.accumulate import Accumulator, Limits
from proxdm.evaluation.reference import Reference, check_statistics, is_statistics
from proxdm.metrics.features import FEATURES_HELP, WEIGHTS_HELP, FeatureExtractor, load_extractor, sides
from proxdm.metrics.registry import METRICS, metrics_help, on_pixels
from proxdm.metrics.statistics import ReferenceStatistics, StatisticsError
from proxdm.pixels import as_kept
from proxdm.runtime.processes import choose_device


@dataclass(frozen=True)
class ComparisonPlan:
    """How to compare two sets of pictures."""

    metrics: Annotated[tuple[str, ...], arg(help=f"{metrics_help()}.")] = ("fid",)
    features: Annotated[str, arg(help=FEATURES_HELP)] = "inception"
    inception_weights: Annotated[Path | None, arg(help=WEIGHTS_HELP)] = None
    size: int | None = None  # Cut pictures to their central square and resize them to this; needed where sizes differ.
    grey: bool = False  # Take pictures as grey.
    limit: int | None = None  # Take the first so many pictures of each set only.
    batch_size: int = 64  # Pictures at a time; has no influence on the result.
    force: bool = False  # Take statistics that were made by another route than the features.

    def __post_init__(self) -> None:
        """Check every value that does not need the pictures."""
        for name in self.metrics:
            if METRICS.find(name).against in ("held", "classes"):
                raise ValueError(f"--metrics {name} needs a model and what it was trained on: proxdm evaluate")
        check_least(1, batch_size=self.batch_size)


@dataclass(frozen=True)
class SetComparison:
    """What two sets of pictures are to each other."""

    values: dict[str, float]  # The values of the metrics by name
    counts: tuple[int | None, int | None]  # Pictures of both; None where statistics do not say
    features: str  # Name of the features


def compare_sets(
    first: str | Path,
    second: str | Path,
    plan: ComparisonPlan | None = None,
    *,
    device: str = "auto",
    progress: bool = False,
) -> SetComparison:
    """Return the metrics of one set of pictures against another.

    Args:
        first: The samples: a folder, archive, array or known data set, or, for `fid` alone, statistics (.npz).
        second: The reference: the same.
        plan: Metrics and features.
        device: Where features are computed.
        progress: Show progress bars where there is a terminal.

    Raises:
        DataError: There are no pictures, or they have several sizes and no `size` is given.
        FeatureError: The features cannot be had, or do not fit the pictures.
        StatisticsError: Statistics are of other features, or a metric needs pictures in their place.
    """
    plan, where = plan or ComparisonPlan(), choose_device(device)
    metrics = [METRICS[name] for name in plan.metrics]
    ours, theirs = (_open(name, plan) for name in (first, second))
    if isinstance(ours, ImageData) and isinstance(theirs, ImageData) and {ours.shape[0], theirs.shape[0]} == {1, 3}:
        ours, theirs = _plain(ours), _plain(theirs)
    shapes = {one.shape for one in (ours, theirs) if isinstance(one, ImageData)}
    how: Any = {"inception_weights": plan.inception_weights, "device": where, "metrics": plan.metrics}
    extractors = {shape: load_extractor(plan.features, shape, **how) for shape in shapes}
    for metric in metrics:
        if isinstance(ours, ReferenceStatistics) and metric.keeps != "moments":
            raise StatisticsError(f"{first} holds statistics only, and {metric.name} needs pictures")
        if isinstance(ours, ImageData) and len(ours) < metric.least:
            raise StatisticsError(
                f"{len(ours)} pictures of {first} are too few for {metric.name}, which needs {metric.least} at least"
            )
        if metric.keeps == "pixels" and len(shapes) == 2:
            named = " and ".join(sorted(map(sides, shapes)))
            raise StatisticsError(f"pixels of pictures {named} cannot be compared: give --size or --grey")
    for one, other in ((ours, theirs), (theirs, ours)):
        if isinstance(one, ReferenceStatistics) and isinstance(other, ImageData):
            check_statistics(one, extractors[other.shape], plan.metrics, force=plan.force)
    if isinstance(theirs, ImageData):
        reference = Reference(str(second), "", extractors[theirs.shape], images=theirs, progress=progress)
    else:
        if isinstance(ours, ReferenceStatistics):
            ours.check_compatible(theirs, force=plan.force)
        nothing: Any = None  # no features are taken
        reference = Reference(str(second), "", nothing, given=theirs)
    samples = _kept(ours, extractors[ours.shape], plan, progress) if isinstance(ours, ImageData) else ours
    values: dict[str, float] = {}
    for metric in metrics:
        taken = samples.taken(metric) if isinstance(samples, Accumulator) else (samples.mu, samples.sigma)
        values |= metric.measure(taken, reference.taken(metric))
    count = len(ours) if isinstance(ours, ImageData) else ours.n
    return SetComparison(values, (count, reference.count), "pixels" if on_pixels(plan.metrics) else plan.features)


def _open(name: str | Path, plan: ComparisonPlan) -> ImageData | ReferenceStatistics:
    """Return the pictures, or the statistics, of a name."""
    if is_statistics(Path(name)):
        return ReferenceStatistics.load(Path(name))
    data = load_data(DataConfig(str(name), size=plan.size, grey=plan.grey, limit=plan.limit))
    if data.latent:
        raise StatisticsError(f"{name} holds latents, which have no pixels; name pictures")
    return data


def _plain(data: ImageData) -> ImageData:
    """Return grey pictures that were kept as colour ones, as files often do, with one channel."""
    images = data.images
    if images.shape[1] == 1 or not bool((images == images[:, :1]).all()):
        return data
    return replace(data, images=images[:, :1].contiguous())


def _kept(data: ImageData, extractor: FeatureExtractor, plan: ComparisonPlan, progress: bool) -> Accumulator:
    """Return what the metrics need of the samples, in one pass through them."""
    limits = Limits.of(plan.metrics, len(data), plan.batch_size, extractor.dim)
    found, images = Accumulator(limits), data.images if limits.takes_features else data.images[: limits.pixels]
    hidden = None if progress else True
    batches = tqdm(torch.split(images, plan.batch_size), f"features of {data.name}", disable=hidden, unit="batch")
    for number, batch in enumerate(batches):
        found.add(number, as_kept(batch), extractor(batch) if limits.takes_features else None)
    return found
