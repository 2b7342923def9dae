"""The Datasaurus dinosaur, points of the plane, score network: coarse in minutes on one CPU core."""

from __future__ import annotations

from proxdm.config import Config, OptimiserConfig
from proxdm.presets import _small

CONFIG = Config(
    preset="dino-score",
    data=_small.DINO,
    model=_small.points(),
    conditioning=_small.TIMES,
    optimiser=OptimiserConfig(lr=1e-3, warmup=200, clip=1.0),
    training=_small.DINO_TRAINING,
    logging=_small.DINO_LOGGING,
)
