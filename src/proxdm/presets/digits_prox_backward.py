"""scikit-learn's 8x8 digits, prox network for backward steps (N >= 20): minutes on one CPU core, no download."""

from __future__ import annotations

from dataclasses import replace

from proxdm.conditioning import ConditioningConfig
from proxdm.presets.digits_prox_hybrid import CONFIG as _BASE

CONFIG = replace(
    _BASE,
    preset="digits-prox-backward",
    conditioning=ConditioningConfig("prox-backward", "knots", (20, 50, 100), "log10"),
)
