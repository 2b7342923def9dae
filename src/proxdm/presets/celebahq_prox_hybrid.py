"""CelebA-HQ 256x256 in the latent space of a VAE, prox network for hybrid steps (arXiv 2507.08956)."""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, OptimiserConfig
from proxdm.losses import ObjectiveConfig
from proxdm.presets import _paper

CONFIG = Config(
    preset="celebahq-prox-hybrid",
    data=_paper.CELEBAHQ,
    model=_paper.celebahq(prox=True),
    objective=ObjectiveConfig("proximal-matching", "noise", l1_steps=300_000, zetas=(2.0, 1.0)),
    conditioning=ConditioningConfig("prox-hybrid", "knots", _paper.ALL_STEPS, "root-3"),
    optimiser=OptimiserConfig(lr=2e-5, l1_lr=1e-4, clip=1.0),
    training=_paper.training(1_500_000),
    logging=_paper.LOGGING,
)
