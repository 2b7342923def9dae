"""Rows of many results as curves: mean and spread over seeds, per model, sampler and grid, at equal NFE.

A value of a metric depends on the reference, on the features (unless the metric compares pixels) and on how many
samples and reference images it was taken on: its :class:`Setting`. Only values of one setting are compared; a
:class:`Panel` holds what one metric says in one setting. Two rows are of one :class:`Series` if their weights (by
digest), sampler, kind of grid and arithmetic are the same; names of sources do not count.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from proxdm.evaluation.measures import MEASURES
from proxdm.evaluation.reading import Measured
from proxdm.evaluation.results import EvaluationRow

FRACTIONS = frozenset({"precision", "recall", "copied"})
"""Metrics from 0 to 1."""

_HIGHER, _NEITHER = frozenset({"precision", "recall"}), frozenset({"nearest", "copied"})

_COMPANION = "_standard_error"
_GRID = re.compile(r"(?P<kind>[a-z-]+)\(\d+(?:, (?P<more>.+))?\)")


@dataclass(frozen=True)
class Setting:
    """How a value was measured. The name of the reference does not count: its digest does.

    Attributes:
        reference: Name of the reference.
        sha256: Its digest.
        features: What the metric was taken on: name, digest of the weights and route of resizing, or `pixels`.
        used: Number of samples and of reference images (None: not known).
    """

    reference: str = field(compare=False)
    sha256: str
    features: tuple[str, ...]
    used: tuple[int | None, ...]

    def __str__(self) -> str:
        """Return it in words."""
        samples, images = self.used[0], self.used[1] if len(self.used) > 1 else None
        against = "unknown number of" if images is None else f"{images:,}"
        count = "unknown number of" if samples is None else f"{samples:,}"
        weights = f" ({self.features[1][:8]})" if len(self.features) > 1 and self.features[1] else ""
        return (
            f"{count} samples, {self.features[0]} features{weights}, against {self.reference} ({against} images, "
            f"{self.sha256[:8]})"
        )

    def record(self) -> dict[str, Any]:
        """Return it in plain types."""
        return {
            "reference": self.reference,
            "sha256": self.sha256,
            "features": list(self.features),
            "used": list(self.used),
        }


@dataclass(frozen=True)
class Key:
    """What makes rows points of one curve.

    Attributes:
        digest: SHA-256 of the weights.
        sampler: Name of the rule.
        grid: Kind of the grid and its parameters without the number of steps, e.g. `denoising, eps=0.001`.
        bf16: Whether the network ran in bfloat16.
        setting: Where curves of several settings stand together, the setting, else None.
    """

    digest: str
    sampler: str
    grid: str
    bf16: bool
    setting: Setting | None = None


@dataclass(frozen=True)
class Point:
    """A metric at one number of steps.

    Attributes:
        steps: N.
        nfe: Network evaluations per sample, measured.
        values: By seed.
    """

    steps: int
    nfe: int
    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values.values())

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds, with n - 1; None for one seed."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """Return `mean ± deviation`, both to the second figure of the deviation; of one seed, four figures."""
        if not self.std:
            return f"{self.mean:.4g}" if self.std is None else f"{self.mean:.4g} ± 0"
        decimals = min(max(1 - math.floor(math.log10(self.std)), 0), 12)
        return f"{self.mean:.{decimals}f} ± {self.std:.{decimals}f}"


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        key: What its rows have in common.
        label: Name in figures and tables: the sampler, and what tells it from others of the same sampler.
        source: Name that the model was asked for by, the latest if there are several.
        points: By increasing N.
    """

    key: Key
    label: str
    source: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """What one metric says in one setting.

    Attributes:
        metric: Name of the value, e.g. `fid`.
        settings: The setting; several where they were mixed on request.
        series: Curves.
    """

    metric: str
    settings: tuple[Setting, ...]
    series: tuple[Series, ...]

    @property
    def nfe(self) -> tuple[int, ...]:
        """Every number of network evaluations that occurs, increasing."""
        return tuple(sorted({point.nfe for one in self.series for point in one.points}))

    @property
    def seeds(self) -> int:
        """The largest number of seeds of a point."""
        return max((len(point.values) for one in self.series for point in one.points), default=0)

    def at(self, series: Series, nfe: int) -> Point | None:
        """Return the point of a curve at an NFE; the one of most steps where there are several."""
        return next((point for point in reversed(series.points) if point.nfe == nfe), None)

    def best(self, nfe: int) -> tuple[Series, ...]:
        """Return the curves whose mean at an NFE is the best.

        There are none where settings were mixed, where only one curve is there, or where no value is better.
        """
        there = [(one, point.mean) for one in self.series if (point := self.at(one, nfe)) is not None]
        wins = better(self.metric)
        if len(there) < 2 or len(self.settings) > 1 or wins is None:
            return ()
        choose = max if wins == "higher" else min
        wanted = choose(mean for _, mean in there)
        return tuple(one for one, mean in there if mean == wanted)

    def record(self) -> dict[str, Any]:
        """Return it in plain types, as `compare.json` holds it."""
        return {
            "metric": self.metric,
            "better": better(self.metric),
            "settings": [setting.record() for setting in self.settings],
            "best": {str(nfe): [one.label for one in self.best(nfe)] for nfe in self.nfe},
            "series": [_series_record(one) for one in self.series],
        }


