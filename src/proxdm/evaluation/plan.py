"""What is to be measured: samplers x numbers of steps x seeds, on which features, against what, by which metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from tyro.conf import arg

from proxdm.checkpoints.portable import model_config
from proxdm.data.known import Split
from proxdm.data.load import DataConfig
from proxdm.errors import check_least
from proxdm.generation import (
    CLASSES_HELP,
    GRIDS_HELP,
    GUIDANCE_HELP,
    PRIOR_HELP,
    SAMPLERS_HELP,
    check_method,
    choose_method,
    fitting_samplers,
    remarks,
)
from proxdm.metrics.features import FEATURES_HELP, WEIGHTS_HELP
from proxdm.metrics.registry import METRICS, metrics_help
from proxdm.models import LearnedModel
from proxdm.samplers import Sampler
from proxdm.sweep import Cell, Method, Skipped, make_cells

ALL = "all"
"""Instead of the name of a sampler: every one that asks for what the model was trained for."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What to measure; every combination of sampler, number of steps and seed is one row."""

    samplers: Annotated[
        tuple[str, ...],
        arg(
            name="sampler",
            help=f"{SAMPLERS_HELP}, or all that fit the model.",
            help_behavior_hint="(default: what the model was trained for)",
        ),
    ] = ()
    steps: tuple[int, ...] = (5, 10, 20)  # Numbers of steps.
    samples: Annotated[int, arg(aliases=("-n",))] = 50_000  # Samples of a row.
    metrics: Annotated[tuple[str, ...], arg(help=f"{metrics_help()}.")] = ("fid",)
    # What to compare with: statistics (.npz of `proxdm stats` or pytorch-fid), or a known data set, or a folder,
    # archive or array of images.
    reference: Annotated[
        str | Path | DataConfig | None,
        arg(constructor=str | None, help_behavior_hint="(default: what the model was trained on)"),
    ] = None
    split: Split | None = None  # Part of the reference, if that is a known data set.
    root: str | None = None  # Folder that holds the reference; by default PROXDM_DATA or ~/.cache/proxdm/data.
    size: int | None = None  # Cut the pictures of the reference to their central square and resize them to this.
    grey: bool = False  # Take the reference as grey.
    # Images that nothing was fitted to, for the metric copying; by default the test part of a known data set.
    held: str | None = None
    # Take statistics that were made by another route than the features; the number then means little.
    force: bool = False
    features: Annotated[str, arg(help=FEATURES_HELP)] = "inception"
    inception_weights: Annotated[Path | None, arg(help=WEIGHTS_HELP)] = None
    seed: int = 0  # The first seed; sample i of a row depends on its seed and i alone.
    seeds: int = 1  # Number of seeds: seed, seed + 1, ...; tables then have mean and standard deviation.
    grid: Annotated[str | None, arg(help=GRIDS_HELP)] = None
    prior: Annotated[str | None, arg(help=PRIOR_HELP)] = None
    # Ratio sigma / alpha to start from, with a prior; by default where the model begins to gain over it.
    start: float | None = None
    classes: Annotated[tuple[str, ...], arg(name="class", metavar="NAME", help=CLASSES_HELP)] = ()
    guidance: Annotated[float, arg(help=GUIDANCE_HELP)] = 1.0
    bf16: bool = False  # Run the network in bfloat16: faster on GPUs, slightly different samples.
    # Compile the network first, which takes a minute or two: for many samples; may round a few pixels to the
    # neighbouring grey level.
    compile: bool = False
    # Samples after which the state is saved, rounded up to whole chunks; has no influence on the results.
    batch_size: int = 1024
    # Samples in one call of the network, always the same ones; by default up to 256 on CUDA and 128 elsewhere; another
    # number may round a few pixels to the neighbouring grey level.
    chunk: int | None = None
    # Autoencoder that decodes the samples of latent models: a name on the hub, or a folder; by default the pipeline's
    # own, or stabilityai/sd-vae-ft-ema.
    vae: str | None = None

    def __post_init__(self) -> None:
        """Check every value that does not need the model."""
        check_least(1, batch_size=self.batch_size, seeds=self.seeds, chunk=self.chunk, samples=self.samples)
        check_least(1, steps=min(self.steps, default=None))
        check_least(0, seed=self.seed)
        for metric in self.metrics:
            if self.samples < (least := METRICS.find(metric).least):
                raise ValueError(f"samples = {self.samples} are too few for {metric}, which needs {least} at least")
        for sampler in self.samplers or (ALL,):
            check_method(None if sampler == ALL else sampler, self.grid)
        _ = self.compared_with

    @property
    def compared_with(self) -> str | Path | DataConfig | None:
        """The reference: described in full where the plan says more than its name."""
        said = {"split": self.split, "root": self.root, "size": self.size, "grey": self.grey or None}
        more: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        if more and self.reference is None:
            raise ValueError(f"--{next(iter(more))} says how to read the reference: name it with --reference")
        if not more:
            return self.reference
        named = self.reference if isinstance(self.reference, DataConfig) else DataConfig(str(self.reference))
        return replace(named, **more)

    def methods(self, model: LearnedModel) -> list[Method]:
        """Return the samplers with their grids."""
        fitting = fitting_samplers(model_config(model.config).kind)
        texts = [text for name in self.samplers for text in (fitting if name == ALL else [name])]
        rest = (self.grid, self.prior, self.start, self.classes, self.guidance)
        return [choose_method(model, text, *rest) for text in texts or (None,)]

    def cells(self, model: LearnedModel) -> tuple[list[Cell], list[Skipped]]:
        """Return the rows by sampler, then steps, then seed, and those that are not defined."""
        if not self.steps or not self.metrics:
            raise ValueError("there is nothing to measure: give at least one number of steps and one metric")
        seeds = range(self.seed, self.seed + self.seeds)
        return make_cells(self.methods(model), self.steps, seeds, model.schedule)


def unusual(model: LearnedModel, cells: Iterable[Cell]) -> list[str]:
    """Return a line on every sampler whose samples will be other than one may expect."""
    found: dict[Sampler, tuple[str, list[int]]] = {}
    for sampler, grid in dict.fromkeys((cell.method.sampler, cell.grid) for cell in cells):
        for line in remarks(model, sampler, grid):
            found.setdefault(sampler, (line, []))[1].append(grid.steps)
    return [
        f"{line} (and for N = {', '.join(map(str, steps[1:]))})"
        if len(steps) > 1 and line.startswith("warning")
        else line
        for line, steps in found.values()
    ]


def default_chunk(device: torch.device, shape: Sequence[int]) -> int:
    """Return how many samples `(C, H, W)` or of another shape a network is given at a time.

    On CUDA up to 256, of 2^20 pixels together; elsewhere up to 128, of 2^16 pixels, which is 64 samples of 32x32: of
    more pixels than that the activations no longer fit the caches of a CPU. It depends on the kind of device and the
    shape alone, as does the rounding of the network.
    """
    most, pixels = (256, 2**20) if device.type == "cuda" else (128, 2**16)
    return max(1, min(most, pixels // math.prod(shape[-2:])))
