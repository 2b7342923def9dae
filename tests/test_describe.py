"""Where a network is trained, in words."""

from __future__ import annotations

import dataclasses

import pytest

from proxdm.conditioning import ConditioningConfig
from proxdm.describe import describe_draws
from proxdm.networks import MLPConfig
from proxdm.presets import get_preset


@pytest.mark.parametrize(
    "name, words",
    [
        ("cifar10-score", "t uniform in (0, 1)"),
        ("cifar10-score-subset", "times of denoising grids of 5, 10, 20 steps"),
        (
            "mnist-prox-backward",
            "prox-backward steps of uniform grids of 20, 50, 100, 1000 steps, weights log10, lam from 0.00011 to 1.9",
        ),
    ],
)
def test_draws_in_words(name, words):
    assert describe_draws(get_preset(name)) == words


def test_free_draws_and_networks_in_words():
    mnist = get_preset("mnist-prox-hybrid")
    free = dataclasses.replace(mnist, conditioning=ConditioningConfig("prox-ode", "continuous", (5, 100)))
    assert describe_draws(free).startswith("prox-ode steps of power grids, 5 to 100 steps, rho from 1 to 3, lam from ")
    assert str(mnist.model.network) == (
        "U-Net of width 64, multipliers 1-2-2-2, attention on levels 1, 2 residual blocks a level, dropout 0.1"
    )
    assert str(MLPConfig(dim=2, width=16, depth=3)).startswith("MLP of width 16, depth 3")
