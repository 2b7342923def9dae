"""MNIST, prox network for backward steps (arXiv 2507.08956); they are defined for gamma < 2, hence N >= 20 here."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, OptimiserConfig
from proxdm.losses import ObjectiveConfig
from proxdm.presets import _paper

CONFIG = Config(
    preset="mnist-prox-backward",
    data=_paper.MNIST,
    model=_paper.mnist(prox=True),
    objective=ObjectiveConfig("proximal-matching", "noise", l1_steps=75_000, zetas=(1.0, 0.5)),
    conditioning=ConditioningConfig("prox-backward", "knots", (20, 50, 100, 1000), "log10"),
    optimiser=OptimiserConfig(lr=1e-5, l1_lr=1e-4),
    training=_paper.training(225_000),
    logging=_paper.LOGGING,
)
