"""CIFAR-10, prox network for hybrid steps (arXiv 2507.08956)."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, OptimiserConfig
from proxdm.losses import ObjectiveConfig
from proxdm.presets import _paper

CONFIG = Config(
    preset="cifar10-prox-hybrid",
    data=_paper.CIFAR10,
    model=_paper.cifar10(prox=True),
    objective=ObjectiveConfig("proximal-matching", "noise", l1_steps=75_000, zetas=(2.0, 1.0)),
    conditioning=ConditioningConfig("prox-hybrid", "knots", _paper.ALL_STEPS, "root-3"),
    optimiser=OptimiserConfig(lr=1e-4, l1_lr=1e-4, clip=1.0),
    training=_paper.training(375_000),
    logging=_paper.LOGGING,
)
