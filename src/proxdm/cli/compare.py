"""`proxdm compare`: every sampler that fits, at an equal number of network evaluations, in one figure and one table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm._version import __version__
from proxdm.checkpoints.portable import MODEL_FILE
from proxdm.checkpoints.store import CHECKPOINTS, STATE_FILE
from proxdm.cli import parse
from proxdm.cli.measuring import Measuring, folder_name, make_plan
from proxdm.cli.tables import table
from proxdm.evaluation import evaluate
from proxdm.evaluation.comparison import (
    Panel,
    Point,
    better_in_words,
    describe_mixture,
    make_panels,
)
from proxdm.evaluation.plan import ALL
from proxdm.evaluation.reading import Measured, find_results, read_results
from proxdm.rules import find_rule
from proxdm.runtime.files import check_folder, staged

RESULT = "compare.json"
FIGURES = ("compare.png", "compare.svg")
STEPS = (5, 10, 20)
METRICS = ("fid",)
BEST = "*"


@dataclass(frozen=True)
class Compare(Measuring):
    """Compare samplers and models at an equal number of network evaluations: one figure, one table.

    Models are evaluated, with rows kept in EVALUATIONS/NAME as `proxdm evaluate` does, and rows that are there are not
    measured again; results are read. What was measured in different ways is not put together, unless by --force.
    """

    sources: Positional[tuple[str, ...]]
    """Models (a run, a checkpoint, a model file or folder, owner/name on the hub, one of the paper's .pth files), or
    results (a results.jsonl, its folder, or a folder of such folders)."""

    sampler: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: all)")] = ()
    """Of models, what is measured; of results, what is shown: euler-maruyama, prox-hybrid, ..., or all that fit."""

    steps: Annotated[tuple[int, ...], arg(help_behavior_hint="(default: 5 10 20 of models, all of results)")] = ()
    """Of models, the numbers of steps to measure; of results, those to show."""

    metrics: Annotated[tuple[str, ...], arg(help_behavior_hint="(default: fid of models, all of results)")] = ()
    """fid, fid-infinity, kid, precision-recall, nearest, w2, sliced-w2: as in proxdm evaluate; a panel of the
    figure each."""

    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: comparisons/SOURCES)")] = None
    """Folder of the figure and of compare.json."""

    evaluations: Path = Path("evaluations")
    """Folder in which the rows of models are kept, a folder a model."""

    force: bool = field(default=False, kw_only=True)
    """Draw values together that were measured in different ways, names of curves then say how; and take statistics
    that were made by another route than the features."""

    overwrite: bool = False
    """Replace the figure and compare.json in OUT; rows are never measured again."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    import torch

    options = parse(Compare, arguments, prog)
    if not options.sources:
        raise ValueError(f"there is nothing to compare: name models or results; see {prog} --help")
    for name in options.sampler:
        if name != ALL:
            find_rule(name)
    names = "-".join(dict.fromkeys(folder_name(source) for source in options.sources))[:80]
    out = options.out or Path("comparisons", names)
    check_folder(out, (RESULT, *FIGURES), overwrite=options.overwrite)
    try:
        rows = gather(options, prog)
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if int(os.environ.get("RANK", "0")) == 0:
        panels = compare(rows, options)
        print("\n\n".join(map(report, panels)))
        write(panels, out)
        print(f"\n{BEST} best at this NFE. In {out}: {', '.join((RESULT, *FIGURES))}")
    return 0


def gather(options: Compare, prog: str) -> list[Measured]:
    """Return the rows of all sources: results read first, then models evaluated.

    Raises:
        ValueError: A source is neither, or its results are damaged.
        ProxdmError: A model cannot be opened or evaluated.
    """
    results = [source for source in options.sources if is_results(Path(source))]
    rows = [one for source in results for one in read_results(Path(source)) if _wanted(one, options)]
    for source in options.sources:
        if source in results:
            continue
        out = options.evaluations / folder_name(source)
        found = evaluate(
            source,
            make_plan(
                options,
                samplers=options.sampler or (ALL,),
                steps=options.steps or STEPS,
                metrics=options.metrics or METRICS,
            ),
            out=out,
            weights=options.weights,
            preset=options.preset,
            device=options.device,
            progress=True,
            say=lambda line, source=source: print(f"{prog}: {source}: {line}", file=sys.stderr),  # type: ignore[misc]
        )
        rows += [Measured(row, out) for row in found.rows]
    return rows


def is_results(path: Path) -> bool:
    """Return whether a source is results to read, not a model: a folder that holds a model is a model.

    Raises:
        ValueError: It is a folder that holds neither.
    """
    if not path.is_dir():
        return path.suffix == ".jsonl"
    if any((path / name).exists() for name in (CHECKPOINTS, STATE_FILE, MODEL_FILE)):
        return False
    if find_results(path):
        return True
    if any(path.glob("*.safetensors")):
        return False
    raise ValueError(
        f"{path} holds neither a model (a run, a checkpoint, {MODEL_FILE}) nor results (results.jsonl, or folders that "
        "have one)"
    )


def compare(rows: Sequence[Measured], options: Compare) -> list[Panel]:
    """Return a panel for every metric.

    Raises:
        ValueError: There are no rows, or they were measured in different ways, and not by --force.
    """
    if not rows:
        raise ValueError("no row is left to compare: there is none with these samplers and steps")
    panels = make_panels(rows, options.metrics, mix=options.force)
    if (problem := describe_mixture(panels)) is not None:
        raise ValueError(f"{problem}; measure both in the same way, or draw them together with --force")
    return panels


def report(panel: Panel) -> str:
    """Return the table of one metric: a row a curve, a column an NFE, the best of each column marked."""

    def cell(point: Point | None, best: bool) -> str:
        if point is None:
            return "–  "
        return f"{point} {BEST if best else ' '}"

    rows = [
        [one.label, *(cell(panel.at(one, nfe), one in panel.best(nfe)) for nfe in panel.nfe)] for one in panel.series
    ]
    how = "; ".join(map(str, panel.settings))
    seeds = f", mean ± standard deviation of {panel.seeds} seeds" if panel.seeds > 1 else ""
    better = f" ({words})" if (words := better_in_words(panel.metric)) else ""
    head = f"{panel.metric.replace('_', ' ')}{better}, {how}{seeds}:"
    return f"{head}\n\n{table(['sampler', *(f'NFE {nfe}  ' for nfe in panel.nfe)], rows)}"


def write(panels: Sequence[Panel], folder: Path) -> None:
    """Write figure and series into the folder, all at once.

    Args:
        panels: What was compared.
        folder: Where to, an existing folder; files of the same names are replaced.
    """
    from proxdm.plotting.curves import metric_curves
    from proxdm.plotting.style import save

    record = {"proxdm": __version__, "panels": [panel.record() for panel in panels]}
    with staged(folder, last=RESULT) as stage:
        (stage / RESULT).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        save(metric_curves(panels, title=caption(panels)), stage / "compare")


def caption(panels: Sequence[Panel]) -> str:
    """Return in one line what all panels have in common: the reference, and what the bars are."""
    names = dict.fromkeys(setting.reference for panel in panels for setting in panel.settings)
    seeds = max(panel.seeds for panel in panels)
    bars = f"; mean ± standard deviation of {seeds} seeds" if seeds > 1 else ""
    mixed = "; measured in different ways" if any(len(panel.settings) > 1 for panel in panels) else ""
    return f"against {', '.join(map(str, names))}{bars}{mixed}"


def _wanted(one: Measured, options: Compare) -> bool:
    sampler = not options.sampler or ALL in options.sampler or one.row.sampler in options.sampler
    return sampler and (not options.steps or one.row.steps in options.steps)
