"""Fashion-MNIST at 32x32, a small score network on 2x2 patches: about half an hour on one CPU core."""

from __future__ import annotations

from proxdm.config import Config, OptimiserConfig
from proxdm.presets import _small

CONFIG = Config(
    preset="fashion-mnist-score",
    data=_small.FASHION_MNIST,
    model=_small.fashion_mnist(),
    conditioning=_small.TIMES,
    optimiser=OptimiserConfig(lr=1e-3, warmup=500, clip=1.0),
    training=_small.FASHION_TRAINING,
    logging=_small.FASHION_LOGGING,
)
