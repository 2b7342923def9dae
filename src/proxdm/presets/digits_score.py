"""scikit-learn's 8x8 digits, score network: minutes on one CPU core, no download."""

from __future__ import annotations

from proxdm.config import Config, OptimiserConfig
from proxdm.presets import _small

CONFIG = Config(
    preset="digits-score",
    data=_small.DIGITS,
    model=_small.digits(),
    conditioning=_small.TIMES,
    optimiser=OptimiserConfig(lr=1e-3, warmup=200, clip=1.0),
    training=_small.DIGITS_TRAINING,
    logging=_small.DIGITS_LOGGING,
)
