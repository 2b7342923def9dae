"""Presets: one configuration a file, by name. `mnist-score` is `CONFIG` of `presets/mnist_score.py`.

The `mnist-*`, `cifar10-*` and `celebahq-*` presets are those of arXiv 2507.08956; `dino-*`, `digits-*` and
`fashion-mnist-*` are ours, for small machines.
"""

from __future__ import annotations

import importlib

from proxdm.config import Config, ConfigError
from proxdm.errors import did_you_mean

PRESETS: tuple[str, ...] = (
    "dino-score",
    "dino-prox-hybrid",
    "digits-score",
    "digits-prox-hybrid",
    "digits-prox-backward",
    "fashion-mnist-score",
    "fashion-mnist-prox-hybrid",
    "mnist-score",
    "mnist-prox-hybrid",
    "mnist-prox-backward",
    "cifar10-score",
    "cifar10-score-subset",
    "cifar10-prox-hybrid",
    "cifar10-prox-hybrid-subset",
    "cifar10-prox-hybrid-subset-noheur",
    "celebahq-score",
    "celebahq-prox-hybrid",
)
"""Every preset by name."""


def get_preset(name: str) -> Config:
    """Return the preset of that name.

    Raises:
        ConfigError: There is none; the message names the closest and lists all.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, PRESETS)}; the presets are {', '.join(PRESETS)}")
    config: Config = importlib.import_module(f"proxdm.presets.{name.replace('-', '_')}").CONFIG
    return config
