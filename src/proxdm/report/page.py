"""The pages of `proxdm report` and `proxdm demo`: what was gathered, arranged for `templates/report.html.j2`.

Rows stand in parts, one for every reference, kind of features and number of samples; values of different parts are in
different tables and figures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from proxdm._version import __version__
from proxdm.config import Config, to_json
from proxdm.evaluation.comparison import Key, Panel, Series, Setting, key_of, make_panels, setting_of
from proxdm.evaluation.results import EvaluationRow
from proxdm.evaluation.run import PICTURED
from proxdm.metrics.registry import METRICS, value_of
from proxdm.plotting import curves
from proxdm.report.commands import evaluate_commands, train_command
from proxdm.report.figures import DARK, inline_svg, picture_uri, swatch
from proxdm.report.gather import Material, Run


@dataclass(frozen=True)
class Part:
    """Rows of one reference, kind of features and number of samples, as the template shows them."""

    number: int  # Of the part, from 1
    rows: Sequence[EvaluationRow]  # The rows
    panels: Sequence[Panel]  # A panel for every metric to be shown

    @property
    def setting(self) -> Setting:
        """How the rows were measured."""
        return setting_of(self.rows[0])

    @cached_property
    def series(self) -> dict[Key, Series]:
        """Every curve of the panels."""
        return {one.key: one for panel in self.panels for one in panel.series}

    @property
    def facts(self) -> list[tuple[str, str]]:
        """How the rows were measured, as names and values for people."""
        rows, first = self.rows, self.rows[0]
        reference, features = first.reference, first.features
        split = f", {reference['split']}" if reference.get("split") else ""
        count = f"{reference['n']:,} images" if reference.get("n") else "unknown number of images"
        weights = f", weights {str(features.get('weights'))[:8]}" if features.get("weights") else ""
        seeds, days = sorted({row.seed for row in rows}), sorted({row.finished[:10] for row in rows})
        software = [", ".join(f"{name} {value}" for name, value in row.versions.items()) for row in rows]
        machines = [row.device + (f", {row.processes} processes" if row.processes > 1 else "") for row in rows]
        return [
            ("reference", f"{reference.get('name')}{split}, {count}"),
            ("its SHA-256", f"{reference.get('sha256')}"[:16]),
            ("features", f"{features.get('name')}, {features.get('dim')} a sample{weights}"),
            ("samples", f"{first.samples:,} a row"),
            ("seeds", _listed(map(str, seeds)) if len(seeds) < 6 else f"{len(seeds)}, from {seeds[0]} to {seeds[-1]}"),
            ("machine", "; ".join(dict.fromkeys(machines))),
            ("software", "; ".join(dict.fromkeys(software))),
            ("measured", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"),
        ]

    @property
    def grids(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """For every number of steps, the picture of every curve: that of its first seed."""
        first: dict[tuple[int, Key], EvaluationRow] = {}
        for one in sorted(self.rows, key=lambda one: (-one.seed, one.finished)):
            first[one.steps, key_of(one)] = one
        lead, found = self.panels[0], []
        points = {(one.key, point.steps): (one, point) for one in lead.series for point in one.points}
        name = curves.metric_name(lead.metric, curves.features_of(lead))
        for steps in sorted({steps for steps, _ in first}):
            cards = []
            for key, curve in self.series.items():
                own, point = points.get((key, steps), (None, None))
                value = "" if point is None else f"{name} {point.mean:.4g}"
                best = point is not None and own in lead.best(point.nfe)
                card = {"series": curve, "value": value, "best": best}
                cards.append({**card, **_picture(first.get((steps, key)), curve.label)})
            found.append((steps, cards))
        return found

    @property
    def all_rows(self) -> tuple[list[str], list[list[str | float | None]]]:
        """Head and cells of the table of all rows; the first four are words."""
        metrics = list(dict.fromkeys(name for row in self.rows for name in row.metrics))
        names = [curves.metric_name(metric, str(self.rows[0].features.get("name"))) for metric in metrics]
        head = ["curve", "model", "weights", "grid", "NFE", "seed", *names]
        body: list[list[str | float | None]] = []
        for row in self.rows:
            curve = self.series.get(key_of(row))
            cells = [row.sampler if curve is None else curve.label, row.source, row.weights, row.grid]
            numbers = [row.nfe, row.seed, *map(row.metrics.get, metrics), row.images_per_second, row.seconds]
            body.append([*cells, *numbers, row.device, row.finished[:19].replace("T", " ")])
        return [*head, "images/s", "seconds", "machine", "finished"], body


def render(material: Material, *, title: str = "", metrics: Sequence[str] = ()) -> str:
    """Return the report as one HTML document that needs nothing else."""
    pages, subjects = _pages(), [run.name for run in material.runs]
    css, script = (pages.loader.get_source(pages, name)[0] for name in ("style.css", "script.js"))
    styles = curves.curve_styles(make_panels(material.rows, metrics) if material.rows else [])
    page: str = pages.get_template("report.html.j2").render(
        title=title or f"Report on {_listed(subjects) if len(subjects) < 4 else f'{len(subjects)} runs'}",
        version=__version__,
        palette=DARK,
        css=css,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        notes=material.notes,
        parts=_parts(material.rows, metrics),
        runs=[
            (run, train_command(run.config, run.folder) if isinstance(run.config, Config) and run.folder else None)
            for run in material.runs
        ],
        rows=material.rows,
        commands=evaluate_commands(material.rows),
        styles=styles,
        # what the template asks of rows, panels and runs
        changed=_changed,
        config_json=to_json,
        curves=curves,
        inline_svg=inline_svg,
        note=_note,
        previews=_previews,
        shown=_shown,
        swatch=swatch,
        value_of=value_of,
    )
    return page + "\n"


@dataclass(frozen=True)
class Section:
    """A part of the page of `proxdm demo`: a heading, a sentence, a figure and the command that made it."""

    title: str
    text: str
    figure: Path  # A .png file
    command: str
    table: str = ""  # Preformatted


def demo_page(sections: Sequence[Section]) -> str:
    """Return the HTML page of some sections: figures inside, nothing from elsewhere."""
    pictures = {one.title: base64.b64encode(one.figure.read_bytes()).decode() for one in sections}
    template = _pages().get_template("demo.html.j2")
    page: str = template.render(sections=sections, pictures=pictures, version=__version__)
    return page


def _pages() -> Any:
    """Return the templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("proxdm.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _parts(rows: Iterable[EvaluationRow], metrics: Sequence[str]) -> list[Part]:
    """Return the rows by reference, features and number of samples."""
    split: dict[Setting, list[EvaluationRow]] = {}
    for one in rows:
        split.setdefault(setting_of(one), []).append(one)
    parts = []
    for number, members in enumerate(split.values(), 1):
        there = {value for one in members for value in one.metrics}
        shown = [name for name in metrics if there & set(METRICS[name].values if name in METRICS else (name,))]
        panels = make_panels(members, shown)
        told = [panel for panel in panels if any(any(point.values) for one in panel.series for point in one.points)]
        parts.append(Part(number, members, told or panels))  # what is 0 everywhere stands in the table of rows
    return parts


def _note(panel: Panel) -> str:
    """Return on how many seeds, samples and images a metric was taken."""
    spread = f"Mean ± standard deviation of {panel.seeds} seeds. " if panel.seeds > 1 else ""
    samples, *images = panel.settings[0].used
    taken = f"Taken on {samples:,} samples" if isinstance(samples, int) else "Taken on the samples"
    return f"{spread}{taken}" + (f" and {images[0]:,} images of the reference." if images and images[0] else ".")


def _shown(value: str | float | None) -> str:
    """Return a value of a table as text."""
    return "–" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _picture(row: EvaluationRow | None, label: str) -> dict[str, str]:
    """Return the picture of a row, or why there is none."""
    if row is None:
        return {"problem": "not measured"}
    if row.picture is None or row.folder is None:
        return {"problem": "no picture was made"}
    if Path(row.picture).name != row.picture:
        return {"problem": f"{row.picture} is not beside its results"}
    alt = f"{min(PICTURED, row.samples)} samples of {label} at N = {row.steps}, seed {row.seed}"
    try:
        return {"problem": "", "uri": picture_uri(row.folder / row.picture), "alt": alt}
    except FileNotFoundError:
        return {"problem": f"{row.picture} is missing"}
    except OSError:
        return {"problem": f"{row.picture} cannot be read"}


def _previews(run: Run) -> list[tuple[str, str]]:
    """Return the previews of a run, as a caption and an address of each."""
    found = []
    for path in run.previews:
        with suppress(OSError):
            found.append((f"step {int(path.stem.removeprefix('step-')):,}", picture_uri(path)))
    return found


def _changed(run: Run, rows: Iterable[EvaluationRow]) -> str:
    """Return in a sentence that rows were measured on other weights than the run has now; empty if they were not."""
    if (found := run.found) is None or found.file.digest is None:
        return ""
    measured = {one.digest for one in rows if one.source == run.source and one.weights == found.weights}
    if not measured or found.file.digest in measured:
        return ""
    return f"The weights {found.weights} are not those that were measured: the run went on, or is another one."


def _listed(words: Iterable[str]) -> str:
    known = list(dict.fromkeys(words))
    return ", ".join(known[:-1]) + (" and " if len(known) > 1 else "") + known[-1] if known else "nothing"
