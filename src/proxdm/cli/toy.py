"""`proxdm toy`: the paper's synthetic experiment, with figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from proxdm.cli.tables import table, write_and_show
from proxdm.experiments.toy import ToyPlan, ToyResult, run_toy
from proxdm.runtime.files import check_folder
from proxdm.sweep import Results

RESULTS = "results.json"
FILES = (RESULTS, "particles.png", "particles.svg", "w2_vs_nfe.png", "w2_vs_nfe.svg", "animation.gif")


@dataclass(frozen=True)
class Toy(ToyPlan):  # noqa: D101 (that of the plan)
    __doc__ = ToyPlan.__doc__

    # Folder of the results.
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: toy/DATASET)")] = None
    overwrite: bool = False  # Replace the results of an earlier run.
    no_animation: bool = False  # Leave the animation out.


def run(options: Toy, prog: str) -> int:
    """Run the experiment, write its results, and return the exit status."""
    folder = options.out or Path("toy", options.dataset)
    check_folder(folder, FILES, overwrite=options.overwrite)
    result = run_toy(options, progress=True)
    finish(result, folder, animation=not options.no_animation)
    return 0


def finish(result: ToyResult, folder: Path, *, animation: bool) -> None:
    """Write results, figures and animation into the folder, all at once, and show the table."""
    from proxdm.plotting import experiments, style

    def draw(stage: Path) -> None:
        style.save(experiments.particles(result), stage / "particles")
        style.save(experiments.w2_vs_nfe(result), stage / "w2_vs_nfe")
        if animation and result.trajectories:
            experiments.animation(result, stage / "animation.gif")

    write_and_show(result.record(), draw, folder, FILES, lambda: report(result))


def report(result: ToyResult) -> str:
    """Return the table of W2, with the time it took."""
    return w2_report(result, f"Took {result.seconds:.1f} s.")


def w2_report(result: Results, remark: str) -> str:
    """Return the table of W2, a row a method, a column an N, with the floor, and a sentence on what was skipped."""
    rows = [
        [name, *(cells[n].w2.text() if n in cells else "–" for n in result.steps)]
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
            f"Floor (as many exact draws): {result.floor.w2.text()}. {remark}",
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
