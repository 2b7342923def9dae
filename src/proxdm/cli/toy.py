"""`proxdm toy`: the paper's synthetic experiment, with figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from proxdm.cli import parse
from proxdm.cli.tables import table
from proxdm.experiments.toy import ToyPlan, ToyResult, run_toy
from proxdm.runtime.files import check_folder, staged
from proxdm.sweep import Results

RESULTS = "results.json"
FIGURES = ("particles.png", "particles.svg", "w2_vs_nfe.png", "w2_vs_nfe.svg", "animation.gif")


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
    check_folder(folder, (RESULTS, *FIGURES), overwrite=options.overwrite)
    result = run_toy(options, progress=True)
    return finish(folder, lambda: write(result, folder, animation=not options.no_animation), lambda: report(result))


def finish(folder: Path, write: Callable[[], list[str]], report: Callable[[], str]) -> int:
    """Write results and show them, and return the exit status: written first, and shown even if they cannot be."""
    if sys.stderr.isatty():
        print("drawing ...", end="\r", file=sys.stderr, flush=True)
    try:
        names = write()
    finally:
        print(report())
    print(f"\nIn {folder}: {', '.join(names)}")
    return 0


def write(result: ToyResult, folder: Path, *, animation: bool) -> list[str]:
    """Write results, figures and animation into the folder, all at once, and return the names of the files."""
    from proxdm.plotting import style, toy

    def draw(stage: Path) -> None:
        style.save(toy.particles(result), stage / "particles")
        style.save(toy.w2_vs_nfe(result), stage / "w2_vs_nfe")
        if animation and result.trajectories:
            toy.animation(result, stage / "animation.gif")

    return write_results(result.record(), draw, folder, FIGURES)


def write_results(
    record: Mapping[str, Any], draw: Callable[[Path], None], folder: Path, figures: Sequence[str]
) -> list[str]:
    """Write a record and what is drawn into the folder, all at once, and return the names of the files.

    Those of `figures` that are not drawn this time are removed, as they would show an earlier run.
    """
    with staged(folder, last=RESULTS) as stage:
        (stage / RESULTS).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        draw(stage)
        drawn = [name for name in figures if (stage / name).exists()]
    for name in set(figures) - set(drawn):
        (folder / name).unlink(missing_ok=True)
    return [RESULTS, *drawn]


def report(result: ToyResult) -> str:
    """Return the table of W2, with the time it took."""
    return w2_report(result, f"Took {result.seconds:.1f} s.")


def w2_report(result: Results, remark: str) -> str:
    """Return the table of W2, a row a method, a column an N, with the floor, and a sentence on what was skipped."""
    rows = [
        [name, *(str(cells[n].w2) if n in cells else "–" for n in result.steps)]
        for name, cells in result.methods.items()
    ]
    count = len(result.seeds)
    spread = f"mean ± standard deviation of {count} seeds" if count > 1 else f"seed {result.seeds[0]}"
    target = f"{result.target}, {result.formula}" if result.formula else result.target
    return "\n".join(
        [
            f"W2 to {target}, {result.samples} particles, {spread}:",
            "",
            table(["method", *(f"N = {n}" for n in result.steps)], rows),
            "",
            f"Floor (as many exact draws): {result.floor.w2}. {remark}",
            *remarks(result),
        ]
    )


def remarks(result: Results) -> list[str]:
    """Return sentences on methods that take another number of evaluations than N, and on those not defined there."""
    counts = {name: {n: cell.nfe for n, cell in cells.items()} for name, cells in result.methods.items()}
    words = [
        f"{name} takes {', '.join(map(str, of.values()))}" for name, of in counts.items() if [*of] != [*of.values()]
    ]
    unequal = [f"Every step is one evaluation, but {'; '.join(words)} in all."] if words else []
    return unequal + [
        f"Skipped {name} at N = {', '.join(map(str, reasons))}: {next(iter(reasons.values()))}."
        for name, reasons in result.skipped.items()
    ]
