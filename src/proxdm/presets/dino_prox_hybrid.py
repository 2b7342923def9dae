"""The Datasaurus dinosaur, points of the plane, prox network for hybrid steps: coarse in minutes on one CPU core."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, OptimiserConfig
from proxdm.losses import ObjectiveConfig
from proxdm.presets import _small

CONFIG = Config(
    preset="dino-prox-hybrid",
    data=_small.DINO,
    model=_small.points(prox=True),
    objective=ObjectiveConfig("proximal-matching", "noise", l1_steps=8_000, zetas=(1.0, 0.5)),
    conditioning=ConditioningConfig("prox-hybrid", "knots", (5, 10, 20, 50, 100), "log10"),
    optimiser=OptimiserConfig(lr=5e-4, l1_lr=1e-3, warmup=200, clip=1.0),
    training=_small.DINO_TRAINING,
    logging=_small.DINO_LOGGING,
)
