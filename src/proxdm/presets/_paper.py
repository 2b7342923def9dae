"""What the presets of arXiv 2507.08956 have in common (its appendix on training)."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import LoggingConfig, ModelConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.networks import UNetConfig

ALL_STEPS = (5, 10, 20, 50, 100, 1000)
SUBSET_STEPS = (5, 10, 20)

MNIST = DataConfig("mnist")
CIFAR10 = DataConfig("cifar10", flip="random")
CELEBAHQ = DataConfig("celebahq-latents", flip="random")
"""Latents `(n, 4, 32, 32)` of `stabilityai/sd-vae-ft-ema`, which the user computes once."""

TIMES = ConditioningConfig(rule=None, draw="continuous", steps=())
"""Score: t uniform in (0, 1)."""

LOGGING = LoggingConfig(every=100, checkpoint_every=25_000, keep=3, preview_every=25_000)


def training(steps: int) -> TrainingConfig:
    """Return a run of that many steps of total batch 512 with EMA 0.9999."""
    return TrainingConfig(steps=steps, batch_size=512, ema=(0.9999,))


def mnist(prox: bool = False) -> ModelConfig:
    """Return the MNIST network: width 64, 32x32 grey."""
    return _model(prox, UNetConfig(1, 64, (1, 2, 2, 2), (1,), conditioning="time-lam" if prox else "time"))


def cifar10(prox: bool = False, parametrisation: str = "epsilon") -> ModelConfig:
    """Return the CIFAR-10 network: width 128, 32x32 colour."""
    network = UNetConfig(3, 128, (1, 2, 2, 2), (1,), conditioning="time-lam" if prox else "time")
    return _model(prox, network, parametrisation)


def celebahq(prox: bool = False) -> ModelConfig:
    """Return the CelebA-HQ network: width 128, on 32x32 latents of four channels."""
    return _model(prox, UNetConfig(4, 128, (1, 2, 4, 4), (1, 2, 3), conditioning="time-lam" if prox else "time"))


def _model(prox: bool, network: UNetConfig, parametrisation: str = "epsilon") -> ModelConfig:
    kind = "prox" if prox else "score"
    return ModelConfig(kind, (network.channels, 32, 32), network, parametrisation)  # type: ignore[arg-type]
