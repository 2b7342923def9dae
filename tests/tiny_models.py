"""Tiny models of digits with random weights, whose samples are far from each other."""

from __future__ import annotations

import dataclasses

import torch

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, ModelConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.networks import UNetConfig

NETWORK = UNetConfig(1, 8, (1, 2), (1,), 1, conditioning="time-lam")
PROX = Config(
    preset="tiny",
    data=DataConfig("digits", limit=100),
    model=ModelConfig("prox", (1, 8, 8), NETWORK, parametrisation="prox"),
    conditioning=ConditioningConfig("prox-hybrid", "knots", (2, 5, 10)),
    training=TrainingConfig(steps=10, ema=(0.9,)),
)
SCORE = dataclasses.replace(
    PROX,
    model=ModelConfig("score", (1, 8, 8), dataclasses.replace(NETWORK, conditioning="time")),
    conditioning=ConditioningConfig(None, "continuous", ()),
)


def random_model(config, seed=0):
    """Weights of every layer away from zero, so that nothing is right by accident, and samples of all grey levels."""
    torch.manual_seed(seed)
    model = (config.model if isinstance(config, Config) else config).build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.config = config
    return model.eval()
