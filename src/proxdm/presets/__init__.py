"""Presets: one configuration a file, by name. `mnist-score` is `CONFIG` of `presets/mnist_score.py`.

The `mnist-*`, `cifar10-*` and `celebahq-*` presets are those of arXiv 2507.08956; `digits-*` and `fashion-mnist-*` are
ours, for small machines.
"""

from __future__ import annotations

import difflib
import importlib

from proxdm.config import Config, ConfigError

PRESETS: tuple[str, ...] = (
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
        close = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ConfigError(f"unknown preset {name!r}{hint}; the presets are {', '.join(PRESETS)}")
    config: Config = importlib.import_module(f"proxdm.presets.{name.replace('-', '_')}").CONFIG
    return config
