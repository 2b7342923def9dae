"""`proxdm evaluate`: metrics of a trained model at several numbers of network evaluations."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm.cli import parse
from proxdm.cli.measuring import Measuring, folder_name, make_plan
from proxdm.cli.tables import table
from proxdm.evaluation import Evaluation, EvaluationRow, evaluate


@dataclass(frozen=True)
class Evaluate(Measuring):
    """Draw samples from a trained model and compare them with a reference, for every sampler, number of steps and seed.

    Rows are appended to OUT/results.jsonl as they are done; rows that are there already are not measured again, and an
    interrupted row goes on where it was. Several processes: torchrun --nproc-per-node 2 -m proxdm evaluate ...
    """

    source: Positional[str]
    """A run, a checkpoint, a model file or folder, a repository on the hub (owner/name), or one of the paper's .pth
    files."""

    sampler: tuple[str, ...] = ()
    """euler-maruyama, ode-euler, prox-hybrid, prox-backward, prox-ode, ..., or all that fit the model; by default what
    it was trained for."""

    steps: tuple[int, ...] = (5, 10, 20)
    """Numbers of steps, which are the numbers of network evaluations."""

    metrics: tuple[str, ...] = ("fid",)
    """fid (Fréchet distance, of all samples), fid-infinity (extrapolated to infinitely many, of the first 50,000), kid,
    precision-recall (of the first 10,000), nearest (distance of the first 10,000 to the nearest images of the
    reference, and how many are copies), w2 (exact, of the pixels of the first 2,000), sliced-w2 (of the pixels of the
    first 10,000)."""

    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: evaluations/SOURCE)")] = None
    """Folder of the results."""

    overwrite: bool = False
    """Measure rows again that are there already, and replace them."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    import torch

    options = parse(Evaluate, arguments, prog)
    out = options.out or Path("evaluations", folder_name(options.source))
    try:
        found = evaluate(
            options.source,
            make_plan(options, samplers=options.sampler, steps=options.steps, metrics=options.metrics),
            out=out,
            weights=options.weights,
            preset=options.preset,
            device=options.device,
            overwrite=options.overwrite,
            progress=True,
            say=lambda line: print(f"{prog}: {line}", file=sys.stderr),
        )
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if found.rows:
        print(report(found))
        print(f"\nIn {out}: results.jsonl and a picture of every row")
    return 0


def report(found: Evaluation) -> str:
    """Return the table of the rows, and what they were compared with."""
    first = found.rows[0]
    groups: dict[tuple[str, str, int], list[EvaluationRow]] = {}
    for row in found.rows:
        groups.setdefault((row.sampler, row.grid, row.steps), []).append(row)
    names = [name for name in first.metrics if all(name in row.metrics for row in found.rows)]
    cells = [
        [
            sampler,
            grid,
            str(rows[0].nfe),
            *(_cell([row.metrics[name] for row in rows]) for name in names),
            f"{statistics.fmean(row.images_per_second for row in rows):.3g}",
        ]
        for (sampler, grid, _), rows in groups.items()
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
            table(["sampler", "grid", "NFE", *(name.replace("_", " ") for name in names), "images/s"], cells),
            *(["", *limited] if limited else []),
        ]
    )


def _cell(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.4g}" if len(values) == 1 else f"{mean:.4g} ± {statistics.stdev(values):.2g}"
