"""Words and ranges: the ranges contain what training really draws, and are reached."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from proxdm.conditioning import ConditioningConfig, make_draws
from proxdm.describe import describe_draws, trained_range
from proxdm.networks import MLPConfig
from proxdm.presets import PRESETS, get_preset


@pytest.mark.parametrize("name", PRESETS)
def test_draws_of_every_preset_stay_in_their_range(name, generator):
    config = get_preset(name)
    drawn = make_draws(config.conditioning, config.model.schedule).draw(4000, generator)
    times, lams = trained_range(config)
    assert times[0] <= float(drawn.t.min()) <= float(drawn.t.max()) <= times[1]
    assert (drawn.lam is None) == (lams is None)
    if drawn.lam is not None:
        assert lams[0] <= float(drawn.lam.min()) <= float(drawn.lam.max()) <= lams[1]


@pytest.mark.parametrize("rule", ["prox-hybrid", "prox-backward", "prox-ode"])
def test_the_range_of_free_steps_is_reached(rule):
    draws = ConditioningConfig(rule, "continuous", (20, 100), rho=(0.5, 2.0))
    config = dataclasses.replace(get_preset("mnist-prox-hybrid"), conditioning=draws)
    found = trained_range(config)
    drawn = make_draws(draws, config.model.schedule).draw(400_000, torch.Generator().manual_seed(0))
    assert found[0][0] <= float(drawn.t.min()) < 1e-3
    assert 0.99 * found[0][1] < float(drawn.t.max()) <= found[0][1]
    assert found[1][0] <= float(drawn.lam.min()) < 1.3 * found[1][0]
    assert 0.9 * found[1][1] < float(drawn.lam.max()) <= found[1][1]


def test_knots_are_exact():
    found = trained_range(get_preset("mnist-prox-backward"))
    # N in 20 ... 1000: gamma = B(t - 1/N, t); the first and the last step of the coarsest and finest grids.
    gamma = {(s, t): 0.1 * (t - s) + 19.9 * (t * t - s * s) / 2 for s, t in ((0, 1e-3), (0.95, 1.0))}
    small, large = gamma[0, 1e-3], gamma[0.95, 1.0]
    assert found[0] == pytest.approx((0, 0.999))
    assert found[1] == pytest.approx((small / (1 - small / 2), large / (1 - large / 2)))


def test_words():
    assert describe_draws(get_preset("cifar10-score")) == "t uniform in (0, 1)"
    assert describe_draws(get_preset("cifar10-score-subset")) == "times of denoising grids of 5, 10, 20 steps"
    mnist = get_preset("mnist-prox-hybrid")
    counts = "5, 10, 20, 50, 100, 1000"
    assert describe_draws(mnist) == f"prox-hybrid steps of uniform grids of {counts} steps, weights log10"
    free = dataclasses.replace(mnist, conditioning=ConditioningConfig("prox-ode", "continuous", (5, 100)))
    assert describe_draws(free) == "prox-ode steps of power grids, 5 to 100 steps, rho from 1 to 3"
    assert str(mnist.model.network) == (
        "U-Net of width 64, multipliers 1-2-2-2, attention on levels 1, 2 residual blocks a level, dropout 0.1"
    )
    assert str(MLPConfig(dim=2, width=16, depth=3)).startswith("MLP of width 16, depth 3")
