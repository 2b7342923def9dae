"""Fashion-MNIST at 32x32, a small prox network on 2x2 patches: about half an hour on one CPU core."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, OptimiserConfig
from proxdm.losses import ObjectiveConfig
from proxdm.presets import _small

CONFIG = Config(
    preset="fashion-mnist-prox-hybrid",
    data=_small.FASHION_MNIST,
    model=_small.fashion_mnist(prox=True),
    objective=ObjectiveConfig("proximal-matching", "noise", l1_steps=3_000, zetas=(1.0, 0.5)),
    conditioning=ConditioningConfig("prox-hybrid", "knots", (5, 10, 20, 50, 100), "log10"),
    optimiser=OptimiserConfig(lr=2e-4, l1_lr=1e-3, warmup=500, clip=1.0),
    training=_small.FASHION_TRAINING,
    logging=_small.FASHION_LOGGING,
)
