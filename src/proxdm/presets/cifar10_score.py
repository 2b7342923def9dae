"""CIFAR-10, score network (arXiv 2507.08956)."""

from __future__ import annotations

from proxdm.config import Config, OptimiserConfig
from proxdm.presets import _paper

CONFIG = Config(
    preset="cifar10-score",
    data=_paper.CIFAR10,
    model=_paper.cifar10(),
    conditioning=_paper.TIMES,
    optimiser=OptimiserConfig(lr=2e-4, warmup=5_000, clip=1.0),
    training=_paper.training(375_000),
    logging=_paper.LOGGING,
)
