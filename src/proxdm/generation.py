"""From a trained model and a plan to samples and pictures: what `sample`, `evaluate` and others share.

Sample i depends on its seed and i alone, not on the batch or the device. Nothing is written here.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm
from tyro.conf import arg

from proxdm._version import __version__
from proxdm.checkpoints.load import Opened, open_source
from proxdm.checkpoints.portable import model_config
from proxdm.config import Config, ModelConfig
from proxdm.data.vae import DEFAULT_VAE
from proxdm.errors import check_least
from proxdm.grids import GRIDS, TimeGrid, grid_parameters
from proxdm.imaging import can_draw
from proxdm.models import LearnedModel, ProxModel
from proxdm.noise import SeededNoise
from proxdm.operators import Ask, Model, label_indices, of_classes, offers, prox_from_denoiser
from proxdm.pixels import as_kept, is_image_shape
from proxdm.priors import DenoiserPrior, Prior, PriorError, load_prior, start_for
from proxdm.priors.base import describe as describe_prior
from proxdm.runtime.registry import check_parameters, format_call, parse_call
from proxdm.samplers import SAMPLERS, Sampler, SamplerState, find_sampler, solve
from proxdm.samplers.base import choose_prior
from proxdm.sweep import Method

USUAL_STEPS = 20
"""Steps where neither the user nor the training says otherwise."""

WARM_STEPS = 5
"""Steps where neither the user nor the training says otherwise, after a warm start."""

TUNED = "tuned"
"""In place of a grid: the one that `proxdm tune` has found for the sampler, N and prior, and stored with the model."""

MOST_FRAMES = 60
"""Frames of an animation at most."""

SAMPLERS_HELP = f"{', '.join(SAMPLERS)}, or diffusers:NAME; with parameters, e.g. 'ddim(eta=0.5)'"
GRIDS_HELP = (
    f"Times to go through: {', '.join(format_call(name, grid_parameters(name)) for name in GRIDS)}, or tuned, what "
    "`proxdm tune` found; parameters may be left out, and the number of steps comes from --steps; by default the usual "
    "grid of the sampler."
)

PRIOR_HELP = (
    "Prior that replaces the model at high noise: own (stored with the model), none, a file of `proxdm prior fit`, or "
    "denoiser:MODEL, a cheaper network whose evaluations are not counted; by default own for the sampler multistep, "
    "where there is one, and none for others."
)

CLASSES_HELP = (
    "Of a model of classes, names or numbers of those to draw, in turn; any is none in particular; by default all in "
    "turn."
)
GUIDANCE_HELP = (
    "Of a model of classes: 1 asks for the class alone, more (1.5, 3) for more typical pictures of it at two "
    "evaluations instead of one."
)

Decoder = Callable[[Tensor], Tensor]
"""From samples of a model `(B, *)` to pictures in [-1, 1]."""

Say = Callable[[str], None]
"""Takes one line for people."""


def warn(line: str) -> None:
    """Issue a line as a warning: what is done with lines where nobody takes them."""
    warnings.warn(line.removeprefix("warning: "), stacklevel=3)


def default_sampler(config: Config | ModelConfig) -> Sampler:
    """Return the sampler of a model unless one says otherwise: the one it was trained for.

    Score models: `multistep`. Prox models: the sampler of their training draws, else `prox-hybrid`.
    """
    if model_config(config).kind == "score":
        return find_sampler("multistep")
    trained = config.conditioning.rule if isinstance(config, Config) else None
    return find_sampler(trained or "prox-hybrid")


def default_steps(config: Config | ModelConfig) -> int:
    """Return the number of steps to sample with unless one says otherwise: 20, or the nearest that was trained on."""
    trained = config.conditioning.steps if isinstance(config, Config) and config.conditioning.draw == "knots" else ()
    return min(trained, key=lambda steps: abs(steps - USUAL_STEPS), default=USUAL_STEPS)


def fitting_samplers(kind: Literal["score", "prox"]) -> list[str]:
    """Return the names of the samplers that ask for what models of this kind were trained for."""
    return [name for name, sampler in SAMPLERS.items() if (sampler.operator == "prox") == (kind == "prox")]


def check_method(sampler: str | None, grid: str | None) -> None:
    """Check the texts of a sampler and a family of grids, where they are given."""
    if sampler is not None:
        find_sampler(sampler)
    if grid is not None and grid != TUNED:
        name, given = parse_call(grid)
        check_parameters(f"the grid {name}", given, grid_parameters(name))


def choose_method(
    model: LearnedModel,
    sampler: str | None = None,
    grid: str | None = None,
    prior: str | None = None,
    start: float | None = None,
    classes: tuple[str, ...] = (),
    guidance: float = 1.0,
) -> Method:
    """Return the sampler of that text, or the one that the model was trained for, with its grid, prior and start.

    A network that was trained on the knots of some grids starts at one of them, which leaves fewer steps.
    """
    chosen = default_sampler(model.config) if sampler is None else find_sampler(sampler)
    Ask(operand(model, chosen), chosen.operator)
    of_classes(model, label_indices(model.classes, classes, range(0)), guidance)
    told: dict[str, Any] = {"classes": classes, "guidance": guidance}
    wanted = {None: None, "own": True, "none": False}.get(prior, prior)
    found = choose_prior(model, chosen, named_prior(wanted, model) if isinstance(wanted, str) else wanted)
    knots = isinstance(model.config, Config) and model.config.conditioning.draw == "knots"
    if found is not None:
        check_prior(model, found)
        if start is None:
            if knots and chosen.operator == "prox":
                raise PriorError(
                    f"{chosen} needs a start, a ratio sigma / alpha (--start 1.5): its network was trained on the "
                    "knots of some grids, and starts at one of them"
                )
            start_for(found.curve, 1)  # which says so where there is no start to be had
    if grid == TUNED:
        name = method_name(chosen, found)
        if name not in model.grids:
            there = f"tuned are {', '.join(model.grids)}" if model.grids else "none is"
            raise ValueError(
                f"no grid of {name} is tuned for this model ({there}): proxdm tune MODEL --sampler {chosen}"
            )
        return Method(chosen, tuple(model.grids[name].items()), prior=found, start=start, **told)
    return Method(chosen, grid, prior=found, start=start, cut=knots and chosen.operator == "prox", **told)


def named_prior(text: str, model: LearnedModel) -> Prior:
    """Return the prior in a file, or of `denoiser:MODEL`, a cheaper network."""
    prefix, _, source = text.partition(":")
    if prefix != "denoiser":
        return load_prior(text)
    cheap = open_source(source, device=model.device).model
    if not offers(cheap, "denoiser"):
        raise PriorError(f"{source} is a {cheap.kind} model, and a prior needs a denoiser: name a score model")
    return DenoiserPrior(cheap, shape=tuple(model_config(cheap.config).shape))


def method_name(sampler: Sampler, prior: Prior | None) -> str:
    """Return what a tuned grid is kept under."""
    return repr(sampler) + (" and prior" if prior is not None else "")


def check_prior(model: LearnedModel, prior: Prior) -> None:
    """Check that a prior is one of what a model draws."""
    config = model.config
    shape = tuple(model_config(config).shape) if isinstance(config, Config | ModelConfig) else prior.shape
    if prior.shape != shape:
        raise PriorError(
            f"the prior is for samples of shape {prior.shape}, and the model's have {shape}; fit one to its data"
        )
    trained = config.data.name if isinstance(config, Config) else ""
    known = prior.facts.data if trained and not prior.facts.data.startswith("samples of") else ""
    if known and Path(known).name != Path(trained).name:  # of a folder its name counts, not its place
        raise PriorError(
            f"the prior was fitted to {prior.facts.data}, and the model was trained on {trained}; fit one to its data: "
            "proxdm prior fit MODEL"
        )


def operand(model: Model, sampler: Sampler) -> Model:
    """Return what a sampler runs on: the model, or for want of a prox its posterior mean."""
    if sampler.operator == "prox" and not offers(model, "prox") and offers(model, "denoiser"):
        return prox_from_denoiser(model)
    return model


def remarks(model: LearnedModel, sampler: Sampler, grid: TimeGrid) -> list[str]:
    """Return a line on everything that makes samples other than one may expect.

    That is: steps that the network was not trained for, and a prox that is only a posterior mean.
    """
    if operand(model, sampler) is not model:
        return [f"{sampler} runs on the posterior mean of a score model, in place of a prox"]
    if not isinstance(model.config, Config):
        return []
    if (line := model.config.training_range.describe_unseen(sampler, grid)) is None:
        return []
    if isinstance(model, ProxModel):
        model.warned = True  # this line says more than the one that the model would give
    return [f"warning: {line}; expect poor samples"]


@contextmanager
def arithmetic(device: torch.device, *, bf16: bool = False) -> Iterator[None]:
    """Compute without gradients by algorithms that always round in the same way, networks in bfloat16 if wanted."""
    cudnn = torch.backends.cudnn
    flags = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32)
    with torch.no_grad(), flags, torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        yield


def draw(
    model: LearnedModel,
    method: Method,
    grid: TimeGrid,
    seed: int,
    indices: range,
    *,
    shape: tuple[int, ...] | None = None,
    callback: Callable[[SamplerState], None] | None = None,
) -> SamplerState:
    """Return samples of a set by their numbers, in the last state of the sampler; `shape` is of one without config."""
    noise = SeededNoise(seed, indices, shape or model_config(model.config).shape, device=model.device)
    labels = label_indices(model.classes, method.classes, indices)
    asked = operand(of_classes(model, labels, method.guidance), method.sampler)
    prior = None if method.prior is None else method.prior.given(labels)
    return solve(method.sampler, asked, grid, noise, prior=prior, callback=callback)


def said_of(model: LearnedModel, method: Method) -> dict[str, Any]:
    """Return what results say of a method besides its name, in plain types; nothing of what is as usual."""
    return {
        **({} if operand(model, method.sampler) is model else {"operator": "posterior-mean"}),
        **({} if method.prior is None else {"prior": describe_prior(method.prior)}),
        **({"classes": list(method.classes)} if method.classes else {}),
        **({"guidance": method.guidance} if model.classes else {}),
    }


def has_latents(model: LearnedModel) -> bool:
    """Return whether the samples of a model are latents `(C, H, W)` of an autoencoder."""
    shape = model_config(model.config).shape
    raw = model.vae is not None or (isinstance(model.config, Config) and model.config.data.values == "raw")
    return len(shape) == 3 and (raw or (shape[0] == 4 and not is_image_shape(shape)))


def make_decoder(model: LearnedModel, vae: str | None = None) -> tuple[tuple[int, ...], Decoder]:
    """Return the shape of what a model draws, latents decoded to pictures, and what turns its samples into it."""
    shape = tuple(model_config(model.config).shape)
    if not has_latents(model):
        return shape, lambda x: x
    channels, height, width = shape
    from proxdm.data.vae import load_vae

    vae = vae or model.vae or DEFAULT_VAE
    coder = load_vae(vae, device=model.device)
    if (its := int(coder.module.config.latent_channels)) != channels:
        raise ValueError(
            f"the autoencoder {vae} has latents of {its} channels, and the model's have {channels}; name another "
            "(--vae)"
        )
    scale = coder.reduction
    return (3, height * scale, width * scale), coder.decode


@dataclass(frozen=True)
class SamplePlan:
    """How to draw samples."""

    sampler: Annotated[str | None, arg(help=f"{SAMPLERS_HELP}; by default what the model was trained for.")] = None
    steps: int | None = None  # Number of steps; by default 20, or the nearest that was trained.
    samples: Annotated[int, arg(aliases=("-n",))] = 64  # Number of samples.
    seed: int = 0  # Seed of all random numbers; sample i depends on it and i alone.
    grid: Annotated[str | None, arg(help=GRIDS_HELP)] = None
    prior: Annotated[str | None, arg(help=PRIOR_HELP)] = None
    # Ratio sigma / alpha to start from, with a prior; by default where the model begins to gain over it.
    start: float | None = None
    classes: Annotated[tuple[str, ...], arg(name="class", metavar="NAME", help=CLASSES_HELP)] = ()
    guidance: Annotated[float, arg(help=GUIDANCE_HELP)] = 1.0
    batch_size: int = 64  # Samples computed at a time; has no influence on them.
    bf16: bool = False  # Run the network in bfloat16: faster on GPUs, slightly different samples.
    # Autoencoder that decodes the samples of latent models: a name on the hub, or a folder; by default the pipeline's
    # own, or stabilityai/sd-vae-ft-ema.
    vae: str | None = None
    latents: bool = False  # Leave the samples of latent models as they are.

    def __post_init__(self) -> None:
        """Check every value that does not need the model."""
        check_least(1, samples=self.samples, batch_size=self.batch_size, steps=self.steps)
        check_least(0, seed=self.seed)
        check_method(self.sampler, self.grid)


@dataclass(frozen=True, eq=False)
class Generated:
    """What :func:`generate` has drawn."""

    samples: Tensor  # uint8 pictures `(n, C, H, W)`, or samples that are none, `(n, *)`; empty if they were handed on
    frames: tuple[Tensor, ...]  # The first samples on their way from noise, each uint8 `(k, C, H, W)`
    record: dict[str, Any]  # How they were made, in plain types: source, weights, sampler, grid, steps, nfe, seed, ...
    device: torch.device  # Where
    seconds: float  # Time of the sampler and the decoder
    classes: tuple[str, ...] = ()  # Names of the classes that the samples have in turn; none of a model without classes


def generate(
    source: str | Path | Opened,
    plan: SamplePlan,
    *,
    weights: str | None = None,
    preset: str | None = None,
    device: str | torch.device = "auto",
    pictures: bool = False,
    frames: int = 0,
    each: Callable[[int, Tensor], None] | None = None,
    progress: bool = False,
    say: Say = warn,
) -> Generated:
    """Draw the samples of a plan."""
    opened = source if isinstance(source, Opened) else open_source(source, weights, preset, device=device)
    model = opened.model
    method = choose_method(model, plan.sampler, plan.grid, plan.prior, plan.start, plan.classes, plan.guidance)
    steps = plan.steps or (WARM_STEPS if method.prior is not None else default_steps(model.config))
    sampler, grid = method.sampler, method.times(model.schedule, steps)
    sampler.check(model.schedule, grid)
    decode = _decoder(model, plan, pictures=pictures or frames > 0)
    for line in (*opened.remarks, *remarks(model, sampler, grid)):
        say(line)
    chosen = torch.linspace(0, grid.steps, min(grid.steps + 1, MOST_FRAMES)).round().int().tolist() if frames else []
    watched: dict[int, list[Tensor]] = {step: [] for step in chosen}
    kept: list[Tensor] = []
    evaluations, nfe, started = method.evaluations(grid), 0, time.perf_counter()
    total = math.ceil(plan.samples / plan.batch_size) * evaluations
    with (
        arithmetic(model.device, bf16=plan.bf16),
        tqdm(total=total, desc=str(sampler), unit="NFE", leave=False, disable=None if progress else True) as bar,
    ):
        for start in range(0, plan.samples, plan.batch_size):

            def after(state: SamplerState, start: int = start) -> None:
                bar.update(start // plan.batch_size * evaluations + state.nfe - bar.n)
                if state.step in watched and start < frames and decode is not None:
                    watched[state.step].append(as_kept(decode(state.x[: frames - start])).cpu())

            indices = range(start, min(start + plan.batch_size, plan.samples))
            state = draw(model, method, grid, plan.seed, indices, callback=after)
            batch, nfe = (state.x if decode is None else as_kept(decode(state.x))).cpu(), state.nfe
            if each is None:
                kept.append(batch)
            else:
                each(start, batch)
    return Generated(
        torch.cat(kept) if kept else torch.empty(0),
        tuple(torch.cat(parts) for parts in watched.values()),
        {**_record(source, opened, plan, method, grid), "nfe": nfe},
        model.device,
        time.perf_counter() - started,
        plan.classes or model.classes,
    )


def _decoder(model: LearnedModel, plan: SamplePlan, *, pictures: bool) -> Decoder | None:
    """Return what turns samples into what is kept of them; None where latents are to be left as they are."""
    shape, decode = tuple(model_config(model.config).shape), None
    if plan.latents and not has_latents(model):
        raise ValueError(f"--latents is for latent models; the samples of this one have shape {shape}")
    if not plan.latents:
        shape, decode = make_decoder(model, plan.vae)
    if pictures and (plan.latents or not can_draw(shape)):
        raise ValueError(
            f"samples of shape {shape} are neither pictures of 1 or 3 channels nor points in the plane; write them to "
            "an .npz file with --out"
        )
    return decode


def _record(source: object, opened: Opened, plan: SamplePlan, method: Method, grid: TimeGrid) -> dict[str, Any]:
    """Return how samples are made, in plain types."""
    return {
        "source": type(opened.model).__name__ if isinstance(source, Opened) else str(source),
        "preset": getattr(opened.model.config, "preset", None),
        "weights": opened.weights,
        "sampler": method.name,
        "grid": grid.name,
        "steps": grid.steps,
        "samples": plan.samples,
        "seed": plan.seed,
        "bf16": plan.bf16,
        "proxdm": __version__,
        "torch": torch.__version__,
        **said_of(opened.model, method),
    }
