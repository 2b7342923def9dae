"""What the verbs that evaluate models have in common: options, and the plan they ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from proxdm.data.known import Split
from proxdm.data.load import DataConfig
from proxdm.data.vae import DEFAULT_VAE
from proxdm.evaluation import EvaluationPlan
from proxdm.grids import GridName


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How a model is evaluated, whatever is made of its rows."""

    samples: Annotated[int, arg(aliases=("-n",))] = 50_000
    """Samples of a row."""

    reference: str | None = None
    """Statistics (.npz of `proxdm stats` or pytorch-fid), or a known data set, or a folder, archive or array of images;
    by default the data set that the model was trained on."""

    features: str = "inception"
    """inception (the FID's network), pixels, or the file of a TorchScript (.pt) or exported (.pt2) module."""

    seeds: int = 1
    """Number of seeds; the table then has mean and standard deviation."""

    seed: int = 0
    """The first seed; sample i depends on its seed and i alone."""

    grid: GridName | None = None
    """Times to go through; by default denoising for score samplers and uniform for prox samplers."""

    rho: float | None = None
    """Exponent of the power grid, 2 by default: above 1 there are more steps near the data."""

    eps: float | None = None
    """Last time before 0 of the denoising and log-snr grids, 0.001 by default."""

    batch_size: int = 1024
    """Samples after which the state is saved, rounded up to whole chunks; has no influence on the results."""

    chunk: int | None = None
    """Samples in one call of the network, by default up to 256 on CUDA and 128 elsewhere; another one may round a few
    pixels to the neighbouring grey level."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    weights: str | None = None
    """Weight set: ema-0.9999, raw; by default the moving average."""

    preset: str | None = None
    """Of the paper's .pth files: the preset they belong to, e.g. cifar10-prox-hybrid."""

    bf16: bool = False
    """Run the network in bfloat16: faster on GPUs, slightly different samples."""

    compile: bool = False
    """Compile the network first, which takes a minute or two: for many samples; may round a few pixels to the
    neighbouring grey level."""

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

    force: bool = False
    """Take statistics that were made by another route than the features; the number then means little."""

    vae: str = DEFAULT_VAE
    """Autoencoder that decodes the samples of latent models: a name on the hub, or a folder."""


def make_plan(
    options: Measuring, *, samplers: tuple[str, ...], steps: tuple[int, ...], metrics: tuple[str, ...]
) -> EvaluationPlan:
    """Return what the options ask for.

    Args:
        options: How.
        samplers: Names of rules, or `all`; empty is the one that the model was trained for.
        steps: Numbers of steps.
        metrics: Names of metrics.

    Raises:
        ValueError: A value is wrong, or would be ignored.
    """
    return EvaluationPlan(
        samplers=samplers,
        steps=steps,
        samples=options.samples,
        metrics=metrics,
        reference=reference(options),
        force=options.force,
        features=options.features,
        inception_weights=options.inception_weights,
        seed=options.seed,
        seeds=options.seeds,
        grid=options.grid,
        eps=options.eps,
        rho=options.rho,
        bf16=options.bf16,
        compile=options.compile,
        batch_size=options.batch_size,
        chunk=options.chunk,
        vae=options.vae,
    )


def reference(options: Measuring) -> str | DataConfig | None:
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
