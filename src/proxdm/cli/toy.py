"""`proxdm toy`: the paper's synthetic experiment, with figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from proxdm.cli import parse
from proxdm.cli.tables import table
from proxdm.experiments.toy import ToyPlan, run_toy
from proxdm.experiments.toy_result import ToyResult
from proxdm.runtime.files import check_folder, staged
from proxdm.sweep import Row, Summary

RESULTS = "results.json"
FIGURES = ("particles.png", "particles.svg", "w2_vs_nfe.png", "w2_vs_nfe.svg")
ANIMATION = "animation.gif"


@dataclass(frozen=True)
class Toy(ToyPlan):  # noqa: D101 (that of the plan)
    __doc__ = ToyPlan.__doc__

    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: toy/DATASET)")] = None
    """Folder of the results."""

    overwrite: bool = False
    """Replace the results of an earlier run."""

    no_animation: bool = False
    """Leave the animation out."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status."""
    options = parse(Toy, arguments, prog)
    folder = options.out or Path("toy", options.dataset)
    check_folder(folder, (RESULTS, *FIGURES, ANIMATION), overwrite=options.overwrite)
    result = run_toy(options, progress=True)
    if sys.stderr.isatty():
        print("drawing ...", end="\r", file=sys.stderr, flush=True)
    try:  # work is written before it is shown, and shown even if it cannot be written
        names = write(result, folder, animation=not options.no_animation)
    finally:
        print(report(result))
    print(f"\nIn {folder}: {', '.join(names)}")
    return 0


def write(result: ToyResult, folder: Path, *, animation: bool) -> list[str]:
    """Write results, figures and animation into the folder, all at once, and return the names of the files."""
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
    found = {name: result.methods.get(name, {}) for name in result.names}
    title = f"W2 to {result.dataset}, {result.samples} particles"
    return "\n".join(
        [
            *w2_table(title, result.seeds, result.steps, found),
            "",
            f"Floor (as many exact draws): {result.floor.w2}. Took {result.seconds:.1f} s.",
            *unequal(found),
            *skipped_lines(result.skipped),
        ]
    )


def w2_table(
    title: str, seeds: Sequence[int], steps: Sequence[int], methods: Mapping[str, Mapping[int, Summary]]
) -> list[str]:
    """Return the lines of a table of W2, a row a method, a column an N, with its title."""
    rows = [[name, *(str(cells[n].w2) if n in cells else "–" for n in steps)] for name, cells in methods.items()]
    spread = f"mean ± standard deviation of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    return [f"{title}, {spread}:", "", table(["method", *(f"N = {n}" for n in steps)], rows)]


def unequal(methods: Mapping[str, Mapping[int, Summary | Row]]) -> list[str]:
    """Return a sentence on the methods that take another number of evaluations than N, if there are some."""
    counts = {name: {n: cell.nfe for n, cell in cells.items()} for name, cells in methods.items()}
    words = [
        f"{name} takes {', '.join(map(str, of.values()))}" for name, of in counts.items() if [*of] != [*of.values()]
    ]
    return [f"Every step is one evaluation, but {'; '.join(words)} in all."] if words else []


def skipped_lines(skipped: Mapping[str, Mapping[int, str]]) -> list[str]:
    """Return a sentence on every method that is not defined somewhere."""
    return [
        f"Skipped {name} at N = {', '.join(map(str, reasons))}: {next(iter(reasons.values()))}."
        for name, reasons in skipped.items()
    ]
