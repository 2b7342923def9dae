"""The configuration of a training run: frozen dataclasses, and their strict JSON form.

A :class:`Config` says everything that a run depends on: data, model, objective, draws of the conditions, optimiser,
training and logging. It is resolved in the order preset, then a JSON file, then command-line flags, and stored in the
run and in every checkpoint, as the strict JSON of :mod:`proxdm.config.codec`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import torch
from cattrs.gen import make_dict_unstructure_fn, override
from torch import nn

from proxdm.conditioning import ConditioningConfig, TrainingRange, make_draws
from proxdm.config import codec
from proxdm.config.codec import ConfigError as ConfigError
from proxdm.config.codec import differences as differences
from proxdm.config.codec import to_dict as to_dict
from proxdm.data.load import DataConfig
from proxdm.errors import check_at_least, check_choices
from proxdm.losses import ObjectiveConfig
from proxdm.models import PARAMETRISATIONS, SCORE_PARAMETRISATIONS, LearnedModel, ProxModel, ScoreModel
from proxdm.networks import NETWORKS, NetworkConfig, UNetConfig, parameter_count
from proxdm.samplers import Sampler, find_sampler
from proxdm.schedules import SCHEDULES, VPSDE, Schedule

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig:
    """A score model or a prox model."""

    # `score` (score or denoiser at t) or `prox` (proximal operator at (t, lam)).
    kind: Literal["score", "prox"] = "score"
    shape: tuple[int, ...] = (3, 32, 32)  # Shape of one sample, without the batch dimension: (C, H, W).
    # Architecture, an entry of :data:`~proxdm.networks.NETWORKS`.
    network: NetworkConfig = field(default_factory=UNetConfig)
    # What the output of the network means: a name in :data:`~proxdm.models.SCORE_PARAMETRISATIONS` or
    # :data:`~proxdm.models.PARAMETRISATIONS`.
    parametrisation: str = "epsilon"
    # How data turn into noise, one of :data:`~proxdm.schedules.SCHEDULES`.
    schedule: Schedule = field(default_factory=VPSDE)
    # Names of the classes that the network is told of, as many as `network.classes`.
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Reject models whose parts do not fit."""
        check_choices(self, "model.", ConfigError)
        if not self.shape or math.prod(self.shape) < 1:
            raise ConfigError(f"model.shape = {self.shape} must hold positive sizes, such as (3, 32, 32)")
        (SCORE_PARAMETRISATIONS if self.kind == "score" else PARAMETRISATIONS).find(self.parametrisation)
        if (told := getattr(self.network, "classes", len(self.classes))) != len(self.classes):
            raise ConfigError(f"model.classes names {len(self.classes)} classes, model.network.classes = {told}")
        if (check := getattr(self.network, "check", None)) is not None:
            try:
                check(self.shape, self.conditions)
            except ValueError as error:
                raise ConfigError(f"model.network does not fit the {self.kind} model: {error}") from error

    @property
    def conditions(self) -> int:
        """What the network is told besides x: 1, `t`, for score models; 2, `t` and `lam`, for prox models."""
        return 1 if self.kind == "score" else 2

    def build(self, network: nn.Module | None = None) -> LearnedModel:
        """Return the model, this configuration in `model.config`."""
        kind = ScoreModel if self.kind == "score" else ProxModel
        network = self.network.build(self.shape, self.conditions) if network is None else network
        model = kind(network, self.schedule, self.parametrisation, config=self)
        model.classes = self.classes
        return model

    def parameter_count(self) -> int:
        """Return the number of parameters of the network, without room for them."""
        with torch.device("meta"):
            return parameter_count(self.build().network)


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW, its learning rates and gradient clipping."""

    lr: float = 2e-4  # Learning rate (of the proximal-matching phase, where there are two phases).
    l1_lr: float | None = None  # Learning rate of the l1 phase; None means `lr`.
    warmup: int = 0  # Steps over which the learning rate rises linearly from 0.
    clip: float | None = None  # Largest norm of the gradient; longer ones are shortened to it. None leaves them alone.
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW's decay rates of the first and the second moment.
    weight_decay: float = 0.01  # AdamW's decoupled weight decay.
    eps: float = 1e-8  # AdamW's eps.
    # The learning rate after the warm-up: `constant`; `cosine`, down to a hundredth at the last step; `inverse-sqrt`,
    # `1 / sqrt(step / decay_from)` from step `decay_from` on (Karras et al. 2024, EDM2).
    schedule: Literal["constant", "cosine", "inverse-sqrt"] = "constant"
    decay_from: int = 10_000  # First step of the fall of `inverse-sqrt`.

    def __post_init__(self) -> None:
        """Reject values out of range."""
        for name in ("lr", "l1_lr", "clip", "eps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"optimiser.{name} = {value} must be positive and finite")
        check_at_least(self, "optimiser.", ConfigError, warmup=0, weight_decay=0, decay_from=1)
        check_choices(self, "optimiser.", ConfigError)
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimiser.betas = {self.betas} must both lie in [0, 1)")


@dataclass(frozen=True)
class TrainingConfig:
    """Length, batch, seed, averages and arithmetic of a run."""

    steps: int = 100_000  # Optimiser steps.
    batch_size: int = 512  # Samples per optimiser step, over all processes and accumulation.
    # Most samples per process and forward pass; smaller means less memory, the same result but for dropout, whose
    # random numbers depend on how a batch is cut. None: no limit.
    micro_batch: int | None = None
    seed: int = 0  # Seed of the initial weights, the order of the data and every random number of the training.
    # Decays of the exponential moving averages of the weights; the first one samples by default.
    ema: tuple[float, ...] = (0.9999,)
    # Warm the decays up: min(decay, (1 + n) / (10 + n)) at step n, so that short runs forget their start.
    ema_warmup: bool = False
    # Share of the samples whose label is left out, of models with classes: they learn of any class, for guidance.
    label_dropout: float = 0.1
    bf16: bool = False  # Run the network in bfloat16 autocast; weights, averages and losses stay float32.
    compile: bool = False  # Compile the network with torch.compile.
    channels_last: bool = False  # Keep images in channels-last memory format (faster convolutions on recent GPUs).
    # Consecutive steps with a loss or gradient that is not finite, which are skipped, before the run stops.
    patience: int = 10
    device: Literal["auto", "cpu"] = "auto"  # `auto` (a GPU where there is one) or `cpu`.
    # Share of the samples that is held out, evenly, and that the squared error of the average is taken on at every
    # checkpoint; the checkpoint of the lowest one is kept. 0 holds out none.
    validation: float = 0.0
    # Stop where that error has not fallen for so many checkpoints; 0 goes on to the last step.
    stop_after: int = 0

    def __post_init__(self) -> None:
        """Reject values out of range."""
        check_choices(self, "training.", ConfigError)
        check_at_least(
            self, "training.", ConfigError, steps=1, batch_size=1, micro_batch=1, patience=1, seed=0, stop_after=0
        )
        if not 0 <= self.validation <= 0.5:
            raise ConfigError(f"training.validation = {self.validation} must lie in [0, 0.5], such as 0.05")
        if self.stop_after and not self.validation:
            raise ConfigError(f"training.stop_after = {self.stop_after} needs held samples: set training.validation")
        if not 0 <= self.label_dropout < 1:
            raise ConfigError(f"training.label_dropout = {self.label_dropout} must lie in [0, 1)")
        if any(not 0 < decay < 1 for decay in self.ema) or len(set(self.ema)) != len(self.ema):
            raise ConfigError(f"training.ema = {self.ema} must be different decays between 0 and 1, such as 0.9999")


@dataclass(frozen=True)
class LoggingConfig:
    """What a run writes, and how often; it has no influence on the weights."""

    every: int = 100  # Steps between two lines of log.jsonl.
    checkpoint_every: int = 10_000  # Steps between two checkpoints (one is always written at the end).
    keep: int = 3  # Checkpoints kept, the latest ones; 0 keeps all.
    preview_every: int = 10_000  # Steps between two grids of samples in previews/; 0 makes none.
    preview_samples: int = 64  # Samples of a preview grid, always from the same noise.
    preview_steps: int = 20  # Steps of its sampler.
    prior: bool = True  # Fit a prior at the end, from which few evaluations give good samples.
    # Where else the log goes: `none`, `tensorboard`, `wandb` or `trackio`.
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"

    def __post_init__(self) -> None:
        """Reject values out of range."""
        check_choices(self, "logging.", ConfigError)
        check_at_least(self, "logging.", ConfigError, every=1, checkpoint_every=1, keep=0)
        check_at_least(self, "logging.", ConfigError, preview_every=0, preview_samples=1, preview_steps=1)


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on."""

    preset: str  # Name of the preset it started from, or any name.
    data: DataConfig  # Data set and what is done to it.
    model: ModelConfig = field(default_factory=ModelConfig)  # Score model or prox model.
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)  # Loss and its phases.
    # Where, in t or (t, lam), the network is trained.
    conditioning: ConditioningConfig = field(default_factory=partial(ConditioningConfig, None, "continuous", ()))
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)  # AdamW, learning rates, clipping.
    training: TrainingConfig = field(default_factory=TrainingConfig)  # Length, batch, seed, averages, arithmetic.
    logging: LoggingConfig = field(default_factory=LoggingConfig)  # What is written, and how often.
    # Modules of own networks, samplers and data sets that were imported for it (`--import`). A record: nothing is
    # imported because a file names it.
    imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Reject parts that contradict each other."""
        objective, rule = self.objective, self.conditioning.rule
        if (self.model.kind == "prox") != (rule is not None):
            raise ConfigError(
                f"conditioning.rule = {rule!r} does not fit model.kind = {self.model.kind!r}: prox models need a "
                "proximal rule such as 'prox-hybrid', score models none"
            )
        objective.check(self.model.kind)
        if objective.l1_steps and objective.l1_steps >= self.training.steps:
            raise ConfigError(
                f"objective.l1_steps = {objective.l1_steps} leaves nothing of training.steps = {self.training.steps} "
                "for proximal matching; take fewer"
            )
        if self.optimiser.l1_lr is not None and not objective.l1_steps:
            raise ConfigError(f"optimiser.l1_lr = {self.optimiser.l1_lr} needs an l1 phase: set objective.l1_steps")
        make_draws(self.conditioning, self.model.schedule)
        if self.logging.preview_every:
            grid = self.preview_sampler.grid(self.model.schedule, self.logging.preview_steps)
            self.preview_sampler.check(self.model.schedule, grid)

    @property
    def preview_sampler(self) -> Sampler:
        """The sampler of the previews: the one a prox model is trained for, `ode-euler` for score models."""
        return find_sampler(self.conditioning.rule or "ode-euler")

    def of_classes(self, names: tuple[str, ...]) -> Config:
        """Return the configuration of a model of classes: labelled data, and a network that is told of them."""
        network: Any = self.model.network
        if not hasattr(network, "classes"):
            raise ConfigError(f"the network {type(network).__name__} has no field `classes`, and takes no labels")
        model = replace(self.model, classes=names, network=replace(network, classes=len(names)))
        return replace(self, data=replace(self.data, labels=True), model=model)

    @cached_property
    def training_range(self) -> TrainingRange:
        """Return the `(t, lam)` that the network is trained on."""
        return TrainingRange(self.conditioning, self.model.schedule)


codec.register_tagged(NetworkConfig, NETWORKS, "network")
codec.register_tagged(Schedule, SCHEDULES, "schedule")
codec.converter.register_unstructure_hook(
    Config, make_dict_unstructure_fn(Config, codec.converter, imports=override(omit_if_default=True))
)


def to_json(config: object) -> str:
    """Return a configuration as indented JSON; a VPSDE is written as `beta_min` and `beta_max` of the model."""
    data = to_dict(config)
    model = data.get("model", data)
    if isinstance(model, dict) and model.get("schedule", {}).get("type") == "vpsde":
        model |= {key: value for key, value in model.pop("schedule").items() if key != "type"}
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def from_json(text: str, kind: type[T] = Config) -> T:  # type: ignore[assignment]
    """Return the configuration that :func:`to_json` wrote; a ConfigError names what is wrong with any other text."""
    return from_dict(codec.parse_json(text), kind)


def from_dict(data: Any, kind: type[T] = Config) -> T:  # type: ignore[assignment]
    """Return the configuration that a plain dictionary describes; fields that are missing take their defaults."""
    try:
        return codec.from_dict(_with_schedule(data), kind)
    except codec.UnknownTypeError as error:
        names = " ".join(map(str, data.get("imports") or ["MODULE"]))
        raise codec.UnknownTypeError(f"{error}; an own one is made known by --import {names}") from error


def overlay(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return `config` with the values of a (partial) dictionary in place of its own."""
    return from_dict(codec.merged(to_dict(config), _with_schedule(changes)), Config)


def _with_schedule(data: Any) -> Any:
    """Return the dictionary of a configuration or a model with the `beta_min` and `beta_max` of a model in a VPSDE."""
    if not isinstance(data, Mapping):
        return data
    if "model" in data:
        return {**data, "model": _with_schedule(data["model"])}
    betas = {key: data[key] for key in ("beta_min", "beta_max") if key in data}
    others = {key: value for key, value in data.items() if key not in betas}
    return {**others, "schedule": {"type": "vpsde", **betas}} if betas else data
