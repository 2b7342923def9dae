"""`proxdm rates`: convergence rates of every sampler on targets with closed forms."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from proxdm.cli import parse
from proxdm.cli.tables import table
from proxdm.cli.toy import skipped_lines, unequal, w2_table
from proxdm.experiments.convergence import RatesPlan, run_rates
from proxdm.experiments.convergence_result import Fit, GaussianRates, MixtureRates, RatesResult
from proxdm.runtime.files import check_folder, staged

RESULTS = "results.json"
GAUSSIAN_FIGURES = ("kl_vs_n.png", "kl_vs_n.svg")
MIXTURE_FIGURES = ("w2_vs_n.png", "w2_vs_n.svg")


@dataclass(frozen=True)
class Rates(RatesPlan):  # noqa: D101 (that of the plan)
    __doc__ = RatesPlan.__doc__

    out: Annotated[Path, arg(metavar="DIR")] = Path("rates")
    """Folder of the results."""

    overwrite: bool = False
    """Replace the results of an earlier run."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status."""
    options = parse(Rates, arguments, prog)
    check_folder(options.out, (RESULTS, *GAUSSIAN_FIGURES, *MIXTURE_FIGURES), overwrite=options.overwrite)
    result = run_rates(options, progress=True)
    if sys.stderr.isatty():
        print("drawing ...", end="\r", file=sys.stderr, flush=True)
    try:  # work is written before it is shown, and shown even if it cannot be written
        names = write(result, options.out)
    finally:
        print(report(result))
    print(f"\nIn {options.out}: {', '.join(names)}")
    return 0


def write(result: RatesResult, folder: Path) -> list[str]:
    """Write results and figures into the folder, all at once, and return the names of the files.

    Figures of an earlier run that this run has no numbers for are removed, as they would show that run.
    """
    from proxdm.plotting import rates, style

    figures = [
        *(GAUSSIAN_FIGURES if result.gaussians else ()),
        *(MIXTURE_FIGURES if result.mixtures else ()),
    ]
    with staged(folder, last=RESULTS) as stage:
        (stage / RESULTS).write_text(json.dumps(result.record(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        if result.gaussians:
            style.save(rates.kl_vs_n(result), stage / "kl_vs_n")
        if result.mixtures:
            style.save(rates.w2_vs_n(result), stage / "w2_vs_n")
    for name in {*GAUSSIAN_FIGURES, *MIXTURE_FIGURES} - set(figures):
        (folder / name).unlink(missing_ok=True)
    return [RESULTS, *figures]


def report(result: RatesResult) -> str:
    """Return the tables of all targets, with sentences on slopes that are none, evaluations, and what was skipped."""
    parts = [*map(_gaussian, result.gaussians), *map(_mixture, result.mixtures)]
    return "\n\n".join([*parts, f"Took {result.seconds:.1f} s."])


def _gaussian(rates: GaussianRates) -> str:
    steps = sorted({n for cells in rates.methods.values() for n in cells})
    rows = []
    for name, cells in rates.methods.items():
        values = [f"{cells[n].metrics['kl']:.1e}" if n in cells else "–" for n in steps]
        slopes = [rates.fit(name), rates.fit(name, start="exact"), rates.fit(name, "w2", "exact")]
        rows.append([name, *values, *map(_slope, slopes), _slope(rates.order(name), -1)])
    fitted = next((fit.steps for name in rates.methods if (fit := rates.fit(name)) is not None), ())
    ordered = next((cells for cells in rates.orders.values() if cells), {})
    return "\n".join(
        [
            f"KL(output || target) on {rates.target}, {rates.formula}, from N(0, I), in closed form:",
            "",
            table(["method", *(f"N = {n}" for n in steps), "slope", "from p_1", "W2, from p_1", "order"], rows),
            "",
            f"Slopes: least squares in logarithms over N = {', '.join(map(str, fitted))} (the last three of a method); "
            "'bends' where no one slope fits.",
            f"Order: minus the slope of W2 over N = {', '.join(map(str, ordered))} on another grid, "
            f"{rates.order_grid}, from exact law to exact law, without a step to 0.",
            *_bends(rates),
            *unequal(rates.methods),
            *skipped_lines(rates.skipped),
        ]
    )


def _bends(rates: GaussianRates) -> list[str]:
    """Return a sentence on every method whose KL from N(0, I) has no one slope, or none to speak of, with numbers."""
    lines = []
    for name, cells in rates.methods.items():
        fit = rates.fit(name)
        if fit is None or (fit.straight and fit.slope < -1):
            continue
        n = max(cells)
        last = cells[n].last_step
        lines.append(
            f"{name} {'stalls' if fit.straight else 'bends'}: slopes "
            f"{', '.join(f'{slope:+.2f}' for slope in fit.local_slopes)} between N = {', '.join(map(str, fit.steps))}. "
            f"At N = {n} KL is {cells[n].metrics['kl']:.1e}; from p_1 {cells[n].exact['kl']:.1e}"
            + ("." if last is None else f"; of the last step alone, from the exact law, {last['kl']:.1e}.")
        )
    return lines


def _slope(fit: Fit | None, sign: int = 1) -> str:
    if fit is None:
        return "–"
    return f"{sign * fit.slope:.2f}" if fit.straight else "bends"


def _mixture(rates: MixtureRates) -> str:
    steps = sorted({n for cells in rates.methods.values() for n in cells})
    title = f"W2 to {rates.target}, {rates.formula}, {rates.samples} particles"
    return "\n".join(
        [
            *w2_table(title, rates.seeds, steps, rates.methods),
            "",
            f"Floor (as many exact draws): {rates.floor.w2}. Near it nothing can be told apart.",
            *unequal(rates.methods),
            *skipped_lines(rates.skipped),
        ]
    )
