"""The presets for small machines, a row each. Ours, no paper's.

`dino-*`: points of the plane, minutes on one CPU core, no download.
`digits-*`: scikit-learn's 8x8 digits, minutes on one CPU core, no download; backward steps with N >= 20.
`fashion-mnist-*`: 32x32 in 2x2 patches, so 16x16 inside the network and 4x4 at the coarsest; half an hour on one core.
"""

from __future__ import annotations

from typing import Literal

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.losses import ObjectiveConfig
from proxdm.networks import Conditioning, MLPConfig, UNetConfig

HYBRID, BACKWARD = (5, 10, 20, 50, 100), (20, 50, 100)
# rule and candidates N
ROWS: dict[str, tuple[str | None, tuple[int, ...]]] = {
    "dino-score": (None, ()),
    "dino-prox-hybrid": ("prox-hybrid", HYBRID),
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
    kind: Literal["score", "prox"] = "prox" if rule else "score"
    batch, rates = 64, ((2e-4, 1e-3) if rule else (1e-3, None))
    if name.startswith("dino"):
        data, batch, rates = DataConfig("datasaurus-dino"), 128, ((5e-4, 1e-3) if rule else (1e-3, None))
        model = ModelConfig(kind, (2,), MLPConfig(2, 128, 4, conditioning=conditioning, frequencies=5))
        steps, l1_steps, warmup = 20_000, 8_000, 200
        logging = LoggingConfig(every=100, checkpoint_every=2_000, keep=2, preview_every=2_000, preview_samples=1_000)
    elif name.startswith("digits"):
        data = DataConfig("digits")
        model = ModelConfig(kind, (1, 8, 8), UNetConfig(1, 24, (1, 2), (1,), 1, 0.05, conditioning))
        steps, l1_steps, warmup = 4_000, 2_000, 200
        logging = LoggingConfig(every=50, checkpoint_every=1_000, keep=2, preview_every=1_000)
    else:
        data = DataConfig("fashion-mnist")
        model = ModelConfig(kind, (1, 32, 32), UNetConfig(1, 24, (1, 2, 2), (2,), 1, 0.05, conditioning, patch=2))
        steps, l1_steps, warmup = 4_000, 3_000, 500
        logging = LoggingConfig(every=100, checkpoint_every=1_000, keep=2, preview_every=2_000)
    return Config(
        preset=name,
        data=data,
        model=model,
        objective=ObjectiveConfig("proximal-matching", "noise", l1_steps, (1.0, 0.5)) if rule else ObjectiveConfig(),
        conditioning=ConditioningConfig(
            rule, "knots" if rule else "continuous", candidates, "log10" if rule else "uniform"
        ),
        optimiser=OptimiserConfig(rates[0], rates[1], warmup, clip=1.0),
        training=TrainingConfig(steps, batch_size=batch, ema=(0.999,), channels_last=name.startswith("fashion")),
        logging=logging,
    )
