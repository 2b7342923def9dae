"""A tiny run: 4x4 images, an MLP, a dozen steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig
from proxdm.losses import ObjectiveConfig
from proxdm.networks import MLPConfig

PROX = Config(
    "tiny",
    DataConfig("digits", flip="random"),
    ModelConfig("prox", (1, 4, 4), MLPConfig(16, 16, 1, dropout=0.2, conditioning="time-lam")),
    ObjectiveConfig("proximal-matching", "noise", 4, (2.0, 1.0)),
    ConditioningConfig("prox-hybrid", "knots", (5, 10), "log10"),
    OptimiserConfig(1e-3, 2e-3, warmup=3, clip=1.0),
    TrainingConfig(12, 8, ema=(0.9, 0.5), seed=3, device="cpu"),
    LoggingConfig(every=5, checkpoint_every=4, keep=0, preview_every=6, preview_samples=4, preview_steps=5),
)
SCORE = replace(
    PROX,
    model=ModelConfig("score", (1, 4, 4), MLPConfig(16, 16, 1, dropout=0.2)),
    objective=ObjectiveConfig(),
    conditioning=ConditioningConfig(None, "continuous", ()),
    optimiser=OptimiserConfig(1e-3),
)


@pytest.fixture
def prox_config() -> Config:
    """A prox model: l1 for 4 steps, then two stages of 4."""
    return PROX


@pytest.fixture
def score_config() -> Config:
    """A score model."""
    return SCORE


@pytest.fixture(scope="session")
def pictures() -> ImageData:
    """37 random pictures of 4x4."""
    images = torch.randint(0, 256, (37, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageData(images, "noise")
