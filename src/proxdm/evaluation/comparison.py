"""Rows of many results as curves: mean and spread over seeds, per model, sampler and grid, at equal NFE.

A value of a metric depends on the reference, on the features (unless the metric compares pixels) and on how many
samples and reference images it was taken on: its :class:`Setting`. Only values of one setting are compared; a
:class:`Panel` holds what one metric says in one setting. Two rows are of one :class:`Series` if their weights (by
digest), sampler, kind of grid and arithmetic are the same; names of sources do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any

from proxdm.config import to_dict
from proxdm.evaluation.results import EvaluationRow
from proxdm.metrics.registry import METRICS, metric_of, value_of
from proxdm.sweep import Spread


@dataclass(frozen=True)
class Setting:
    """How a value was measured. The name of the reference does not count: its digest does."""

    reference: str = field(compare=False)  # Name of the reference
    sha256: str  # Its digest
    # What the metric was taken on: name, digest of the weights and route of resizing, or `pixels`
    features: tuple[str, ...]
    used: tuple[int | None, ...]  # Number of samples and of reference images (None: not known)

    def __str__(self) -> str:
        """Return it in words."""
        count, against = (
            "unknown number of" if number is None else f"{number:,}" for number in (*self.used, None, None)[:2]
        )
        weights = f" ({self.features[1][:8]})" if len(self.features) > 1 and self.features[1] else ""
        return (
            f"{count} samples, {self.features[0]} features{weights}, against {self.reference} ({against} images, "
            f"{self.sha256[:8]})"
        )


@dataclass(frozen=True)
class Key:
    """What makes rows points of one curve."""

    digest: str  # SHA-256 of the weights
    sampler: str  # Text of the sampler
    grid: str  # Kind of the grid and its parameters without the number of steps, e.g. `denoising, eps=0.001`
    bf16: bool  # Whether the network ran in bfloat16
    told: str = ""  # Classes and guidance, of a model of classes
    setting: Setting | None = None  # Where curves of several settings stand together, the setting, else None


@dataclass(frozen=True)
class Point(Spread):
    """A metric at one number of steps."""

    seeds: tuple[int, ...]  # Of the values
    steps: int  # N
    nfe: int  # Network evaluations per sample, measured

    def record(self) -> dict[str, Any]:
        """Return it in plain types."""
        values = {str(seed): value for seed, value in zip(self.seeds, self.values, strict=True)}
        return {"steps": self.steps, "nfe": self.nfe, "mean": self.mean, "std": self.std, "values": values}


@dataclass(frozen=True)
class Series:
    """A curve."""

    key: Key  # What its rows have in common
    label: str  # Name in figures and tables: the sampler, and what tells it from others of the same sampler
    source: str  # Name that the model was asked for by, the latest if there are several
    points: tuple[Point, ...]  # By increasing N


@dataclass(frozen=True)
class Panel:
    """What one metric says in one setting."""

    metric: str  # Name of the value, e.g. `fid`
    settings: tuple[Setting, ...]  # The setting; several where they were mixed on request
    series: tuple[Series, ...]  # Curves

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
        better = value_of(self.metric).better
        if len(there) < 2 or len(self.settings) > 1 or better is None:
            return ()
        wanted = (max if better == "higher" else min)(mean for _, mean in there)
        return tuple(one for one, mean in there if mean == wanted)

    def record(self) -> dict[str, Any]:
        """Return it in plain types, as `compare.json` holds it."""
        series = [
            {"label": one.label, "source": one.source, **to_dict(one.key), "points": [p.record() for p in one.points]}
            for one in self.series
        ]
        return {
            "metric": self.metric,
            "better": value_of(self.metric).better,
            "settings": [to_dict(setting) for setting in self.settings],
            "best": {str(nfe): [one.label for one in self.best(nfe)] for nfe in self.nfe},
            "series": series,
        }


_Curves = dict[Key, dict[int, dict[int, EvaluationRow]]]


def make_panels(rows: Iterable[EvaluationRow], metrics: Sequence[str] = (), *, mix: bool = False) -> list[Panel]:
    """Return a panel for every metric and setting: metrics in the order of their first row, settings too.

    Of several values of one measurement the one that was finished last counts.
    """
    ordered = sorted(rows, key=lambda row: row.finished)
    wanted = {value for name in metrics for value in _results(name)}
    # By metric and setting (one group of all if they are mixed): the settings, and rows by curve, steps and seed, the
    # later in the place of the earlier.
    found: dict[str, dict[Setting | None, tuple[dict[Setting, None], _Curves]]] = {}
    sources = {row.digest: row.source for row in ordered}
    for row in ordered:
        for name in row.metrics:
            if value_of(name).error or (wanted and name not in wanted):
                continue
            setting = setting_of(row, name)
            settings, curves = found.setdefault(name, {}).setdefault(None if mix else setting, ({}, {}))
            settings.setdefault(setting)
            curves.setdefault(key_of(row, mixed=mix), {}).setdefault(row.steps, {})[row.seed] = row
    if missing := sorted(wanted - set(found)):
        there = ", ".join(sorted({name for row in ordered for name in row.metrics})) or "none"
        raise ValueError(f"no row has {', '.join(missing)}; the results have {there}")
    keys = dict.fromkeys(key_of(row, mixed=mix) for row in ordered if set(row.metrics) & set(found))
    names = labels(keys, sources)
    order = sorted(keys, key=lambda key: key.sampler.startswith("prox"))  # stable: within a family as they came
    return [
        Panel(
            name,
            tuple(settings),
            tuple(
                Series(key, names[key], sources[key.digest], _points(curves[key], name))
                for key in order
                if key in curves
            ),
        )
        for name, groups in found.items()
        for settings, curves in groups.values()
    ]


def describe_mixture(panels: Sequence[Panel]) -> str | None:
    """Return in one line what was measured differently, both sides named; None if nothing was."""
    for panel, other in combinations(panels, 2):
        if other.metric == panel.metric:
            return (
                f"{panel.metric} was measured in different ways: {_sides(panel)} with {panel.settings[0]}; "
                f"{_sides(other)} with {other.settings[0]}"
            )
    return None


def setting_of(row: EvaluationRow, value: str = "") -> Setting:
    """Return how a value of a row was measured, or the row as a whole."""
    metric = metric_of(value)
    features = tuple(str(row.features.get(name, "")) for name in ("name", "weights", "resize"))
    used = row.used.get(metric.name if metric else value, (row.samples, row.reference.get("n")))
    pixels = metric is not None and metric.keeps == "pixels"
    reference = str(row.reference.get("name")), str(row.reference.get("sha256"))
    return Setting(*reference, ("pixels",) if pixels else features, tuple(used))


def key_of(row: EvaluationRow, *, mixed: bool = False) -> Key:
    """Return what makes a row a point of a curve."""
    setting = setting_of(row) if mixed else None
    return Key(row.digest, row.sampler, grid_kind(row.grid), row.bf16, row.told, setting)


def grid_kind(grid: str) -> str:
    """Return the name of a grid without its number of steps: `denoising(5, eps=0.001)` is `denoising, eps=0.001`."""
    return re.sub(r"^([a-z-]+)\(\d+(, .+)?\)$", r"\1\2", grid)


def run_name(source: str) -> str:
    """Return the name of a source for people: the last part of a path, `name` of `owner/name@main`."""
    name = PurePosixPath(source.replace("\\", "/")).name.partition("@")[0]
    return name.removesuffix(".safetensors").removesuffix(".pth") or source


def labels(keys: Iterable[Key], sources: Mapping[str, str]) -> dict[Key, str]:
    """Return a name for every curve: the sampler, with what tells curves of one sampler apart."""
    names = {key: key.sampler for key in keys}
    settings = {key: key.setting for key in names if key.setting is not None}
    parts: list[dict[Key, str]] = [
        {key: run_name(sources[key.digest]) for key in names},
        {key: sources[key.digest] for key in names},
        {key: key.told or "no classes" for key in names},
        {key: key.grid for key in names},
        {key: "bfloat16" if key.bf16 else "float32" for key in names},
        {key: key.digest[:8] for key in names},
        {key: f"{setting.used[0]} samples" for key, setting in settings.items()},
        {key: f"{setting.features[0]} features" for key, setting in settings.items()},
        {key: f"against {setting.reference}" for key, setting in settings.items()},
        {key: str(setting) for key, setting in settings.items()},
    ]
    for part in parts:
        same: dict[str, list[Key]] = {}
        for key, name in names.items():
            same.setdefault(name, []).append(key)
        for alike in same.values():
            if len({part.get(key) for key in alike}) > 1:
                names |= {key: f"{names[key]} · {part[key]}" for key in alike}
    return names


def _results(name: str) -> list[str]:
    """Return the values of a metric that are results, or the value of that name."""
    return [v for v in METRICS[name].values if not value_of(v).error] if name in METRICS else [name]


def _points(steps: Mapping[int, Mapping[int, EvaluationRow]], metric: str) -> tuple[Point, ...]:
    found = []
    for n, rows in sorted(steps.items()):
        seeds = tuple(sorted(rows))
        latest = max(rows.values(), key=lambda row: row.finished)
        found.append(Point(tuple(rows[seed].metrics[metric] for seed in seeds), seeds, n, latest.nfe))
    return tuple(found)


def _sides(panel: Panel) -> str:
    return ", ".join(dict.fromkeys(f"{run_name(one.source)} {one.key.sampler}" for one in panel.series))
