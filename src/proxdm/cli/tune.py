"""`proxdm tune`: the best grid of a sampler on a model, stored with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm.checkpoints.load import rewrite, store_with
from proxdm.checkpoints.store import GRIDS_FILE
from proxdm.cli.options import ModelOptions, speaker
from proxdm.cli.tables import table
from proxdm.evaluation import TuningPlan, tune
from proxdm.metrics.registry import METRICS
from proxdm.runtime.files import write_text


@dataclass(frozen=True, kw_only=True)
class Tune(ModelOptions, TuningPlan):
    """Look for the best start, end and rho of the grid of samplers, by coordinate descent on a metric.

    What is found is stored with the model and taken by --grid tuned. Every sampler gets the same budget and samples.
    """

    source: Annotated[Positional[str], arg(metavar="MODEL")]  # A run, a checkpoint, or a model file or folder.
    # A .json file for the grids; needed where the model is not on this disk in a form of its own.
    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: with the model)")] = None


def run(options: Tune, prog: str) -> int:
    """Run the verb and return the exit status."""
    place, found = (options.out, None) if options.out else store_with(options.source, options.weights, GRIDS_FILE)
    opened = options.open(options.source)
    results = tune(opened, options, progress=True, say=speaker(prog), device=options.device)
    for one in results:
        opened.model.grids.setdefault(one.sampler, {})[one.steps] = one.grid
    if found is not None:
        rewrite(opened.model, found)
    else:
        write_text(place, json.dumps(opened.model.grids, indent=2) + "\n")
    value = next(iter(METRICS.find(options.metrics[0]).values))
    rows = [[one.sampler, str(one.steps), f"{one.first:.4g}", f"{one.value:.4g}", one.grid] for one in results]
    print(table(["sampler", "N", f"{value} before", "after", "grid"], rows))
    print(f"\nIn {place}; taken by --grid tuned. {options.samples} samples, at most {options.budget} grids each")
    return 0
