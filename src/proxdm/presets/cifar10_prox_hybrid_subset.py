"""CIFAR-10, prox network for hybrid steps, trained only for samplers of 5, 10 and 20 steps (arXiv 2507.08956)."""

from __future__ import annotations

from dataclasses import replace

from proxdm.conditioning import ConditioningConfig
from proxdm.presets import _paper
from proxdm.presets.cifar10_prox_hybrid import CONFIG as _BASE

CONFIG = replace(
    _BASE,
    preset="cifar10-prox-hybrid-subset",
    conditioning=ConditioningConfig("prox-hybrid", "knots", _paper.SUBSET_STEPS, "root-3"),
)
