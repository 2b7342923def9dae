"""An own network, data set, preset and sampler, for every verb: `proxdm train spiral --import examples/own.py`."""

from dataclasses import dataclass

import torch
from torch import nn

from proxdm import Sampler, register
from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, LoggingConfig, ModelConfig, TrainingConfig
from proxdm.data import DATASETS, DataConfig, KnownData
from proxdm.networks import NETWORKS
from proxdm.presets import PRESETS

turns = torch.linspace(0.5, 3, 4000)[:, None] * torch.pi
points = turns / 10 * torch.cat([turns.cos(), turns.sin()], 1)
DATASETS.add("spiral", KnownData("a spiral in the plane", lambda root, split: points, splits=("train",)))


class Waves(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.register_buffer("frequencies", 3 * torch.randn(3, width))
        self.layers = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x, t):
        waves = torch.cat([x, t[:, None]], 1) @ self.frequencies
        return self.layers(torch.cat([waves.sin(), waves.cos()], 1))


@NETWORKS.register("waves")
@dataclass(frozen=True)
class WavesConfig:
    width: int = 128

    def build(self, shape, conditions):
        return Waves(self.width)


@PRESETS.register("spiral")
def spiral():
    times = ConditioningConfig(rule=None, draw="continuous", steps=())
    short, log = TrainingConfig(steps=2000, batch_size=256, ema=(0.99,)), LoggingConfig(checkpoint_every=1000)
    model = ModelConfig("score", (2,), WavesConfig())
    return Config("spiral", DataConfig("spiral"), model, conditioning=times, training=short, logging=log)


@register
@dataclass(frozen=True)
class Halves(Sampler):
    name, operator, formula = "halves", "denoiser", "two DDIM steps in one, by way of the middle time"

    def step(self, ask, x, t, s, z, carry):
        a, sigma, ratio = ask.schedule.alpha, ask.schedule.sigma, ask.schedule.ratio
        for start, end in ((t, (t + s) / 2), ((t + s) / 2, s)):
            weight = float(a(end) * (1 - ratio(end) / ratio(start)))
            x = float(sigma(end) / sigma(start)) * x + weight * ask.denoise(x, start)
        return x, carry

    def evaluations(self, grid):
        return 2 * grid.steps
