"""`proxdm prior`: fit the prior that lets samplers begin where a model begins to matter, and look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitSubcommandPrefixes, Positional, arg, subcommand

from proxdm.checkpoints.load import open_source, rewrite, store_with
from proxdm.checkpoints.store import PRIOR_FILE
from proxdm.cli.options import ModelOptions, speaker
from proxdm.cli.tables import table
from proxdm.data.load import DataConfig, load_data
from proxdm.errors import DataError, OutputError
from proxdm.fitting import PriorPlan, fit_model_prior, held_images, in_words
from proxdm.metrics.neighbours import copying
from proxdm.pixels import to_model_range
from proxdm.plotting.prior import draw_prior, prior_samples
from proxdm.priors import Prior, PriorError, load_prior, save_prior, start_for
from proxdm.priors.gain import THRESHOLDS


@dataclass(frozen=True, kw_only=True)
class Fit(ModelOptions, PriorPlan):
    """Fit a prior to the data of a model, find where the model gains over it, and store it with the model.

    Sampling then takes it by itself: proxdm sample MODEL --steps 2.
    """

    # A run, a checkpoint, a model file or folder, a repository on the hub (owner/name), or one of the paper's .pth
    # files.
    source: Annotated[Positional[str], arg(metavar="MODEL")]
    # A .safetensors file for the prior alone; needed where the model is not on this disk in a form of its own.
    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: with the model)")] = None
    figure: Path | None = None  # Also draw it: a .png, and an .svg beside it.
    overwrite: bool = False  # Replace a prior that is there.


@dataclass(frozen=True)
class Show:
    """Say what a prior is, where samplers start with it, and whether it copies; draw it if wanted."""

    source: Annotated[Positional[str], arg(metavar="PRIOR|MODEL")]  # The file of a prior, or a model that has one.
    figure: Path | None = None  # Draw the gain curve, the components and samples: a .png, and an .svg beside it.


@dataclass(frozen=True)
class Priors:
    """The prior of a model: what replaces it at high noise for nothing, so that few evaluations give good samples."""

    command: OmitSubcommandPrefixes[Annotated[Fit, subcommand("fit")] | Annotated[Show, subcommand("show")]]


def run(options: Priors, prog: str) -> int:
    """Run the verb and return the exit status."""
    command = options.command
    if isinstance(command, Show):
        path = Path(command.source)
        prior = load_prior(path) if path.is_file() else open_source(command.source).model.prior
        if prior is None:
            raise PriorError(f"{command.source} has no prior; fit one: proxdm prior fit {command.source}")
    else:
        prior = fit(command, prog)
    print("\n".join(describe(prior)))
    if command.figure is not None:
        stem = command.figure.with_suffix("")
        stem.parent.mkdir(parents=True, exist_ok=True)
        print(f"\nfigure: {draw_prior(prior, stem)[0]}")
    return 0


def fit(options: Fit, prog: str) -> Prior:
    """Fit a prior and write it where it belongs."""
    place, found = (options.out, None) if options.out else store_with(options.source, options.weights, PRIOR_FILE)
    if options.out is not None and options.out.suffix != ".safetensors":
        raise ValueError(f"--out = {options.out} must end in .safetensors")
    model = options.open(options.source).model
    if not options.overwrite and (place.is_file() if options.out else model.prior is not None):
        raise OutputError(f"{place} has a prior already; replace it (--overwrite), or write another (--out)")
    prior = fit_model_prior(model, plan=options)
    if found is not None:
        model.prior = prior
        rewrite(model, found)
    else:
        save_prior(prior, place, overwrite=options.overwrite)
    speaker(prog)(f"written to {place}")
    return prior


def describe(prior: Prior) -> list[str]:
    """Return what is said of a prior: sizes, starts, gains and copying, line by line."""
    facts = prior.facts
    lines = [in_words(prior), f"fitted to {facts.data or 'unnamed images'}, values {facts.low:.3g} to {facts.high:.3g}"]
    if (curve := prior.curve) is not None:
        rows = [[f"{s:g}", f"{value:.3f}"] for s, value in zip(curve.ratios, curve.gains, strict=True)]
        levels = ", ".join(f"{start_for(curve, n):.3g} (N = {n})" for n in range(1, len(THRESHOLDS) + 1))
        lines += [f"starts: {levels} and more", "", f"gains on {curve.images} held images:"]
        lines += ["", table(["ratio", "gain"], rows), ""]
    try:
        seen, held = load_data(facts.data).images, held_images(DataConfig(facts.data), 5_000)
    except DataError:
        return [*lines, f"copying: not counted, {facts.data or 'the data'} cannot be found by that name"]
    if held is None:
        return [*lines, f"copying: not counted, {facts.data} has no part that nothing saw"]
    order = seen[:: max(1, len(seen) // len(held))][: len(held)]
    ratio, share = copying(prior_samples(prior, 500), to_model_range(order), to_model_range(held.images))
    return [
        *lines,
        f"copying of the prior's own samples: median ratio {ratio:.3f}, share {share:.2f} (1 and 0.5: none)",
    ]
