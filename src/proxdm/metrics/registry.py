"""The table of metrics: each is registered in one file, beside its function, with all that is said of it.

    register(Metric("spread", {"spread": Value("spread")}, spread, keeps="features", against="some", least=2,
                    help="what it says"))

makes `spread` known to evaluation, its results, figures, tables and help. `compute` takes what is kept of the samples,
then what they are compared with, and returns the values in their order. What it gets says `keeps`, of the samples, and
`against`, of the reference:

- moments: mean `(D,)` and covariance `(D, D)` of the features of all, float64 arrays;
- features: `(n, D)`, float32;
- pixels: images `(n, C, H, W)` in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proxdm.runtime.registry import Registry

Keeps = Literal["moments", "features", "pixels"]
"""What a metric needs of the samples: the moments of the features of all of them, or features or pixels of some."""

Against = Literal["moments", "some", "all"]
"""What a metric needs of the reference: moments; or features or pixels, as it keeps of the samples, of as many images
as it takes samples at most, or of all images."""


@dataclass(frozen=True)
class Value:
    """What is said of one number of a metric.

    Attributes:
        title: What it is called in figures.
        better: Which values are better; None where that cannot be said.
        fraction: Whether it is from 0 to 1.
        error: Whether it is the standard error of another value, and no result of its own.
    """

    title: str
    better: Literal["higher", "lower"] | None = "lower"
    fraction: bool = False
    error: bool = False

    @property
    def better_in_words(self) -> str:
        """`higher is better`, `lower is better`, or nothing."""
        return f"{self.better} is better" if self.better else ""


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: Name in the API and on the command line.
        values: Its values by their names in results.
        compute: `(ours, theirs) -> values`, in the order of `values`.
        keeps: What it needs of the samples.
        against: What it needs of the reference.
        least: Number of samples that it needs at least.
        most: Number of samples, and of reference images where it takes some, that it takes at most; None is all.
        help: What it says, in a few words.
    """

    name: str
    values: Mapping[str, Value]
    compute: Callable[[Any, Any], tuple[float, ...]]
    keeps: Keeps
    against: Against
    least: int
    help: str
    most: int | None = None

    def __post_init__(self) -> None:
        """Take the place of the function as origin: two metrics of one name are told apart by it."""
        vars(self).update(__module__=self.compute.__module__, __qualname__=self.compute.__qualname__)

    def used(self, samples: int, images: int | None) -> list[int | None]:
        """Return the numbers of samples and of reference images (None: not known), of so many, that it is taken on."""
        limit = self.most if self.against == "some" else None
        return [min(samples, self.most or samples), images if images is None else min(images, limit or images)]


METRICS: Registry[Metric] = Registry("metric")
"""Every metric by name."""


def register(metric: Metric) -> Metric:
    """Add a metric to :data:`METRICS` and return it.

    Raises:
        ValueError: Its name, or that of a value, is taken by another.
    """
    for name in metric.values:
        if (owner := metric_of(name)) is not None and owner.name != metric.name:
            raise ValueError(f"{name} is a value of the metric {owner.name!r} already; choose another name")
    METRICS.add(metric.name, metric)
    return metric


def metric_of(value: str) -> Metric | None:
    """Return the metric that a value of results is of, e.g. precision-recall of `recall`; None if it is not known."""
    return next((metric for metric in METRICS.values() if value in metric.values), None)


def value_of(name: str) -> Value:
    """Return what is said of a value of results; of one that no known metric has, that lower is better."""
    metric = metric_of(name)
    return (
        Value(name.replace("_", " "), error=name.endswith("_standard_error")) if metric is None else metric.values[name]
    )


def metrics_help() -> str:
    """Return names and meanings of all metrics in one line, for the help of the command line."""
    return ", ".join(
        f"{one.name} ({one.help}, of "
        f"{'the pixels of ' * (one.keeps == 'pixels')}{'all' if one.most is None else f'the first {one.most:,}'})"
        for one in METRICS.values()
    )