def better(metric: str) -> Literal["higher", "lower"] | None:
    """Return which values of a metric are better; None where that cannot be said, as of distances to training data."""
    if metric in _NEITHER:
        return None
    return "higher" if metric in _HIGHER else "lower"


def better_in_words(metric: str) -> str:
    """Return `higher is better`, `lower is better`, or nothing."""
    return "" if (wins := better(metric)) is None else f"{wins} is better"


def make_panels(rows: Iterable[Measured], metrics: Sequence[str] = (), *, mix: bool = False) -> list[Panel]:
    """Return a panel for every metric and setting: metrics in the order of their first row, settings too.

    Of several values of one measurement the one that was finished last counts.

    Args:
        rows: Rows of any number of results.
        metrics: Names of metrics or of their values; empty is all. Standard errors of others are no curves.
        mix: Put all settings of a metric into one panel; labels then say which is which.

    Raises:
        ValueError: No row has one of the wanted metrics.
    """
    ordered = sorted((one.row for one in rows), key=lambda row: row.finished)
    wanted = {value for name in metrics for value in _values(name)}
    cells: dict[str, dict[Setting, dict[Key, dict[int, tuple[EvaluationRow, dict[int, float]]]]]] = {}
    sources: dict[str, str] = {}
    keys: dict[Key, None] = {}
    for row in ordered:
        for name, value in row.metrics.items():
            if name.endswith(_COMPANION) or (wanted and name not in wanted):
                continue
            setting = setting_of(row, name)
            key = key_of(row, mixed=mix)
            steps = cells.setdefault(name, {}).setdefault(setting, {}).setdefault(key, {})
            steps[row.steps] = (row, {**(steps[row.steps][1] if row.steps in steps else {}), row.seed: value})
            sources[row.digest] = row.source
            keys.setdefault(key)
    if missing := wanted - set(cells):
        there = ", ".join(sorted({name for row in ordered for name in row.metrics})) or "none"
        raise ValueError(f"no row has {', '.join(sorted(missing))}; the results have {there}")
    names = labels(keys, sources)
    order = sorted(keys, key=lambda key: key.sampler.startswith("prox"))  # stable: within a family as they came
    panels = []
    for metric, settings in cells.items():
        groups = [(tuple(settings), _joined(settings.values()))] if mix else [((s,), c) for s, c in settings.items()]
        for which, curves in groups:
            series = [
                Series(key, names[key], sources[key.digest], _points(curves[key])) for key in order if key in curves
            ]
            panels.append(Panel(metric, which, tuple(series)))
    return panels


def describe_mixture(panels: Sequence[Panel]) -> str | None:
    """Return in one line what was measured differently, both sides named; None if nothing was."""
    for panel in panels:
        for other in panels:
            if other is not panel and other.metric == panel.metric:
                return (
                    f"{panel.metric} was measured in different ways: {_sides(panel)} with {panel.settings[0]}; "
                    f"{_sides(other)} with {other.settings[0]}"
                )
    return None


