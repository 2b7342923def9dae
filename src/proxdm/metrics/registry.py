"""The table of metrics: each is registered in one file, beside its function, with all that is said of it.

    @metric("spread", {"spread": Value("mean spread", better=None)}, least=2)
    def _spread(samples: Tensor, reference: Tensor) -> tuple[float]:
        "What it says, in a few words, for the help."

makes `spread` known to evaluation, its results, figures, tables and help. The function takes what is kept of the
samples, then what they are compared with, and returns the values in their order. What it gets say `keeps`, of the
samples, and `against`, of the reference:

- moments: mean `(D,)` and covariance `(D, D)` of the features of all, float64 arrays;
- features: `(n, D)`, float32;
- pixels: images `(n, C, H, W)` in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proxdm.runtime.registry import Registry

Keeps = Literal["moments", "features", "pixels"]
"""What a metric needs of the samples: moments of all, or features or pixels of some."""

Against = Literal["moments", "some", "all", "held", "classes"]
"""What it needs of the reference: moments; features or pixels, whichever it keeps, of some images or of all; or pixels
of as many images of it as there are that nothing saw, and of those, as a pair; or features of all its images with their
classes, and then of the samples with those that were asked for, as pairs."""

Compute = Callable[[Any, Any], tuple[float, ...]]


@dataclass(frozen=True)
class Value:
    """What is said of one number of a metric: its title in figures, and which values are better, where they are.

    A fraction is from 0 to 1; an error is the standard error of another value, and no result of its own.
    """

    title: str
    better: Literal["higher", "lower"] | None = "lower"
    fraction: bool = False
    error: bool = False

    @property
    def better_in_words(self) -> str:
        """`higher is better`, `lower is better`, or nothing."""
        return f"{self.better} is better" if self.better else ""


ERROR = Value("standard error", error=True)
"""The standard error of a value; its name is that of the value with `_standard_error`."""


@dataclass(frozen=True)
class Metric:
    """A metric."""

    name: str  # Name on the command line
    values: Mapping[str, Value]  # What is said of its values, by their names in results
    compute: Compute  # The function
    keeps: Keeps = "features"  # What it needs of the samples
    against: Against = "some"  # What it needs of the reference
    least: int = 1  # Number of samples that it needs at least
    most: int | None = None  # Samples, and reference images where it takes some, that it takes at most; None is all

    def __post_init__(self) -> None:
        """Let the registry tell metrics of one name apart by their functions."""
        vars(self).update(__module__=self.compute.__module__, __qualname__=self.compute.__qualname__)

    def measure(self, samples: Any, reference: Any) -> dict[str, float]:
        """Return its values by their names."""
        return dict(zip(self.values, self.compute(samples, reference), strict=True))

    def used(self, samples: int, images: int | None) -> list[int | None]:
        """Return the numbers of samples and of reference images (None: not known), of so many, that it is taken on."""
        limit = self.most if self.against in ("some", "held") else None
        return [min(samples, self.most or samples), images if images is None else min(images, limit or images)]


METRICS: Registry[Metric] = Registry("metric")
"""Every metric by name."""


def metric(name: str, values: Mapping[str, Value], **fields: Any) -> Callable[[Compute], Compute]:
    """Return a decorator that registers a function as a :class:`Metric` (ValueError: there is one of that name)."""

    def add(compute: Compute) -> Compute:
        METRICS.add(name, Metric(name, values, compute, **fields))
        return compute

    return add


def metric_of(value: str) -> Metric | None:
    """Return the metric that a value of results is of, e.g. precision-recall of `recall`; None if it is not known."""
    return next((metric for metric in METRICS.values() if value in metric.values), None)


def value_of(name: str) -> Value:
    """Return what is said of a value of results; of one that no known metric has, that lower is better."""
    if (metric := metric_of(name)) is not None:
        return metric.values[name]
    return Value(name.replace("_", " "), error=name.endswith("_standard_error"))


def title_of(name: str, features: str) -> str:
    """Return the title of a value of results; a Fréchet distance is a FID only on Inception's features."""
    value, fid = value_of(name), name.startswith("fid") and features == "inception"
    return value.title + (" (FID)" if fid and not value.error else "")


def on_pixels(metrics: Iterable[str]) -> bool:
    """Return whether all metrics take the pixels themselves, and none features of them."""
    return all(METRICS[name].keeps == "pixels" for name in metrics)


def metrics_help() -> str:
    """Return names and meanings of all metrics, for the help of the command line."""
    lines = []
    for one in METRICS.values():
        said = (one.compute.__doc__ or one.name).splitlines()[0].rstrip(".")
        pixels = "the pixels of " if one.keeps == "pixels" else ""
        count = "all samples" if one.most is None else f"the first {one.most:,}"
        lines.append(f"{one.name}: {said}, of {pixels}{count}")
    return "; ".join(lines)
