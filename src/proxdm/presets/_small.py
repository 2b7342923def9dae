"""What the presets for small machines have in common. Ours, no paper's."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import LoggingConfig, ModelConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.networks import MLPConfig, UNetConfig

DINO = DataConfig("datasaurus-dino")
DIGITS = DataConfig("digits")
FASHION_MNIST = DataConfig("fashion-mnist")

TIMES = ConditioningConfig(rule=None, draw="continuous", steps=())
"""Score: t uniform in (0, 1)."""

DINO_TRAINING = TrainingConfig(steps=20_000, batch_size=128, ema=(0.999,))
DINO_LOGGING = LoggingConfig(every=100, checkpoint_every=2_000, keep=2, preview_every=2_000, preview_samples=1_000)

DIGITS_TRAINING = TrainingConfig(steps=4_000, batch_size=64, ema=(0.999,))
DIGITS_LOGGING = LoggingConfig(every=50, checkpoint_every=1_000, keep=2, preview_every=1_000)

FASHION_TRAINING = TrainingConfig(steps=4_000, batch_size=64, ema=(0.999,), channels_last=True)
FASHION_LOGGING = LoggingConfig(every=100, checkpoint_every=1_000, keep=2, preview_every=2_000)


def digits(prox: bool = False) -> ModelConfig:
    """Return a U-Net of width 24 for 8x8 images."""
    network = UNetConfig(1, 24, (1, 2), (1,), 1, 0.05, conditioning="time-lam" if prox else "time")
    return ModelConfig("prox" if prox else "score", (1, 8, 8), network)


def fashion_mnist(prox: bool = False) -> ModelConfig:
    """Return a U-Net of width 24 that works on 2x2 patches of 32x32 images: 16x16 inside, 4x4 at the coarsest."""
    network = UNetConfig(1, 24, (1, 2, 2), (2,), 1, 0.05, conditioning="time-lam" if prox else "time", patch=2)
    return ModelConfig("prox" if prox else "score", (1, 32, 32), network)


def points(prox: bool = False) -> ModelConfig:
    """Return an MLP of width 128 for points of the plane."""
    network = MLPConfig(2, 128, 4, conditioning="time-lam" if prox else "time")
    return ModelConfig("prox" if prox else "score", (2,), network)
