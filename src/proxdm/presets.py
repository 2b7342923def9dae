"""Presets by name: those of arXiv 2507.08956 (its appendix on training), and ours for small machines.

An own one is a function that returns a configuration: `@PRESETS.register("my-preset")`.

The paper's: batch 512, EMA 0.9999. `*-subset`: trained for samplers of 5, 10 and 20 steps only. `*-noheur`: the
ablation without heuristics; the network predicts the prox, the loss is taken on it, one zeta. Backward steps need
gamma < 2, hence N >= 20 for `mnist-prox-backward`. `celebahq-*`: latents `(4, 32, 32)` of `stabilityai/sd-vae-ft-ema`,
which the user computes once.

Ours warm their averages up. `dino-*`: points of the plane, minutes on one CPU core, no download.
`digits-*`: scikit-learn's 8x8 digits, minutes on one CPU core, no download; backward steps with N >= 20.
`fashion-mnist-*`: 32x32 in 2x2 patches, so 16x16 inside the network and 4x4 at the coarsest; half an hour on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, ConfigError, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.losses import ObjectiveConfig
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.runtime.registry import Registry

PRESETS: Registry[Callable[[], Config]] = Registry("preset")
"""Every preset by name."""

AUTO = "auto"
"""In the place of a preset's name: a configuration that was chosen for some data, as `proxdm train FOLDER` does."""

NEW = "none"
"""In the place of a model whose weights a training starts from: new weights."""

ALL, SUBSET, BACKWARD = (5, 10, 20, 50, 100, 1000), (5, 10, 20), (20, 50, 100, 1000)


_PAPER = LoggingConfig(every=100, checkpoint_every=25_000, keep=3, preview_every=25_000)
# data, shape, score network, training, logging, l1 steps of prox models, their weights of the candidates N
SETTINGS: dict[str, tuple[DataConfig, tuple[int, ...], Any, TrainingConfig, LoggingConfig, int, str]] = {
    "dino": (
        DataConfig("datasaurus-dino"), (2,), MLPConfig(2, 128, 4, frequencies=5),
        TrainingConfig(20_000, 128, ema=(0.999,), ema_warmup=True),
        LoggingConfig(100, 2_000, 2, 2_000, 1_000), 8_000, "log10",
    ),
    "digits": (
        DataConfig("digits"), (1, 8, 8), UNetConfig(1, 24, (1, 2), (1,), 1, 0.05),
        TrainingConfig(4_000, 64, ema=(0.999,), ema_warmup=True), LoggingConfig(50, 1_000, 2, 1_000), 2_000, "log10",
    ),
    "fashion-mnist": (
        DataConfig("fashion-mnist"), (1, 32, 32), UNetConfig(1, 24, (1, 2, 2), (2,), 1, 0.05, patch=2),
        TrainingConfig(4_000, 64, ema=(0.999,), ema_warmup=True, channels_last=True),
        LoggingConfig(100, 1_000, 2, 2_000), 3_000, "log10",
    ),
    "mnist": (DataConfig("mnist"), (1, 32, 32), UNetConfig(1, 64), TrainingConfig(225_000), _PAPER, 75_000, "log10"),
    "cifar10": (
        DataConfig("cifar10", flip="random"), (3, 32, 32), UNetConfig(3, 128),
        TrainingConfig(375_000), _PAPER, 75_000, "root-3",
    ),
    "celebahq": (
        DataConfig("celebahq-latents", flip="random"), (4, 32, 32), UNetConfig(4, 128, (1, 2, 4, 4), (1, 2, 3)),
        TrainingConfig(1_500_000), _PAPER, 300_000, "root-3",
    ),
}  # fmt: skip

# setting, rule, candidates N, zetas; learning rates of proximal matching and of l1, warm-up, clipping
ROWS: dict[str, tuple[str, str | None, tuple[int, ...], tuple[float, ...], tuple[Any, ...]]] = {
    "dino-score": ("dino", None, (), (), (1e-3, None, 200, 1.0)),
    "dino-prox-hybrid": ("dino", "prox-hybrid", ALL[:-1], (1.0, 0.5), (5e-4, 1e-3, 200, 1.0)),
    "digits-score": ("digits", None, (), (), (1e-3, None, 200, 1.0)),
    "digits-prox-hybrid": ("digits", "prox-hybrid", ALL[:-1], (1.0, 0.5), (2e-4, 1e-3, 200, 1.0)),
    "digits-prox-backward": ("digits", "prox-backward", BACKWARD[:-1], (1.0, 0.5), (2e-4, 1e-3, 200, 1.0)),
    "fashion-mnist-score": ("fashion-mnist", None, (), (), (1e-3, None, 500, 1.0)),
    "fashion-mnist-prox-hybrid": ("fashion-mnist", "prox-hybrid", ALL[:-1], (1.0, 0.5), (2e-4, 1e-3, 500, 1.0)),
    "mnist-score": ("mnist", None, (), (), (2e-4, None)),
    "mnist-prox-hybrid": ("mnist", "prox-hybrid", ALL, (1.0, 0.5), (1e-5, 1e-4)),
    "mnist-prox-backward": ("mnist", "prox-backward", BACKWARD, (1.0, 0.5), (1e-5, 1e-4)),
    "cifar10-score": ("cifar10", None, (), (), (2e-4, None, 5_000, 1.0)),
    "cifar10-score-subset": ("cifar10", None, SUBSET, (), (2e-4, None, 5_000, 1.0)),
    "cifar10-prox-hybrid": ("cifar10", "prox-hybrid", ALL, (2.0, 1.0), (1e-4, 1e-4, 0, 1.0)),
    "cifar10-prox-hybrid-subset": ("cifar10", "prox-hybrid", SUBSET, (2.0, 1.0), (1e-4, 1e-4, 0, 1.0)),
    "cifar10-prox-hybrid-subset-noheur": ("cifar10", "prox-hybrid", SUBSET, (2.0,), (1e-4, 1e-4, 0, 1.0)),
    "celebahq-score": ("celebahq", None, (), (), (2e-5, None, 5_000, 1.0)),
    "celebahq-prox-hybrid": ("celebahq", "prox-hybrid", ALL, (2.0, 1.0), (2e-5, 1e-4, 0, 1.0)),
}  # fmt: skip


def make(name: str) -> Config:
    """Return the preset of a row."""
    setting, rule, candidates, zetas, optimiser = ROWS[name]
    data, shape, network, training, logging, l1_steps, weights = SETTINGS[setting]
    target: Literal["noise", "prox"] = "prox" if name.endswith("noheur") else "noise"
    objective = ObjectiveConfig()
    if rule is not None:
        objective = ObjectiveConfig("proximal-matching", target, l1_steps, zetas)
        network = replace(network, conditioning="time-lam")
    draw: Literal["knots", "continuous"] = "knots" if candidates else "continuous"
    return Config(
        preset=name,
        data=data,
        model=ModelConfig("prox" if rule else "score", shape, network, "prox" if target == "prox" else "epsilon"),
        objective=objective,
        conditioning=ConditioningConfig(rule, draw, candidates, weights if rule else "uniform"),
        optimiser=OptimiserConfig(*optimiser),
        training=training,
        logging=logging,
    )


for _name in ROWS:
    PRESETS.add(_name, partial(make, _name))


def get_preset(name: str) -> Config:
    """Return the preset of that name; raise a ConfigError that lists all and names the closest if there is none."""
    try:
        return PRESETS.find(name)()
    except ValueError as error:
        raise ConfigError(str(error)) from error
