"""scikit-learn's 8x8 digits, prox network for hybrid steps: minutes on one CPU core, no download."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, OptimiserConfig
from proxdm.losses import ObjectiveConfig
from proxdm.presets import _small

CONFIG = Config(
    preset="digits-prox-hybrid",
    data=_small.DIGITS,
    model=_small.digits(prox=True),
    objective=ObjectiveConfig("proximal-matching", "noise", l1_steps=2_000, zetas=(1.0, 0.5)),
    conditioning=ConditioningConfig("prox-hybrid", "knots", (5, 10, 20, 50, 100), "log10"),
    optimiser=OptimiserConfig(lr=2e-4, l1_lr=1e-3, warmup=200, clip=1.0),
    training=_small.DIGITS_TRAINING,
    logging=_small.DIGITS_LOGGING,
)
