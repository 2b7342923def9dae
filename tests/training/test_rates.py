"""Learning rates: by phase, with a linear warm-up."""

from __future__ import annotations

import pytest

from proxdm.config import OptimiserConfig
from proxdm.losses import Phase
from proxdm.training.rates import learning_rate

L1, MATCHING, MSE = Phase("l1"), Phase("proximal-matching", 1.0), Phase("mse")


def test_every_phase_has_its_rate():
    config = OptimiserConfig(lr=1e-5, l1_lr=1e-4)
    assert learning_rate(config, L1, 7) == 1e-4
    assert learning_rate(config, MATCHING, 7) == 1e-5
    assert learning_rate(OptimiserConfig(lr=1e-5), L1, 7) == 1e-5


@pytest.mark.parametrize("step, share", [(0, 0.2), (1, 0.4), (4, 1.0), (5, 1.0), (10**6, 1.0)])
def test_warm_up_is_linear_and_reaches_the_rate(step, share):
    assert learning_rate(OptimiserConfig(lr=2e-4, warmup=5), MSE, step) == pytest.approx(2e-4 * share)