def setting_of(row: EvaluationRow, value: str) -> Setting:
    """Return how a value of a row was measured.

    Args:
        row: The row.
        value: Name of the value, e.g. `fid` or `recall`.
    """
    measure = next((one for one in MEASURES.values() if value in one.values), None)
    features = ("pixels",) if measure is not None and measure.keeps == "pixels" else _features(row)
    used = row.used.get(measure.name if measure else value, (row.samples, row.reference.get("n")))
    return Setting(str(row.reference.get("name")), str(row.reference.get("sha256")), features, tuple(used))


def key_of(row: EvaluationRow, *, mixed: bool = False) -> Key:
    """Return what makes a row a point of a curve.

    Args:
        row: The row.
        mixed: Whether rows measured in different ways are to be different curves of one panel.
    """
    setting = None
    if mixed:
        used = (row.samples, row.reference.get("n"))
        setting = Setting(str(row.reference.get("name")), str(row.reference.get("sha256")), _features(row), used)
    return Key(row.digest, row.sampler, grid_kind(row.grid), row.bf16, setting)


def grid_kind(grid: str) -> str:
    """Return the name of a grid without its number of steps: `denoising(5, eps=0.001)` is `denoising, eps=0.001`."""
    match = _GRID.fullmatch(grid)
    if match is None:
        return grid
    return match["kind"] + (f", {match['more']}" if match["more"] else "")


def run_name(source: str) -> str:
    """Return the name of a source for people: the last part of a path, `name` of `owner/name@main`."""
    name = PurePosixPath(source.replace("\\", "/")).name.partition("@")[0]
    return name.removesuffix(".safetensors").removesuffix(".pth") or source


def labels(keys: Iterable[Key], sources: Mapping[str, str]) -> dict[Key, str]:
    """Return a name for every curve: the sampler, with what tells curves of one sampler apart.

    Args:
        keys: The curves.
        sources: Name of the model, by digest.
    """
    names = {key: key.sampler for key in keys}
    parts = [
        {key: run_name(sources[key.digest]) for key in names},
        {key: sources[key.digest] for key in names},
        {key: key.grid for key in names},
        {key: "bfloat16" if key.bf16 else "float32" for key in names},
        {key: key.digest[:8] for key in names},
        *_setting_parts(names),
    ]
    for part in parts:
        same: dict[str, list[Key]] = {}
        for key, name in names.items():
            same.setdefault(name, []).append(key)
        for keys in same.values():
            if len({part.get(key) for key in keys}) > 1:
                names |= {key: f"{names[key]} · {part[key]}" for key in keys}
    return names


def _setting_parts(keys: Iterable[Key]) -> list[dict[Key, str]]:
    """Return for every part of the settings what it is, in words."""
    known = {key: key.setting for key in keys if key.setting is not None}
    return [
        {key: f"{setting.used[0]} samples" for key, setting in known.items()},
        {key: f"{setting.features[0]} features" for key, setting in known.items()},
        {key: f"against {setting.reference}" for key, setting in known.items()},
        {key: str(setting) for key, setting in known.items()},
    ]


def _features(row: EvaluationRow) -> tuple[str, ...]:
    return tuple(str(row.features.get(name, "")) for name in ("name", "weights", "resize"))


def _values(name: str) -> tuple[str, ...]:
    return tuple(v for v in MEASURES[name].values if not v.endswith(_COMPANION)) if name in MEASURES else (name,)


def _joined(parts: Iterable[Mapping[Key, Any]]) -> dict[Key, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _points(steps: Mapping[int, tuple[EvaluationRow, Mapping[int, float]]]) -> tuple[Point, ...]:
    return tuple(Point(n, row.nfe, dict(sorted(values.items()))) for n, (row, values) in sorted(steps.items()))


def _sides(panel: Panel) -> str:
    return ", ".join(dict.fromkeys(f"{run_name(one.source)} {one.key.sampler}" for one in panel.series))


def _series_record(series: Series) -> dict[str, Any]:
    return {
        "label": series.label,
        "source": series.source,
        "digest": series.key.digest,
        "sampler": series.key.sampler,
        "grid": series.key.grid,
        "bf16": series.key.bf16,
        "setting": None if series.key.setting is None else series.key.setting.record(),
        "points": [
            {
                "steps": point.steps,
                "nfe": point.nfe,
                "mean": point.mean,
                "std": point.std,
                "values": {str(seed): value for seed, value in point.values.items()},
            }
            for point in series.points
        ],
    }
