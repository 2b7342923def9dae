"""The presets for small machines, a row each. Ours, no paper's.

`digits-*`: scikit-learn's 8x8 digits, minutes on one CPU core, no download; backward steps with N >= 20.
`fashion-mnist-*`: 32x32 in 2x2 patches, so 16x16 inside the network and 4x4 at the coarsest; half an hour on one core.
"""

from __future__ import annotations

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.losses import ObjectiveConfig
from proxdm.networks import Conditioning, UNetConfig

HYBRID, BACKWARD = (5, 10, 20, 50, 100), (20, 50, 100)
# rule and candidates N
ROWS: dict[str, tuple[str | None, tuple[int, ...]]] = {
    "digits-score": (None, ()),
    "digits-prox-hybrid": ("prox-hybrid", HYBRID),
    "digits-prox-backward": ("prox-backward", BACKWARD),
    "fashion-mnist-score": (None, ()),
    "fashion-mnist-prox-hybrid": ("prox-hybrid", HYBRID),
}


def make(name: str) -> Config:
    """Return the preset of that name."""
    rule, candidates = ROWS[name]
    conditioning: Conditioning = "time-lam" if rule else "time"
    if digits := name.startswith("digits"):
        side, network = 8, UNetConfig(1, 24, (1, 2), (1,), 1, 0.05, conditioning)
        logging = LoggingConfig(every=50, checkpoint_every=1_000, keep=2, preview_every=1_000)
    else:
        side, network = 32, UNetConfig(1, 24, (1, 2, 2), (2,), 1, 0.05, conditioning, patch=2)
        logging = LoggingConfig(every=100, checkpoint_every=1_000, keep=2, preview_every=2_000)
    l1_steps, warmup = (2_000, 200) if digits else (3_000, 500)
    return Config(
        preset=name,
        data=DataConfig("digits" if digits else "fashion-mnist"),
        model=ModelConfig("prox" if rule else "score", (1, side, side), network),
        objective=ObjectiveConfig("proximal-matching", "noise", l1_steps, (1.0, 0.5)) if rule else ObjectiveConfig(),
        conditioning=ConditioningConfig(
            rule, "knots" if rule else "continuous", candidates, "log10" if rule else "uniform"
        ),
        optimiser=OptimiserConfig(2e-4 if rule else 1e-3, 1e-3 if rule else None, warmup, clip=1.0),
        training=TrainingConfig(4_000, batch_size=64, ema=(0.999,), channels_last=not digits),
        logging=logging,
    )
