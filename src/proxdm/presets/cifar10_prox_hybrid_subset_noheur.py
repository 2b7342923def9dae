"""CIFAR-10, the ablation without heuristics: the network predicts the prox, the loss is taken on it, one zeta.

arXiv 2507.08956, the ablation of the residual parametrisation and the epsilon-balanced loss.
"""

from __future__ import annotations

from dataclasses import replace

from proxdm.losses import ObjectiveConfig
from proxdm.presets import _paper
from proxdm.presets.cifar10_prox_hybrid_subset import CONFIG as _BASE

CONFIG = replace(
    _BASE,
    preset="cifar10-prox-hybrid-subset-noheur",
    model=_paper.cifar10(prox=True, parametrisation="prox"),
    objective=ObjectiveConfig("proximal-matching", "prox", l1_steps=75_000, zetas=(2.0,)),
)
