"""CelebA-HQ 256x256 in the latent space of a VAE, score network (arXiv 2507.08956)."""

from __future__ import annotations

from proxdm.config import Config, OptimiserConfig
from proxdm.presets import _paper

CONFIG = Config(
    preset="celebahq-score",
    data=_paper.CELEBAHQ,
    model=_paper.celebahq(),
    conditioning=_paper.TIMES,
    optimiser=OptimiserConfig(lr=2e-5, warmup=5_000, clip=1.0),
    training=_paper.training(1_500_000),
    logging=_paper.LOGGING,
)
