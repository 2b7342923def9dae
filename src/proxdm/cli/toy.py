"""`proxdm toy`: the paper's synthetic experiment, with figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from proxdm.cli import parse
from proxdm.cli.tables import table
from proxdm.data import datasaurus
from proxdm.experiments.toy import METHODS, STEPS, check_arguments, run_toy
from proxdm.experiments.toy_result import Cell, ToyResult
from proxdm.mixtures import Mode
from proxdm.runtime.files import check_folder, staged

RESULTS = "results.json"
FIGURES = ("particles.png", "particles.svg", "w2_vs_nfe.png", "w2_vs_nfe.svg")
ANIMATION = "animation.gif"


@dataclass(frozen=True)
class Toy:
    """The paper's synthetic experiment: exact score and prox samplers against a Datasaurus set.

    Measures W1 and W2 of every method at every number of steps, prints W2, and writes results.json, figures (PNG
    and SVG) and an animation (GIF).
    """

    dataset: Annotated[str, tyro.conf.arg(help=f"The target: one of {', '.join(datasaurus.NAMES)}.")] = "dino"

    steps: tuple[int, ...] = STEPS
    """Numbers of steps, each at least 1."""

    samples: int = 1000
    """Particles per run."""

    seed: int = 0
    """First seed; the others follow it."""

    seeds: int = 3
    """Number of seeds: distances are mean and spread over them."""

    methods: Annotated[tuple[str, ...], tyro.conf.arg(help="Samplers to run.")] = tuple(METHODS)

    prox_mode: Mode = "global"
    """Minimum that the exact prox takes: the lowest, or the one downhill from the point, as in the paper's code."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: toy/DATASET)")] = None
    """Folder of the results."""

    overwrite: bool = False
    """Replace the results of an earlier run."""

    no_animation: bool = False
    """Leave the animation out."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    options = parse(Toy, arguments, prog)
    # All that can be wrong is looked at before the work, and before a folder is made.
    check_arguments(
        options.dataset,
        steps=options.steps,
        samples=options.samples,
        seed=options.seed,
        seeds=options.seeds,
        methods=options.methods,
        prox_mode=options.prox_mode,
    )
    folder = options.out or Path("toy", options.dataset)
    check_folder(folder, (RESULTS, *FIGURES, ANIMATION), overwrite=options.overwrite)
    result = run_toy(
        options.dataset,
        steps=options.steps,
        samples=options.samples,
        seed=options.seed,
        seeds=options.seeds,
        methods=options.methods,
        prox_mode=options.prox_mode,
        progress=True,
    )
    print(report(result))
    if sys.stderr.isatty():
        print("drawing ...", end="\r", file=sys.stderr, flush=True)
    names = write(result, folder, animation=not options.no_animation)
    print(f"\nIn {folder}: {', '.join(names)}")
    return 0


def write(result: ToyResult, folder: Path, *, animation: bool) -> list[str]:
    """Write results, figures and animation into the folder, all at once, and return the names of the files.

    Args:
        result: What was measured.
        folder: Where to, an existing folder; files of the same names are replaced.
        animation: Whether to make the GIF; where it is not made, one of an earlier run is removed, as it would show
            that run.
    """
    from proxdm.plotting import style, toy

    with staged(folder, last=RESULTS) as stage:
        (stage / RESULTS).write_text(json.dumps(result.record(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        style.save(toy.particles(result), stage / "particles")
        style.save(toy.w2_vs_nfe(result), stage / "w2_vs_nfe")
        if animate := animation and bool(result.trajectories):
            toy.animation(result, stage / ANIMATION)
    if not animate:
        (folder / ANIMATION).unlink(missing_ok=True)
    return [RESULTS, *FIGURES, *([ANIMATION] if animate else [])]


def report(result: ToyResult) -> str:
    """Return the table of W2, mean ± spread, with the floor and a sentence on every method that was skipped."""

    def cell(value: Cell | None) -> str:
        return "–" if value is None else str(value.w2)

    names = [name for name in METHODS if name in result.methods or name in result.skipped]
    rows = [[name, *(cell(result.methods.get(name, {}).get(n)) for n in result.steps)] for name in names]
    skipped = [
        f"Skipped {name} at N = {', '.join(map(str, reasons))}: {next(iter(reasons.values()))}."
        for name, reasons in result.skipped.items()
    ]
    many = len(result.seeds) > 1
    seeds = f"mean ± standard deviation of {len(result.seeds)} seeds" if many else f"seed {result.seeds[0]}"
    return "\n".join(
        [
            f"W2 to {result.dataset}, {result.samples} particles, {seeds}:",
            "",
            table(["method", *(f"N = {n}" for n in result.steps)], rows),
            "",
            f"Floor (as many exact draws): {cell(result.floor)}. Took {result.seconds:.1f} s.",
            *skipped,
        ]
    )
