"""The presets of arXiv 2507.08956 (its appendix on training), a row each.

All: batch 512, EMA 0.9999. `*-subset`: trained for samplers of 5, 10 and 20 steps only. `*-noheur`: the ablation
without heuristics; the network predicts the prox, the loss is taken on it, one zeta. Backward steps are defined for
gamma < 2, hence N >= 20 for `mnist-prox-backward`. `celebahq-*`: latents `(4, 32, 32)` of `stabilityai/sd-vae-ft-ema`,
which the user computes once.
"""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.losses import ObjectiveConfig
from proxdm.networks import UNetConfig

ALL, SUBSET, BACKWARD = (5, 10, 20, 50, 100, 1000), (5, 10, 20), (20, 50, 100, 1000)
# data, U-Net (channels, width, mult, attention), steps, of them l1, weights of the candidates N
SETS = {
    "mnist": (DataConfig("mnist"), (1, 64, (1, 2, 2, 2), (1,)), 225_000, 75_000, "log10"),
    "cifar10": (DataConfig("cifar10", flip="random"), (3, 128, (1, 2, 2, 2), (1,)), 375_000, 75_000, "root-3"),
    "celebahq": (
        DataConfig("celebahq-latents", flip="random"), (4, 128, (1, 2, 4, 4), (1, 2, 3)), 1_500_000, 300_000, "root-3",
    ),
}  # fmt: skip
# candidates N, zetas, optimiser; the rule is in the name
ROWS = {
    "mnist-score": ((), (), OptimiserConfig(2e-4)),
    "mnist-prox-hybrid": (ALL, (1.0, 0.5), OptimiserConfig(1e-5, 1e-4)),
    "mnist-prox-backward": (BACKWARD, (1.0, 0.5), OptimiserConfig(1e-5, 1e-4)),
    "cifar10-score": ((), (), OptimiserConfig(2e-4, warmup=5_000, clip=1.0)),
    "cifar10-score-subset": (SUBSET, (), OptimiserConfig(2e-4, warmup=5_000, clip=1.0)),
    "cifar10-prox-hybrid": (ALL, (2.0, 1.0), OptimiserConfig(1e-4, 1e-4, clip=1.0)),
    "cifar10-prox-hybrid-subset": (SUBSET, (2.0, 1.0), OptimiserConfig(1e-4, 1e-4, clip=1.0)),
    "cifar10-prox-hybrid-subset-noheur": (SUBSET, (2.0,), OptimiserConfig(1e-4, 1e-4, clip=1.0)),
    "celebahq-score": ((), (), OptimiserConfig(2e-5, warmup=5_000, clip=1.0)),
    "celebahq-prox-hybrid": (ALL, (2.0, 1.0), OptimiserConfig(2e-5, 1e-4, clip=1.0)),
}


def make(name: str) -> Config:
    """Return the preset of that name."""
    candidates, zetas, optimiser = ROWS[name]
    data, network, steps, l1_steps, weights = SETS[name.split("-")[0]]
    rule = next((rule for rule in ("prox-hybrid", "prox-backward") if rule in name), None)
    plain = name.endswith("noheur")
    unet = UNetConfig(*network, conditioning="time-lam" if rule else "time")
    return Config(
        preset=name,
        data=data,
        model=ModelConfig("prox" if rule else "score", (unet.channels, 32, 32), unet, "prox" if plain else "epsilon"),
        objective=ObjectiveConfig("proximal-matching", "prox" if plain else "noise", l1_steps, zetas)
        if rule
        else ObjectiveConfig(),
        conditioning=ConditioningConfig(
            rule, "knots" if candidates else "continuous", candidates, weights if rule else "uniform"
        ),
        optimiser=optimiser,
        training=TrainingConfig(steps, batch_size=512, ema=(0.9999,)),
        logging=LoggingConfig(every=100, checkpoint_every=25_000, keep=3, preview_every=25_000),
    )
