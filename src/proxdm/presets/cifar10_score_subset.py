"""CIFAR-10, score network trained only at the times that samplers of 5, 10 and 20 steps visit (arXiv 2507.08956)."""

from __future__ import annotations

from dataclasses import replace

from proxdm.conditioning import ConditioningConfig
from proxdm.presets import _paper
from proxdm.presets.cifar10_score import CONFIG as _BASE

CONFIG = replace(
    _BASE,
    preset="cifar10-score-subset",
    conditioning=ConditioningConfig(None, "knots", _paper.SUBSET_STEPS),
)
