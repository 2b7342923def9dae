"""MNIST, score network (arXiv 2507.08956)."""

from __future__ import annotations

from proxdm.config import Config, OptimiserConfig
from proxdm.presets import _paper

CONFIG = Config(
    preset="mnist-score",
    data=_paper.MNIST,
    model=_paper.mnist(),
    conditioning=_paper.TIMES,
    optimiser=OptimiserConfig(lr=2e-4),
    training=_paper.training(225_000),
    logging=_paper.LOGGING,
)
