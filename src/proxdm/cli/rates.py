"""`proxdm rates`: convergence rates of every sampler on targets with closed forms."""

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
from proxdm.experiments.convergence import run_rates
from proxdm.experiments.convergence_plan import DEFAULT_TARGETS, MIXTURE_STEPS, MIXTURES, STEPS, TARGETS, RatesPlan
from proxdm.experiments.convergence_result import Fit, GaussianRates, MixtureCell, MixtureRates, RatesResult
from proxdm.grids import GridName
from proxdm.rules import Quadrature
from proxdm.runtime.files import check_folder, staged

RESULTS = "results.json"
GAUSSIAN_FIGURES = ("kl_vs_n.png", "kl_vs_n.svg")
MIXTURE_FIGURES = ("w2_vs_n.png", "w2_vs_n.svg")

_STEPS = f"{' '.join(map(str, STEPS))}; on mixtures {' '.join(map(str, MIXTURE_STEPS))}"


@dataclass(frozen=True)
class Rates:
    """Convergence rates: the error of every sampler against its number of steps, on targets with closed forms.

    On Gaussian targets KL and W2 of the output law are exact, from N(0, I) and from p_1, and a slope is fitted to the
    last three points; on mixtures W2 is measured by exact transport, beside what exact draws give. Prints tables and
    writes results.json and figures (PNG and SVG).
    """

    target: Annotated[tuple[str, ...], arg(help=f"Targets, out of {', '.join((*TARGETS, *MIXTURES))}.")] = (
        DEFAULT_TARGETS
    )

    steps: Annotated[tuple[int, ...] | None, arg(help_behavior_hint=f"(default: {_STEPS})")] = None
    """Numbers of steps, each at least 1."""

    methods: Annotated[tuple[str, ...] | None, arg(help_behavior_hint="(default: all)")] = None
    """Samplers, by the names in the table."""

    grid: GridName | None = None
    """Times that every sampler goes through; by default each has its own: denoising for score samplers, uniform for
    prox samplers."""

    rho: float | None = None
    """Exponent of the power grid, 2 by default: above 1 there are more steps near the data."""

    eps: float | None = None
    """Last time before 0 of the denoising and log-snr grids, 0.001 by default."""

    quadrature: Quadrature | None = None
    """Step size of every sampler: left, beta(t) (t - s), or integral; by default the one of its rule."""

    samples: Annotated[int | None, arg(help_behavior_hint="(default: 1000)")] = None
    """Particles of a run on mixtures."""

    seed: Annotated[int | None, arg(help_behavior_hint="(default: 0)")] = None
    """First seed on mixtures; the others follow it."""

    seeds: Annotated[int | None, arg(help_behavior_hint="(default: 3)")] = None
    """Number of seeds on mixtures: distances are mean and spread over them."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("rates")
    """Folder of the results."""

    overwrite: bool = False
    """Replace the results of an earlier run."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    options = parse(Rates, arguments, prog)
    plan = make_plan(options)  # all that can be wrong is looked at before the work, and before a folder is made
    check_folder(options.out, (RESULTS, *GAUSSIAN_FIGURES, *MIXTURE_FIGURES), overwrite=options.overwrite)
    result = run_rates(plan, progress=True)
    print(report(result))
    if sys.stderr.isatty():
        print("drawing ...", end="\r", file=sys.stderr, flush=True)
    names = write(result, options.out)
    print(f"\nIn {options.out}: {', '.join(names)}")
    return 0


def make_plan(options: Rates) -> RatesPlan:
    """Return what the options ask for.

    Raises:
        ValueError: A value is wrong, or would be ignored.
    """
    return RatesPlan(
        targets=options.target,
        steps=options.steps,
        methods=options.methods,
        grid=options.grid,
        eps=options.eps,
        rho=options.rho,
        quadrature=options.quadrature,
        samples=options.samples,
        seed=options.seed,
        seeds=options.seeds,
    )


def write(result: RatesResult, folder: Path) -> list[str]:
    """Write results and figures into the folder, all at once, and return the names of the files.

    Figures of an earlier run that this run has no numbers for are removed, as they would show that run.

    Args:
        result: What was measured.
        folder: Where to, an existing folder; files of the same names are replaced.
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
    """Return the tables of all targets and a line on every slope that is none and every method that was skipped."""
    parts = [*map(_gaussian, result.gaussians), *map(_mixture, result.mixtures)]
    return "\n\n".join([*parts, f"Took {result.seconds:.1f} s."])


def _gaussian(rates: GaussianRates) -> str:
    steps = sorted({n for cells in rates.methods.values() for n in cells})
    rows = []
    for name, cells in rates.methods.items():
        values = [f"{cells[n].normal.kl:.1e}" if n in cells else "–" for n in steps]
        slopes = [rates.fit(name), rates.fit(name, start="exact"), rates.fit(name, "w2", "exact")]
        rows.append([name, *values, *map(_slope, slopes)])
    fitted = next((fit.steps for name in rates.methods if (fit := rates.fit(name)) is not None), ())
    return "\n".join(
        [
            f"KL(output || target) on {rates.target}, {rates.formula}, from N(0, I), in closed form:",
            "",
            table(["method", *(f"N = {n}" for n in steps), "slope", "from p_1", "W2, from p_1"], rows),
            "",
            f"Slopes: least squares in logarithms over N = {', '.join(map(str, fitted))} (the last three of a method); "
            "'bends' where no one slope fits.",
            *_bends(rates),
            *_skipped(rates.skipped),
        ]
    )


def _bends(rates: GaussianRates) -> list[str]:
    """Return a sentence with measured numbers on every method whose KL from N(0, I) has no one slope."""
    lines = []
    for name, cells in rates.methods.items():
        fit = rates.fit(name)
        if fit is None or fit.straight:
            continue
        n = max(cells)
        lines.append(
            f"{name} bends: slopes {', '.join(f'{slope:+.2f}' for slope in fit.local)} between N = "
            f"{', '.join(map(str, fit.steps))}. At N = {n} KL is {cells[n].normal.kl:.1e}; from p_1 "
            f"{cells[n].exact.kl:.1e}; of the last step alone, from the exact law, {cells[n].last_step.kl:.1e}."
        )
    return lines


def _slope(fit: Fit | None) -> str:
    if fit is None:
        return "–"
    return f"{fit.slope:.2f}" if fit.straight else "bends"


def _mixture(rates: MixtureRates) -> str:
    def cell(value: MixtureCell | None) -> str:
        return "–" if value is None else str(value.w2)

    steps = sorted({n for cells in rates.methods.values() for n in cells})
    rows = [[name, *(cell(cells.get(n)) for n in steps)] for name, cells in rates.methods.items()]
    many = len(rates.seeds) > 1
    seeds = f"mean ± standard deviation of {len(rates.seeds)} seeds" if many else f"seed {rates.seeds[0]}"
    return "\n".join(
        [
            f"W2 to {rates.target}, {rates.formula}, {rates.samples} particles, {seeds}:",
            "",
            table(["method", *(f"N = {n}" for n in steps)], rows),
            "",
            f"Floor (as many exact draws): {cell(rates.floor)}. Near it nothing can be told apart.",
            *_skipped(rates.skipped),
        ]
    )


def _skipped(skipped: Mapping[str, Mapping[int, str]]) -> list[str]:
    return [
        f"Skipped {name} at N = {', '.join(map(str, reasons))}: {next(iter(reasons.values()))}."
        for name, reasons in skipped.items()
    ]
