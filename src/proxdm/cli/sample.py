"""`proxdm sample`: pictures from a trained model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional, arg

from proxdm import imaging
from proxdm._version import __version__
from proxdm.checkpoints.load import Opened, open_source
from proxdm.checkpoints.portable import model_config
from proxdm.cli import parse
from proxdm.cli.sample_output import TRAJECTORY, Frames, Target, choose_target, write
from proxdm.data.images import to_uint8
from proxdm.generation import (
    Decoder,
    GridChoice,
    choose_rule,
    default_steps,
    has_latents,
    make_decoder,
    outside_training,
)
from proxdm.grids import GridName, TimeGrid
from proxdm.models import LearnedModel
from proxdm.noise import SeededNoise
from proxdm.rules import Rule, find_rule
from proxdm.runtime.device import choose_device
from proxdm.samplers import SamplerState, check_steps, run


@dataclass(frozen=True)
class Sample:
    """Draw samples from a trained model and write them as a grid, a folder of pictures, an array or an animation.

    Sample i depends on the seed and i alone: asking for more samples, or in other batches, does not change it.
    """

    source: Positional[str]
    """A run, a checkpoint, a model file or folder, a repository on the hub (owner/name), or one of the paper's .pth
    files."""

    sampler: str | None = None
    """euler-maruyama, ode-euler, prox-hybrid, prox-backward, prox-ode, ...; by default what the model was trained
    for."""

    steps: int | None = None
    """Number of steps, which is the number of network evaluations; by default 20, or the nearest that was trained."""

    samples: Annotated[int, arg(aliases=("-n",))] = 64
    """Number of samples."""

    seed: int = 0
    """Seed of all random numbers."""

    out: Annotated[Path, arg(aliases=("-o",))] = Path("samples.png")
    """A .png (one grid), .npz (array `samples`) or .gif file (from noise to samples); any other name is a folder of
    numbered PNG files."""

    grid: GridName | None = None
    """Times to go through; by default denoising for score samplers and uniform for prox samplers."""

    rho: float | None = None
    """Exponent of the power grid, 2 by default: above 1 there are more steps near the data."""

    eps: float | None = None
    """Last time before 0 of the denoising and log-snr grids, 0.001 by default."""

    batch_size: int = 64
    """Samples computed at a time; has no influence on them."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    weights: str | None = None
    """Weight set: ema-0.9999, raw; by default the moving average."""

    preset: str | None = None
    """Of the paper's .pth files: the preset they belong to, e.g. cifar10-prox-hybrid."""

    bf16: bool = False
    """Run the network in bfloat16: faster on GPUs, slightly different samples."""

    columns: int | None = None
    """Pictures in a row of the grid."""

    trajectory_gif: bool = False
    """Also write an animation of the first samples on their way from noise, beside the output."""

    vae: str = "stabilityai/sd-vae-ft-ema"
    """Autoencoder that decodes the samples of latent models: a name on the hub, or a folder."""

    latents: bool = False
    """Write the samples of latent models as they are (.npz only)."""

    overwrite: bool = False
    """Replace what is there."""


@dataclass(frozen=True)
class Plan:
    """How to sample.

    Attributes:
        rule: The sampler.
        grid: Its times.
    """

    rule: Rule
    grid: TimeGrid


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    options = parse(Sample, arguments, prog)
    check_numbers(options)
    target = choose_target(options.out, gif=options.trajectory_gif)
    target.check(options.samples, overwrite=options.overwrite)
    opened = open_source(options.source, options.weights, options.preset, device=choose_device(options.device))
    model = opened.model
    plan = make_plan(options, model)
    shape = model_config(model.config).shape
    decode, pictures = decoder(options, model, shape)
    if not pictures and (target.kind != "npz" or options.trajectory_gif):
        raise ValueError(
            f"samples of shape {shape} are no pictures of 1 or 3 channels; write them to an .npz file with --out"
        )
    if (unseen := outside_training(model, plan.rule, plan.grid)) is not None:
        print(f"{prog}: warning: {unseen}; expect poor samples", file=sys.stderr)
    started = time.perf_counter()
    nfe = generate(options, opened, plan, target, decode, pictures=pictures)
    seconds = time.perf_counter() - started
    print(
        f"{options.samples} samples by {plan.rule.name} on {plan.grid.name}, {nfe} evaluations each, in "
        f"{seconds:.1f} s on {model.device}: {target.path}" + (f" and {target.gif}" if target.gif else "")
    )
    return 0


