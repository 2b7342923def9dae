"""Tiny models whose samples are far from each other, and a reference of a few pictures."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from proxdm.checkpoints.load import Opened
from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, ModelConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.evaluation import EvaluationPlan
from proxdm.networks import UNetConfig

NETWORK = UNetConfig(1, 8, (1, 2), (1,), 1, conditioning="time-lam")
PROX = Config(
    preset="tiny",
    data=DataConfig("digits", limit=100),
    model=ModelConfig("prox", (1, 8, 8), NETWORK, parametrisation="prox"),
    conditioning=ConditioningConfig("prox-hybrid", "knots", (2, 3, 5)),
    training=TrainingConfig(steps=10, ema=(0.9,)),
)
SCORE = dataclasses.replace(
    PROX,
    model=ModelConfig("score", (1, 8, 8), dataclasses.replace(NETWORK, conditioning="time")),
    conditioning=ConditioningConfig(None, "continuous", ()),
)


def random_model(config):
    """Weights of every layer away from zero, so that nothing is right by accident, and samples of all grey levels."""
    torch.manual_seed(0)
    model = config.model.build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.config = config
    return model.eval()


@pytest.fixture(scope="session")
def prox():
    return Opened(random_model(PROX), "raw")


@pytest.fixture
def own_prox():
    """The same for one test alone, which may change it."""
    return Opened(random_model(PROX), "raw")


@pytest.fixture(scope="session")
def score():
    return Opened(random_model(SCORE), "raw")


@pytest.fixture
def plan():
    """Quick: 40 samples in chunks of 16, the last of them not full."""
    return EvaluationPlan(steps=(2,), samples=40, features="pixels", chunk=16, batch_size=16)
