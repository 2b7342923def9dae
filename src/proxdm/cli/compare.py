"""`proxdm compare`: every sampler that fits, at an equal number of network evaluations, in one figure and one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm._version import __version__
from proxdm.checkpoints.portable import MODEL_FILE
from proxdm.checkpoints.store import CHECKPOINTS, STATE_FILE
from proxdm.cli.evaluate import leaving_the_group
from proxdm.cli.options import ModelOptions, speaker
from proxdm.cli.tables import table, write_and_show
from proxdm.evaluation import EvaluationPlan, evaluate
from proxdm.evaluation.comparison import Panel, Point, describe_mixture, make_panels
from proxdm.evaluation.plan import ALL
from proxdm.evaluation.results import EvaluationRow, find_results, folder_name, read_results
from proxdm.generation import SAMPLERS_HELP
from proxdm.metrics.registry import METRICS, value_of
from proxdm.runtime.files import check_folder
from proxdm.samplers import find_sampler

FILES = ("compare.json", "compare.png", "compare.svg")
BEST = "*"


@dataclass(frozen=True, kw_only=True)
class Compare(ModelOptions, EvaluationPlan):
    """Compare samplers and models at an equal number of network evaluations: one figure, one table.

    Models are evaluated, with rows kept in EVALUATIONS/NAME as `proxdm evaluate` does, and rows that are there are not
    measured again; results are read. What was measured in different ways is not put together, unless by --force.
    """

    # Models (a run, a checkpoint, a model file or folder, owner/name on the hub, one of the paper's .pth files), or
    # results (a results.jsonl, its folder, or a folder of such folders).
    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="SOURCE ...")]
    samplers: Annotated[
        tuple[str, ...],
        arg(
            name="sampler",
            help=f"Of models, what is measured; of results, what is shown: {SAMPLERS_HELP}, or all that fit.",
        ),
    ] = (ALL,)
    # Of models, the numbers of steps to measure; of results, those to show.
    steps: Annotated[tuple[int, ...], arg(help_behavior_hint="(default: 5 10 20 of models, all of results)")] = ()
    metrics: Annotated[
        tuple[str, ...],
        arg(
            help=f"{', '.join(METRICS)}: as in proxdm evaluate; panels of the figure.",
            help_behavior_hint="(default: fid of models, all of results)",
        ),
    ] = ()
    # Draw values together that were measured in different ways, names of curves then say how; and take statistics that
    # were made by another route than the features.
    force: bool = False
    # Folder of the figure and of compare.json.
    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: comparisons/SOURCES)")] = None
    evaluations: Path = Path("evaluations")  # Folder in which the rows of models are kept, a folder a model.
    overwrite: bool = False  # Replace the figure and compare.json in OUT; rows are never measured again.


def run(options: Compare, prog: str) -> int:
    """Draw the figure, show the table, and return the exit status."""
    if not options.sources:
        raise ValueError(f"there is nothing to compare: name models or results; see {prog} --help")
    names = "-".join(dict.fromkeys(folder_name(source) for source in options.sources))[:80]
    out = options.out or Path("comparisons", names)
    check_folder(out, FILES, overwrite=options.overwrite)
    with leaving_the_group():
        rows = gather(options, prog)
    if int(os.environ.get("RANK", "0")) > 0:
        return 0
    if not rows:
        raise ValueError("no row is left to compare: there is none with these samplers and steps")
    panels = make_panels(rows, options.metrics, mix=options.force)
    if (problem := describe_mixture(panels)) is not None:
        raise ValueError(f"{problem}; measure both in the same way, or draw them together with --force")

    def draw(stage: Path) -> None:
        from proxdm.plotting.curves import metric_curves
        from proxdm.plotting.style import save

        save(metric_curves(panels, title=caption(panels)), stage / "compare")

    record = {"proxdm": __version__, "panels": [panel.record() for panel in panels]}
    shown = "\n\n".join([*map(report, panels), f"{BEST} best at this NFE."])
    write_and_show(record, draw, out, FILES, lambda: shown)
    return 0


def gather(options: Compare, prog: str) -> list[EvaluationRow]:
    """Return the rows of all sources: results read first, then models evaluated."""
    results = [source for source in options.sources if is_results(Path(source))]
    shown = set() if ALL in options.samplers else {repr(find_sampler(text)) for text in options.samplers}
    rows = [
        one
        for source in results
        for one in read_results(Path(source))
        if (not shown or one.sampler in shown) and (not options.steps or one.steps in options.steps)
    ]
    steps, metrics = options.steps or EvaluationPlan.steps, options.metrics or EvaluationPlan.metrics
    plan = replace(options, steps=steps, metrics=metrics)
    for source in options.sources:
        if source not in results:
            out = options.evaluations / folder_name(source)
            say = speaker(f"{prog}: {source}")
            found = evaluate(source, plan, out=out, progress=True, say=say, **options.chosen)
            rows += [replace(row, folder=out) for row in found.rows]
    return rows


def is_results(path: Path) -> bool:
    """Return whether a source is results to read, not a model: a folder that holds a model is a model."""
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


def report(panel: Panel) -> str:
    """Return the table of one metric: a row a curve, a column an NFE, the best of each column marked."""

    def cell(point: Point | None, best: bool) -> str:
        return "–  " if point is None else f"{point} {BEST if best else ' '}"

    rows = [
        [one.label, *(cell(panel.at(one, nfe), one in panel.best(nfe)) for nfe in panel.nfe)] for one in panel.series
    ]
    how = "; ".join(map(str, panel.settings))
    seeds = f", mean ± standard deviation of {panel.seeds} seeds" if panel.seeds > 1 else ""
    better = f" ({words})" if (words := value_of(panel.metric).better_in_words) else ""
    head = f"{panel.metric.replace('_', ' ')}{better}, {how}{seeds}:"
    return f"{head}\n\n{table(['sampler', *(f'NFE {nfe}  ' for nfe in panel.nfe)], rows)}"


def caption(panels: Sequence[Panel]) -> str:
    """Return in one line what all panels have in common: the reference, and what the bars are."""
    names = dict.fromkeys(setting.reference for panel in panels for setting in panel.settings)
    seeds = max(panel.seeds for panel in panels)
    bars = f"; mean ± standard deviation of {seeds} seeds" if seeds > 1 else ""
    mixed = "; measured in different ways" if any(len(panel.settings) > 1 for panel in panels) else ""
    return f"against {', '.join(map(str, names))}{bars}{mixed}"
