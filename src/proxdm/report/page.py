"""The page: what was gathered, arranged for the template `templates/report.html.j2`.

Rows stand in parts, one for every reference, kind of features and number of samples; values of different parts are in
different tables and figures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from proxdm._version import __version__
from proxdm.config import Config, to_json
from proxdm.evaluation.comparison import Key, Panel, Series, better_in_words, key_of, make_panels
from proxdm.evaluation.reading import Measured
from proxdm.evaluation.results import EvaluationRow
from proxdm.plotting.curves import curve_styles, loss_by_phase, metric_panel, metric_title, training_curve
from proxdm.report.commands import evaluate_commands, train_command
from proxdm.report.figures import DARK, inline_svg, picture_uri, swatch
from proxdm.report.gather import Material, Run

_BESIDE = 60
"""Widest table, in characters, that stands beside its figure."""

PICTURED = 64
"""Samples in the picture of a row, as evaluation draws it."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        order: What the table is sorted by; None is last.
        best: Whether it is the best of its column.
    """

    text: str
    order: float | str | None
    best: bool = False


def render(material: Material, *, title: str = "", metrics: Sequence[str] = ()) -> str:
    """Return the report as one HTML document that needs nothing else.

    Args:
        material: What it is made of.
        title: Its heading; by default the names of the runs.
        metrics: Metrics to show; empty is all.

    Raises:
        ValueError: No row has one of the metrics.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _template("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    styles = curve_styles(make_panels(material.rows, metrics) if material.rows else [])
    page = environment.get_template("report.html.j2").render(
        title=title or f"Report on {_subject(material.runs)}",
        version=__version__,
        palette=DARK,
        css=Markup(_template("style.css")),
        script=Markup(script),
        script_digest=digest,
        notes=material.notes,
        parts=[_part(i, rows, metrics, styles, Markup) for i, rows in enumerate(_split(material.rows), 1)],
        runs=[_run(i, run, material.rows, Markup) for i, run in enumerate(material.runs, 1)],
        commands=evaluate_commands(one.row for one in material.rows),
    )
    return page + "\n"


def _template(name: str) -> str:
    return files("proxdm.report").joinpath("templates", name).read_text(encoding="utf-8")


def _split(rows: Iterable[Measured]) -> list[list[Measured]]:
    """Return the rows by reference, features and number of samples."""
    parts: dict[Any, list[Measured]] = {}
    for one in rows:
        parts.setdefault(key_of(one.row, mixed=True).setting, []).append(one)
    return list(parts.values())


def _part(
    number: int, rows: Sequence[Measured], metrics: Sequence[str], styles: Mapping[Key, Any], markup: Any
) -> dict[str, Any]:
    """Return what the template shows of one part."""
    there = {name for one in rows for name in one.row.metrics}
    panels = make_panels(rows, [name for name in metrics if there & _names(name)])
    series = {one.key: one for panel in panels for one in panel.series}
    return {
        "number": number,
        "setting": str(key_of(rows[0].row, mixed=True).setting),
        "facts": _facts([one.row for one in rows]),
        # A panel that is wide has a legend of its own.
        "legend": [] if _wide(panels) else [(one.label, markup(swatch(styles[key]))) for key, one in series.items()],
        "panels": [_panel(f"p{number}-{i}", panel, styles, markup, _wide(panels)) for i, panel in enumerate(panels, 1)],
        "grids": _grids(rows, panels, styles, markup),
        "rows": _all_rows(rows, {key: one.label for key, one in series.items()}),
    }


def _names(metric: str) -> set[str]:
    from proxdm.evaluation.measures import MEASURES

    return set(MEASURES[metric].values) if metric in MEASURES else {metric}


def _facts(rows: Sequence[EvaluationRow]) -> list[tuple[str, str]]:
    """Return how rows of one part were measured, as names and values for people."""
    first = rows[0]
    reference, features = first.reference, first.features
    split = f", {reference['split']}" if reference.get("split") else ""
    count = f"{reference['n']:,} images" if reference.get("n") else "unknown number of images"
    weights = f", weights {str(features.get('weights'))[:8]}" if features.get("weights") else ""
    seeds = sorted({row.seed for row in rows})
    days = sorted({row.finished[:10] for row in rows})
    versions = dict.fromkeys(", ".join(f"{name} {value}" for name, value in row.versions.items()) for row in rows)
    machines = dict.fromkeys(row.device + (f", {row.processes} processes" if row.processes > 1 else "") for row in rows)
    return [
        ("reference", f"{reference.get('name')}{split}, {count}"),
        ("its SHA-256", f"{reference.get('sha256')}"[:16]),
        ("features", f"{features.get('name')}, {features.get('dim')} a sample{weights}"),
        ("samples", f"{first.samples:,} a row"),
        ("seeds", _listed(map(str, seeds)) if len(seeds) < 6 else f"{len(seeds)}, from {seeds[0]} to {seeds[-1]}"),
        ("machine", "; ".join(machines)),
        ("software", "; ".join(versions)),
        ("measured", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"),
    ]


def _panel(identifier: str, panel: Panel, styles: Mapping[Key, Any], markup: Any, wide: bool) -> dict[str, Any]:
    """Return figure and table of a metric."""
    title = metric_title(panel.metric)
    described = f"{title} against the number of network evaluations: the values are in the table"
    spread = f"Mean ± standard deviation of {panel.seeds} seeds. " if panel.seeds > 1 else ""
    used = panel.settings[0].used
    taken = f"Taken on {used[0]:,} samples" if isinstance(used[0], int) else "Taken on the samples"
    if len(used) > 1 and used[1] is not None:
        taken += f" and {used[1]:,} images of the reference"
    return {
        "metric": panel.metric,
        "title": title,
        "better": better_in_words(panel.metric),
        "note": f"{spread}{taken}.",
        "wide": wide,
        "figure": markup(inline_svg(metric_panel(panel, styles), identifier, described)),
        "head": ["sampler", *(f"NFE {nfe}" for nfe in panel.nfe)],
        "rows": [
            (one.label, markup(swatch(styles[one.key])), [_value(panel, one, nfe) for nfe in panel.nfe])
            for one in panel.series
        ],
    }


def _wide(panels: Iterable[Panel]) -> bool:
    """Return whether the table of any of the panels is too wide to stand beside its figure."""
    return any(_width(panel) > _BESIDE for panel in panels)


def _width(panel: Panel) -> int:
    """Return the width of a table in characters."""
    columns = [[str(point) for one in panel.series if (point := panel.at(one, nfe))] for nfe in panel.nfe]
    return max(len(one.label) for one in panel.series) + sum(2 + max(map(len, column)) for column in columns)


def _value(panel: Panel, series: Series, nfe: int) -> Cell:
    point = panel.at(series, nfe)
    if point is None:
        return Cell("–", None)
    return Cell(str(point), point.mean, series in panel.best(nfe))


def _grids(
    rows: Sequence[Measured], panels: Sequence[Panel], styles: Mapping[Key, Any], markup: Any
) -> list[dict[str, Any]]:
    """Return, for every number of steps, the picture of every curve: that of its first seed."""
    first: dict[tuple[int, Key], Measured] = {}
    for one in sorted(rows, key=lambda one: (-one.row.seed, one.row.finished)):
        first[one.row.steps, key_of(one.row)] = one
    series = {one.key: one for panel in panels for one in panel.series}
    lead = panels[0]
    found = []
    for steps in sorted({steps for steps, _ in first}):
        cards = []
        for key, curve in series.items():
            measured = first.get((steps, key))
            own = next((s for s in lead.series if s.key == key), None)
            point = None if own is None else next((p for p in own.points if p.steps == steps), None)
            cards.append(
                {
                    "label": curve.label,
                    "swatch": markup(swatch(styles[key])),
                    "value": "" if point is None else f"{lead.metric.replace('_', ' ')} {point.mean:.4g}",
                    "best": own is not None and point is not None and own in lead.best(point.nfe),
                    **_picture(measured, curve.label),
                }
            )
        found.append({"steps": steps, "cards": cards})
    return found


def _picture(measured: Measured | None, label: str) -> dict[str, str]:
    """Return the picture of a row, or why there is none."""
    if measured is None:
        return {"uri": "", "alt": "", "problem": "not measured"}
    row, folder = measured.row, measured.folder
    if row.picture is None or folder is None:
        return {"uri": "", "alt": "", "problem": "no picture was made"}
    alt = f"{min(PICTURED, row.samples)} samples of {label} at N = {row.steps}, seed {row.seed}"
    if Path(row.picture).name != row.picture:
        return {"uri": "", "alt": "", "problem": f"{row.picture} is not beside its results"}
    try:
        return {"uri": picture_uri(folder / row.picture), "alt": alt, "problem": ""}
    except FileNotFoundError:
        return {"uri": "", "alt": "", "problem": f"{row.picture} is missing"}
    except OSError:
        return {"uri": "", "alt": "", "problem": f"{row.picture} cannot be read"}


def _all_rows(rows: Sequence[Measured], names: Mapping[Key, str]) -> dict[str, Any]:
    """Return the table of all rows of a part."""
    metrics = list(dict.fromkeys(name for one in rows for name in one.row.metrics))
    head = ["curve", "model", "weights", "grid", "NFE", "seed", *(name.replace("_", " ") for name in metrics)]
    body = []
    for row in (one.row for one in rows):
        values = [row.metrics.get(name) for name in metrics]
        body.append(
            [
                *(
                    Cell(text, text)
                    for text in (names.get(key_of(row), row.sampler), row.source, row.weights, row.grid)
                ),
                *(Cell(str(count), count) for count in (row.nfe, row.seed)),
                *(Cell("–" if value is None else f"{value:.5g}", value) for value in values),
                Cell(f"{row.images_per_second:.4g}", row.images_per_second),
                Cell(f"{row.seconds:.4g}", row.seconds),
                *(Cell(text, text) for text in (row.device, row.finished[:19].replace("T", " "))),
            ]
        )
    head += ["images/s", "seconds", "machine", "finished"]
    return {"head": head, "body": body, "numbers": range(4, len(head) - 2)}


def _run(number: int, run: Run, rows: Sequence[Measured], markup: Any) -> dict[str, Any]:
    """Return what the template shows of a run."""
    curve = training_curve(run.log)
    described = f"Loss of {run.name} against the optimiser step, phase by phase"
    command = None
    if isinstance(run.config, Config) and run.folder is not None:
        command = train_command(run.config, run.folder)
    return {
        "name": run.name,
        "source": "" if run.source == run.name else run.source,
        "missing": run.missing,
        "facts": run.facts(),
        "figure": None if curve is None else markup(inline_svg(curve, f"t{number}", described)),
        "phases": len(loss_by_phase(run.log)),
        "config": None if run.config is None else to_json(run.config).rstrip(),
        "command": command,
        "trained_on": _trained_on(run, rows),
    }


def _trained_on(run: Run, rows: Iterable[Measured]) -> str:
    """Return in a sentence that rows were measured on other weights than the run has now; empty if they were not."""
    for weights, digest in (run.digests or {}).items():
        measured = {one.row.digest for one in rows if one.row.source == run.source and one.row.weights == weights}
        if measured and digest not in measured:
            return f"The weights {weights} are not those that were measured: the run went on, or is another one."
    return ""


def _subject(runs: Sequence[Run]) -> str:
    return _listed(run.name for run in runs) if len(runs) < 4 else f"{len(runs)} runs"


def _listed(words: Iterable[str]) -> str:
    known = list(dict.fromkeys(words))
    return ", ".join(known[:-1]) + (" and " if len(known) > 1 else "") + known[-1] if known else "nothing"
