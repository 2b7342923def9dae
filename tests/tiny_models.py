"""Tiny models of digits with random weights, whose samples are far from each other, and tiny runs."""

from __future__ import annotations

import dataclasses

import torch

from proxdm.checkpoints.store import TrainingState, create_run, save_checkpoint
from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, ModelConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.priors import GainCurve, fit_prior

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


def shaken(module, std=0.2):
    """Weights of every layer away from zero, so that nothing is right by accident: the last layers begin at zero."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module.eval()


def random_model(config, seed=0, std=0.2):
    """A model of a configuration, whose samples are of all grey levels."""
    torch.manual_seed(seed)
    model = shaken((config.model if isinstance(config, Config) else config).build(), std)
    model.config = config
    return model


def random_prior(shape=(1, 8, 8), components=1, schedule="of a test", **options):
    """A prior of random pictures, with a gain curve that crosses every threshold between the ratios 1 and 3."""
    images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    prior = fit_prior(images, components, **options)
    return dataclasses.replace(prior, curve=GainCurve((1.0, 3.0), (0.5, 1.0), 8, str(schedule)))


POINTS = Config(
    preset="tiny",
    data=DataConfig("digits"),
    model=ModelConfig("prox", (2,), MLPConfig(dim=2, width=16, depth=1, conditioning="time-lam")),
    conditioning=ConditioningConfig("prox-backward", "knots", (20, 50)),
    training=TrainingConfig(steps=1000, ema=(0.99, 0.9)),
)


def random_state(config, seed):
    torch.manual_seed(seed)
    return {key: 0.1 * torch.randn_like(value) for key, value in config.model.build().network.state_dict().items()}


def make_run(folder, config=POINTS, steps=(5, 10), **facts):
    """Write a run with checkpoints, every weight set with numbers of its own; return the states of the last by name."""
    create_run(folder, config)
    for step in steps:
        names = ("raw", *(f"ema-{decay}" for decay in config.training.ema))
        states = {name: random_state(config, 100 * step + i) for i, name in enumerate(names)}
        save_checkpoint(folder, config, TrainingState(step, **facts), states, {"m": torch.zeros(1)})
    return states
