"""`proxdm evaluate`: metrics of a trained model at several numbers of network evaluations."""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm.cli import parse
from proxdm.cli.tables import table
from proxdm.data.known import Split
from proxdm.data.load import DataConfig
from proxdm.data.vae import DEFAULT_VAE
from proxdm.evaluation import Evaluation, EvaluationPlan, EvaluationRow, evaluate
from proxdm.grids import GridName


@dataclass(frozen=True)
class Evaluate:
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

    samples: Annotated[int, arg(aliases=("-n",))] = 50_000
    """Samples of a row."""

    reference: str | None = None
    """Statistics (.npz of `proxdm stats` or pytorch-fid), or a known data set, or a folder, archive or array of images;
    by default the data set that the model was trained on."""

    features: str = "inception"
    """inception (the FID's network), pixels, or the file of a TorchScript (.pt) or exported (.pt2) module."""

    metrics: tuple[str, ...] = ("fid",)
    """fid (Fréchet distance, of all samples), kid, precision-recall (of the first 10,000), w2 (exact, of the pixels of
    the first 2,000), sliced-w2 (of the pixels of the first 10,000)."""

    seeds: int = 1
    """Number of seeds; the table then has mean and standard deviation."""

    seed: int = 0
    """The first seed; sample i depends on its seed and i alone."""

    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: evaluations/SOURCE)")] = None
    """Folder of the results."""

    grid: GridName | None = None
    """Times to go through; by default denoising for score samplers and uniform for prox samplers."""

    rho: float | None = None
    """Exponent of the power grid, 2 by default: above 1 there are more steps near the data."""

    eps: float | None = None
    """Last time before 0 of the denoising and log-snr grids, 0.001 by default."""

    batch_size: int = 1024
    """Samples after which the state is saved, rounded up to whole chunks; has no influence on the results."""

    chunk: int | None = None
    """Samples in one call of the network, by default up to 256 on CUDA and 64 elsewhere; another one may round a few
    pixels to the neighbouring grey level."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    weights: str | None = None
    """Weight set: ema-0.9999, raw; by default the moving average."""

    preset: str | None = None
    """Of the paper's .pth files: the preset they belong to, e.g. cifar10-prox-hybrid."""

    bf16: bool = False
    """Run the network in bfloat16: faster on GPUs, slightly different samples."""

    inception_weights: Path | None = None
    """File of the Inception weights, pt_inception-2015-12-05-6726825d.pth; by default it is downloaded once."""

    split: Split | None = None
    """Part of the reference, if that is a known data set."""

    root: str | None = None
    """Folder that holds the reference; by default PROXDM_DATA or ~/.cache/proxdm/data."""

    size: int | None = None
    """Cut the pictures of the reference to their central square and resize them to this."""

    grey: bool = False
    """Take the reference as grey."""

    vae: str = DEFAULT_VAE
    """Autoencoder that decodes the samples of latent models: a name on the hub, or a folder."""

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
            make_plan(options),
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


def make_plan(options: Evaluate) -> EvaluationPlan:
    """Return what the options ask for.

    Raises:
        ValueError: A value is wrong, or would be ignored.
    """
    return EvaluationPlan(
        samplers=options.sampler,
        steps=options.steps,
        samples=options.samples,
        metrics=options.metrics,
        reference=reference(options),
        features=options.features,
        inception_weights=options.inception_weights,
        seed=options.seed,
        seeds=options.seeds,
        grid=options.grid,
        eps=options.eps,
        rho=options.rho,
        bf16=options.bf16,
        batch_size=options.batch_size,
        chunk=options.chunk,
        vae=options.vae,
    )


def reference(options: Evaluate) -> str | DataConfig | None:
    """Return the reference: described in full where an option says more than its name.

    Raises:
        ValueError: Such an option is given without a name.
    """
    more = {"split": options.split, "root": options.root, "size": options.size, "grey": options.grey or None}
    given = {name: value for name, value in more.items() if value is not None}
    if not given:
        return options.reference
    if options.reference is None:
        raise ValueError(f"--{next(iter(given))} says how to read the reference: name it with --reference")
    config = DataConfig(options.reference, root=options.root, size=options.size, grey=options.grey)
    return config if options.split is None else replace(config, split=options.split)


def folder_name(source: str) -> str:
    """Return the name of a source as that of a folder: `runs/a` is `a`, `owner/name@main` is `name-main`."""
    name = Path(source).resolve().name if Path(source).exists() else source.rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", name.removesuffix(".safetensors").removesuffix(".pth")) or "model"


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