def check_numbers(options: Sample) -> None:
    """Check what can be wrong without a model.

    Raises:
        ValueError: A count below 1, a negative seed, or a setting that would be ignored.
    """
    counts = {"samples": options.samples, "batch-size": options.batch_size, "columns": options.columns}
    for name, count in {**counts, "steps": options.steps}.items():
        if count is not None and count < 1:
            raise ValueError(f"--{name} = {count} must be at least 1")
    if options.seed < 0:
        raise ValueError(f"--seed = {options.seed} must be at least 0")
    grid_choice(options)
    if options.sampler is not None:
        find_rule(options.sampler)


def grid_choice(options: Sample) -> GridChoice:
    """Return which times to go through."""
    return GridChoice(options.grid, options.eps, options.rho)


def make_plan(options: Sample, model: LearnedModel) -> Plan:
    """Return the sampler and its grid, checked against the model.

    Args:
        options: Of the command line.
        model: The model.

    Raises:
        OperatorError: The sampler needs a score and the model has a prox, or the other way round.
        StepError: A step is not defined on the grid.
        ValueError: The grid cannot be made, or a setting would be ignored.
    """
    rule = choose_rule(options.sampler, model)
    grid = grid_choice(options).make(rule, options.steps or default_steps(model.config), model)
    check_steps(rule, grid, model.sde)
    return Plan(rule, grid)


def decoder(options: Sample, model: LearnedModel, shape: Sequence[int]) -> tuple[Decoder, bool]:
    """Return what turns samples into what is written, and whether that is pictures.

    Raises:
        DataError: The samples are latents, and the autoencoder cannot be had.
        ValueError: `--latents` for samples that are none, or an autoencoder of other latents.
    """
    latents = has_latents(model)
    if options.latents and not latents:
        raise ValueError(f"--latents is for latent models; the samples of {options.source} have shape {tuple(shape)}")
    if options.latents or not (latents or imaging.is_image_shape(shape)):
        return (lambda x: x), False
    return make_decoder(model, options.vae)[1], True


def generate(options: Sample, opened: Opened, plan: Plan, target: Target, decode: Decoder, *, pictures: bool) -> int:
    """Draw all samples, write them, and return the network evaluations of each.

    Args:
        options: Of the command line.
        opened: The model.
        plan: Sampler and grid.
        target: Where to.
        decode: Applied to every batch.
        pictures: Whether the result is pictures, to be rounded to uint8.

    Raises:
        NonFiniteError: Samples are not finite; nothing is written.
    """
    metadata: dict[str, Any] = {
        "source": options.source,
        "preset": getattr(opened.model.config, "preset", None),
        "weights": opened.weights,
        "sampler": plan.rule.name,
        "grid": plan.grid.name,
        "steps": plan.grid.steps,
        "samples": options.samples,
        "seed": options.seed,
        "bf16": options.bf16,
        "proxdm": __version__,
        "torch": torch.__version__,
    }
    watched = options.samples if target.kind == "gif" else min(options.samples, TRAJECTORY) if target.gif else 0
    frames = Frames(plan.grid.steps, watched)

    def batches() -> Iterator[tuple[int, Tensor]]:
        for start, state in batched(options, opened.model, plan, lambda i, s: frames.add(i, s, decode)):
            metadata["nfe"] = state.nfe
            batch = decode(state.x)
            yield start, (to_uint8(batch) if pictures else batch).cpu()

    write(target, batches(), frames, metadata, columns=options.columns)
    nfe: int = metadata["nfe"]
    return nfe


def batched(
    options: Sample, model: LearnedModel, plan: Plan, watch: Callable[[int, SamplerState], None]
) -> Iterator[tuple[int, SamplerState]]:
    """Yield number of the first sample and last state of every batch.

    Args:
        options: Of the command line.
        model: The model.
        plan: Sampler and grid.
        watch: Called with the number of the first sample and every state.
    """
    starts = range(0, options.samples, options.batch_size)
    shape = model_config(model.config).shape
    with tqdm(total=len(starts) * plan.grid.steps, desc=plan.rule.name, unit="step", leave=False, disable=None) as bar:
        for start in starts:
            indices = range(start, min(start + options.batch_size, options.samples))
            noise = SeededNoise(options.seed, indices, shape, device=model.device)

            def after(state: SamplerState, start: int = start) -> None:
                watch(start, state)
                bar.update(state.step > 0)

            with torch.autocast(model.device.type, torch.bfloat16) if options.bf16 else nullcontext():
                state = run(model, plan.rule, plan.grid, noise, callback=after)
            yield start, state
