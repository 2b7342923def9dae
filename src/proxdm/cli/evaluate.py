"""`proxdm evaluate`: metrics of a trained model at several numbers of network evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated

import torch
from tyro.conf import Positional, arg

from proxdm.cli import fid
from proxdm.cli.options import ModelOptions, speaker
from proxdm.cli.tables import table
from proxdm.config import Config
from proxdm.evaluation import ComparisonPlan, Evaluation, EvaluationPlan, compare_sets, evaluate
from proxdm.evaluation.results import folder_name
from proxdm.plotting.curves import metric_name
from proxdm.sweep import Spread, by_cell


@dataclass(frozen=True, kw_only=True)
class Evaluate(ModelOptions, EvaluationPlan):
    """Draw samples from a trained model and compare them with a reference, for every sampler, number of steps and seed.

    Rows are appended to OUT/results.jsonl as they are done; rows that are there already are not measured again, and an
    interrupted row goes on where it was. Several processes: torchrun --nproc-per-node 2 -m proxdm evaluate ...
    """

    # A run, a checkpoint, a model file or folder, a repository on the hub (owner/name), hf:FOLDER, a model in the box,
    # or one of the paper's .pth files.
    source: Annotated[Positional[str], arg(metavar="SOURCE", help_behavior_hint="(or --samples-from)")] = ""
    # Measure pictures that are there already, a folder, archive or array, instead of drawing some: the metrics of
    # `proxdm fid`, against the reference.
    samples_from: str | None = None
    # Folder of the results.
    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: evaluations/SOURCE)")] = None
    # Measure every class by itself, against the pictures of that class (a folder or a known set with labels).
    each_class: bool = False
    overwrite: bool = False  # Measure rows again that are there already, and replace them.


def run(options: Evaluate, prog: str) -> int:
    """Run the verb and return the exit status."""
    if options.samples_from is not None:
        return measure_pictures(options)
    if not options.source:
        raise ValueError("name a model, or pictures that are there already: --samples-from FOLDER")
    measure_model(options, prog)
    return 0


def measure_model(options: Evaluate, prog: str) -> Evaluation:
    """Draw samples, measure them, show the table, and return what was measured."""
    out, say = options.out or Path("evaluations", folder_name(options.source)), speaker(prog)
    with leaving_the_group():
        found = Evaluation((), (), 0)
        for plan in plans(options):
            part = evaluate(
                options.source, plan, out=out, overwrite=options.overwrite, progress=True, say=say, **options.chosen
            )
            found = Evaluation(found.rows + part.rows, found.skipped + part.skipped, found.reused + part.reused)
    if found.rows:
        print(report(found))
        print(f"\nIn {out}: results.jsonl and a picture of every row")
    return found


def plans(options: Evaluate) -> list[Evaluate]:
    """Return what is to be measured: everything at once, or every class by itself."""
    if not options.each_class:
        return [options]
    classes = options.open(options.source, "cpu").model.classes
    if options.classes or not classes:
        raise ValueError(
            "--each-class is all that --class can name; leave one out"
            if classes
            else f"--each-class: the model {options.source} knows no classes"
        )
    return [replace(options, classes=(name,)) for name in classes]


def measure_pictures(options: Evaluate) -> int:
    """Measure pictures that nobody need draw, and return the exit status."""
    if (said := "split" if options.split else "root" if options.root else None) is not None:
        raise ValueError(f"--{said} is of a model's reference: leave it out with --samples-from")
    reference = options.reference
    if reference is None and options.source:
        config = options.open(options.source, "cpu").model.config
        reference = config.data.name if isinstance(config, Config) else None
    if reference is None or options.samples_from is None:
        raise ValueError("name what to compare with: --reference, or the model whose training data are meant")
    plan = ComparisonPlan(
        options.metrics, options.features, options.inception_weights, options.size, options.grey, force=options.force
    )
    found = compare_sets(options.samples_from, str(reference), plan, device=options.device, progress=True)
    print(fid.report(found, options.samples_from, str(reference)))
    return 0


def report(found: Evaluation) -> str:
    """Return the table of the rows, and what they were compared with."""
    first = found.rows[0]
    names = [name for name in first.metrics if all(name in row.metrics for row in found.rows)]
    titles = [metric_name(name, first.features["name"]) for name in names]
    cells = [
        [
            sampler,
            rows[0].grid,
            str(rows[0].nfe),
            *(str(Spread.of(rows, name)) for name in names),
            f"{fmean(row.images_per_second for row in rows):.3g}",
        ]
        for (sampler, _), rows in by_cell(found.rows).items()
    ]
    seeds = len({row.seed for row in found.rows})
    spread = f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else f"seed {first.seed}"
    against = f"{first.reference['name']} ({first.reference['n'] or 'unknown number of'} images)"
    again = f"; {found.reused} of {len(found.rows)} rows were there already" if found.reused else ""
    limited = [
        f"{name} is taken on {ours:,} samples and {theirs:,} images of the reference."
        for name, (ours, theirs) in first.used.items()
        if ours is not None and theirs is not None and (ours < first.samples or theirs < (first.reference["n"] or 0))
    ]
    return "\n".join(
        [
            f"{first.source} ({first.weights}), {first.samples:,} samples, {spread}, {first.features['name']} "
            f"features, against {against}{again}:",
            "",
            table(["sampler", "grid", "NFE", *titles, "images/s"], cells),
            *(["", *limited] if limited else []),
        ]
    )


@contextmanager
def leaving_the_group() -> Iterator[None]:
    """Leave the group of processes at the end of the block, if one was joined."""
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
