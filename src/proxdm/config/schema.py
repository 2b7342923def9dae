"""The configuration of a training run: frozen dataclasses, and their strict JSON form.

A :class:`Config` says everything that a run depends on: data, model, objective, draws of the conditions, optimiser,
training and logging. It is resolved in the order preset, then a JSON file, then command-line flags, and stored in the
run and in every checkpoint, as the strict JSON of :mod:`proxdm.config.codec`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from proxdm.conditioning import ConditioningConfig, TrainingRange, make_draws
from proxdm.config import codec
from proxdm.config.codec import ConfigError, from_dict, merged, to_dict
from proxdm.data.load import DataConfig
from proxdm.losses import ObjectiveConfig
from proxdm.models import PARAMETRISATIONS, SCORE_PARAMETRISATIONS, LearnedModel, ProxModel, ScoreModel
from proxdm.networks import MLPConfig, UNetConfig, build_network
from proxdm.samplers import Sampler, find_sampler
from proxdm.schedules import VPSDE


@dataclass(frozen=True)
class ModelConfig:
    """A score model or a prox model.

    Attributes:
        kind: `score` (predicts noise at t) or `prox` (proximal operator at (t, lam)).
        shape: Shape of one sample, without the batch dimension: (C, H, W).
        network: Architecture; its conditioning is `time` for score and `time-lam` for prox.
        parametrisation: What the output of a prox network means: `epsilon` (residual) or `prox`. A score network
            predicts the noise: `epsilon`.
        beta_min: beta at t = 0 of the forward process.
        beta_max: beta at t = 1 of the forward process.
    """

    kind: Literal["score", "prox"] = "score"
    shape: tuple[int, ...] = (3, 32, 32)
    network: UNetConfig | MLPConfig = field(default_factory=UNetConfig)
    parametrisation: str = "epsilon"
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        """Reject models whose parts do not fit."""
        if self.kind not in ("score", "prox"):
            raise ConfigError(f"model.kind = {self.kind!r} is unknown; use 'score' or 'prox'")
        wanted = "time" if self.kind == "score" else "time-lam"
        if self.network.conditioning != wanted:
            raise ConfigError(
                f"model.network.conditioning = {self.network.conditioning!r} does not fit model.kind = {self.kind!r}; "
                f"use {wanted!r}"
            )
        (SCORE_PARAMETRISATIONS if self.kind == "score" else PARAMETRISATIONS).find(self.parametrisation)
        self._check_shape()
        _ = self.sde

    def _check_shape(self) -> None:
        size, network = math.prod(self.shape), self.network
        if not self.shape or size < 1:
            raise ConfigError(f"model.shape = {self.shape} must hold positive sizes, such as (3, 32, 32)")
        if isinstance(network, MLPConfig):
            if network.dim != size:
                raise ConfigError(
                    f"model.network.dim = {network.dim}, but model.shape = {self.shape} has {size} numbers: use {size}"
                )
            return
        if len(self.shape) != 3 or self.shape[0] != network.channels:
            raise ConfigError(
                f"model.shape = {self.shape} does not fit a U-Net of model.network.channels = {network.channels}; the "
                f"shape must be ({network.channels}, height, width)"
            )
        if network.out_channels not in (None, network.channels):
            raise ConfigError(
                f"model.network.out_channels = {network.out_channels} must be model.network.channels = "
                f"{network.channels}: the output has the shape of the input"
            )
        if any(side % network.size_multiple for side in self.shape[1:]):
            raise ConfigError(
                f"model.shape = {self.shape}: height and width must be multiples of {network.size_multiple} for this "
                "network (patch times 2^(levels - 1)); pad the data"
            )

    @property
    def sde(self) -> VPSDE:
        """Forward process."""
        return VPSDE(self.beta_min, self.beta_max)

    def build(self) -> LearnedModel:
        """Return the model with freshly initialised weights, this configuration in `model.config`.

        Initialisation draws from torch's global generator.
        """
        network = build_network(self.network)
        if self.kind == "score":
            return ScoreModel(network, self.sde, self.parametrisation, config=self)
        return ProxModel(network, self.sde, self.parametrisation, config=self)


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW, its learning rates and gradient clipping.

    Attributes:
        lr: Learning rate (of the proximal-matching phase, where there are two phases).
        l1_lr: Learning rate of the l1 phase; None means `lr`.
        warmup: Steps over which the learning rate rises linearly from 0.
        clip: Largest norm of the gradient; longer ones are shortened to it. None leaves them alone.
        betas: AdamW's decay rates of the first and the second moment.
        weight_decay: AdamW's decoupled weight decay.
        eps: AdamW's eps.
    """

    lr: float = 2e-4
    l1_lr: float | None = None
    warmup: int = 0
    clip: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Reject values out of range."""
        for name in ("lr", "l1_lr", "clip", "eps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"optimiser.{name} = {value} must be positive and finite")
        if self.warmup < 0 or not 0 <= self.weight_decay < math.inf:
            raise ConfigError(
                f"optimiser.warmup = {self.warmup} and optimiser.weight_decay = {self.weight_decay} must be at least 0"
            )
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimiser.betas = {self.betas} must both lie in [0, 1)")


@dataclass(frozen=True)
class TrainingConfig:
    """Length, batch, seed, averages and arithmetic of a run.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples per optimiser step, over all processes and accumulation.
        micro_batch: Most samples per process and forward pass; smaller means less memory, the same result. None: no
            limit.
        seed: Seed of the initial weights, the order of the data and every random number of the training.
        ema: Decays of the exponential moving averages of the weights; the first one samples by default.
        bf16: Run the network in bfloat16 autocast; weights, averages and losses stay float32.
        compile: Compile the network with torch.compile.
        channels_last: Keep images in channels-last memory format (faster convolutions on recent GPUs).
        patience: Consecutive steps with a loss or gradient that is not finite, which are skipped, before the run stops.
        device: `auto` (a GPU where there is one) or `cpu`.
    """

    steps: int = 100_000
    batch_size: int = 512
    micro_batch: int | None = None
    seed: int = 0
    ema: tuple[float, ...] = (0.9999,)
    bf16: bool = False
    compile: bool = False
    channels_last: bool = False
    patience: int = 10
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        """Reject values out of range."""
        counts = {"steps": self.steps, "batch_size": self.batch_size, "patience": self.patience}
        if self.micro_batch is not None:
            counts["micro_batch"] = self.micro_batch
        for name, value in counts.items():
            if value < 1:
                raise ConfigError(f"training.{name} = {value} must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"training.seed = {self.seed} must be at least 0")
        if any(not 0 < decay < 1 for decay in self.ema) or len(set(self.ema)) != len(self.ema):
            raise ConfigError(f"training.ema = {self.ema} must be different decays between 0 and 1, such as 0.9999")


@dataclass(frozen=True)
class LoggingConfig:
    """What a run writes, and how often; it has no influence on the weights.

    Attributes:
        every: Steps between two lines of log.jsonl.
        checkpoint_every: Steps between two checkpoints (one is always written at the end).
        keep: Checkpoints kept, the latest ones; 0 keeps all.
        preview_every: Steps between two grids of samples in previews/; 0 makes none.
        preview_samples: Samples of a preview grid, always from the same noise.
        preview_steps: Steps of its sampler.
        tracker: Where else the log goes: `none`, `tensorboard`, `wandb` or `trackio`.
    """

    every: int = 100
    checkpoint_every: int = 10_000
    keep: int = 3
    preview_every: int = 10_000
    preview_samples: int = 64
    preview_steps: int = 20
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"

    def __post_init__(self) -> None:
        """Reject values out of range."""
        for name, least in {
            "every": 1,
            "checkpoint_every": 1,
            "keep": 0,
            "preview_every": 0,
            "preview_samples": 1,
            "preview_steps": 1,
        }.items():
            if (value := getattr(self, name)) < least:
                raise ConfigError(f"logging.{name} = {value} must be at least {least}")


@dataclass(frozen=True)
class Config:
    """Everything that a training run depends on.

    Attributes:
        preset: Name of the preset it started from, or any name.
        data: Data set and what is done to it.
        model: Score model or prox model.
        objective: Loss and its phases.
        conditioning: Where, in t or (t, lam), the network is trained.
        optimiser: AdamW, learning rates, clipping.
        training: Length, batch, seed, averages, arithmetic.
        logging: What is written, and how often.
    """

    preset: str
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    conditioning: ConditioningConfig = field(
        default_factory=lambda: ConditioningConfig(rule=None, draw="continuous", steps=())
    )
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        """Reject parts that contradict each other."""
        if (self.model.kind == "prox") != (self.conditioning.rule is not None):
            raise ConfigError(
                f"conditioning.rule = {self.conditioning.rule!r} does not fit model.kind = {self.model.kind!r}: prox "
                "models need a proximal rule such as 'prox-hybrid', score models none"
            )
        if self.model.kind == "score" and (self.objective.loss, self.objective.target) != ("mse", "noise"):
            raise ConfigError(
                f"objective.loss = {self.objective.loss!r}, target = {self.objective.target!r} does not fit a score "
                "model, which predicts the noise: use 'mse' and 'noise'"
            )
        if self.objective.l1_steps and self.objective.l1_steps >= self.training.steps:
            raise ConfigError(
                f"objective.l1_steps = {self.objective.l1_steps} leaves nothing of training.steps = "
                f"{self.training.steps} for proximal matching; take fewer"
            )
        if self.optimiser.l1_lr is not None and not self.objective.l1_steps:
            raise ConfigError(
                f"optimiser.l1_lr = {self.optimiser.l1_lr} has no effect without an l1 phase: set objective.l1_steps"
            )
        make_draws(self.conditioning, self.model.sde)
        if self.logging.preview_every:
            self.preview_sampler.check(
                self.model.sde, self.preview_sampler.grid(self.model.sde, self.logging.preview_steps)
            )

    @property
    def preview_sampler(self) -> Sampler:
        """The rule of the previews' sampler: the one a prox model is trained for, `ode-euler` for score models."""
        return find_sampler(self.conditioning.rule or "ode-euler")

    def training_range(self) -> TrainingRange:
        """Return the `(t, lam)` that the network is trained on."""
        return TrainingRange(self.conditioning, self.model.sde)

    def parameter_count(self) -> int:
        """Return the number of parameters of the network, without building it."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build_network(self.model.network).parameters())


def from_json(text: str) -> Config:
    """Return the configuration that :func:`to_json` wrote. Fields that are missing take their defaults.

    Args:
        text: JSON.

    Raises:
        ConfigError: Not JSON, an unknown key, a wrong type, or values that contradict.
    """
    return codec.from_json(text, Config)


def overlay(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return `config` with the values of a (partial) dictionary in place of its own.

    Args:
        config: The base, e.g. a preset.
        changes: Nested like :func:`to_dict`. A `"type"` other than the base's starts from that type's defaults.

    Raises:
        ConfigError: An unknown key, a wrong type, or values that contradict.
    """
    return from_dict(merged(to_dict(config), changes), Config)
