"""`proxdm rates`: convergence rates of every sampler on targets with closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from proxdm.cli.tables import table, write_and_show
from proxdm.cli.toy import RESULTS, remarks, w2_report
from proxdm.experiments.convergence import GaussianRates, RatesPlan, RatesResult, run_rates
from proxdm.runtime.files import check_folder
from proxdm.sweep import Fit

FILES = (RESULTS, "kl_vs_n.png", "kl_vs_n.svg", "w2_vs_n.png", "w2_vs_n.svg")


@dataclass(frozen=True)
class Rates(RatesPlan):  # noqa: D101 (that of the plan)
    __doc__ = RatesPlan.__doc__

    out: Annotated[Path, arg(metavar="DIR")] = Path("rates")  # Folder of the results.
    overwrite: bool = False  # Replace the results of an earlier run.


def run(options: Rates, prog: str) -> int:
    """Run the verb and return the exit status."""
    check_folder(options.out, FILES, overwrite=options.overwrite)
    result = run_rates(options, progress=True)

    def draw(stage: Path) -> None:
        from proxdm.plotting import experiments, style

        if result.gaussians:
            style.save(experiments.kl_vs_n(result), stage / "kl_vs_n")
        if result.mixtures:
            style.save(experiments.w2_vs_n(result), stage / "w2_vs_n")

    write_and_show(result.record(), draw, options.out, FILES, lambda: report(result))
    return 0


def report(result: RatesResult) -> str:
    """Return the tables of all targets, with sentences on slopes that are none, evaluations, and what was skipped."""
    mixtures = [w2_report(one, "Near it nothing can be told apart.") for one in result.mixtures]
    return "\n\n".join([*map(_gaussian, result.gaussians), *mixtures, f"Took {result.seconds:.1f} s."])


def _gaussian(rates: GaussianRates) -> str:
    rows = []
    for name in rates.names:
        kl = rates.values(name, "kl")
        values = [f"{kl[n]:.1e}" if n in kl else "–" for n in rates.steps]
        slopes = [_slope(rates.fit(name, metric)) for metric in ("kl", "exact_kl", "exact_w2")]
        rows.append([name, *values, *slopes, _slope(rates.order(name), -1)])
    fitted = next((fit.steps for name in rates.names if (fit := rates.fit(name)) is not None), ())
    ordered = next((cells for cells in rates.orders.values() if cells), {})
    return "\n".join(
        [
            f"KL(output || target) on {rates.target}, {rates.formula}, from N(0, I), in closed form:",
            "",
            table(["method", *(f"N = {n}" for n in rates.steps), "slope", "from p_1", "W2, from p_1", "order"], rows),
            "",
            f"Slopes: least squares in logarithms over N = {', '.join(map(str, fitted))} (the last three of a method); "
            "'bends' where no one slope fits.",
            f"Order: minus the slope of W2 over N = {', '.join(map(str, ordered))} on another grid, "
            f"{rates.order_grid}, from exact law to exact law, without a step to 0.",
            *_bends(rates),
            *remarks(rates),
        ]
    )


def _bends(rates: GaussianRates) -> list[str]:
    """Return a sentence on every method whose KL from N(0, I) has no one slope, or none to speak of, with numbers."""
    lines = []
    for name in rates.names:
        fit = rates.fit(name)
        if fit is None or (fit.straight and fit.slope < -1):
            continue
        n, cell = max(rates.methods[name].items())
        kl, exact, *last = (
            f"{cell.metrics[metric].mean:.1e}" for metric in ("kl", "exact_kl", "last_kl") if metric in cell.metrics
        )
        lines.append(
            f"{name} {'stalls' if fit.straight else 'bends'}: slopes "
            f"{', '.join(f'{slope:+.2f}' for slope in fit.local_slopes)} between N = {', '.join(map(str, fit.steps))}. "
            f"At N = {n} KL is {kl}; from p_1 {exact}"
            + (f"; of the last step alone, from the exact law, {last[0]}." if last else ".")
        )
    return lines


def _slope(fit: Fit | None, sign: int = 1) -> str:
    if fit is None:
        return "–"
    return f"{sign * fit.slope:.2f}" if fit.straight else "bends"
