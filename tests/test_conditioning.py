"""Training draws: their distribution, and their equality with what samplers ask of a network."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from proxdm.conditioning import ConditioningConfig, FreeSteps, TrainingRange, candidate_weights, make_draws
from proxdm.errors import StepError
from proxdm.grids import TimeGrid
from proxdm.noise import GeneratorNoise
from proxdm.samplers import find_sampler, sample
from proxdm.schedules import VPSDE

SDE = VPSDE()
STEPS = (5, 10, 20, 50, 100, 1000)
UNIFORM = ConditioningConfig(None, "continuous", ())


def draw(config, count=60_000, seed=0):
    return make_draws(config, SDE).draw(count, torch.Generator().manual_seed(seed))


def counted(values, size):
    return torch.bincount(values, minlength=size).double().numpy()


# ---- weights ----


def test_weights_are_their_formulas():
    log10 = torch.tensor([math.log10(n) for n in STEPS], dtype=torch.float64)
    torch.testing.assert_close(candidate_weights(STEPS, "log10"), log10 / log10.sum())
    root = torch.tensor([n ** (1 / 3) for n in STEPS], dtype=torch.float64)
    torch.testing.assert_close(candidate_weights(STEPS, "root-3"), root / root.sum())
    torch.testing.assert_close(candidate_weights((7, 8), "uniform"), torch.tensor([0.5, 0.5], dtype=torch.float64))
    torch.testing.assert_close(candidate_weights((7, 8), (1, 3)), torch.tensor([0.25, 0.75], dtype=torch.float64))
    root_half = candidate_weights((4, 9), "root-2")
    torch.testing.assert_close(root_half, torch.tensor([0.4, 0.6], dtype=torch.float64))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"draw": "grid"}, "draw = 'grid' must be one of 'knots', 'continuous'"),
        ({"rule": "prox-sideways"}, "unknown sampler 'prox-sideways'"),
        ({"rule": "euler-maruyama"}, "asks for a score"),
        ({"steps": ()}, "steps is empty"),
        ({"steps": (5, 0)}, "whole numbers of at least 1"),
        ({"steps": (5, 5)}, "must be different"),
        ({"weights": "log2"}, "unknown weights 'log2'"),
        ({"weights": "root-0"}, "unknown weights 'root-0'"),
        ({"weights": (1.0,)}, "1 weights for 6 step candidates"),
        ({"weights": (-1.0,) * 6}, "at least 0"),
        ({"steps": (1,), "weights": "log10"}, "not all 0"),
        ({"rho": (1.0, 2.0)}, "continuous draws of prox models only"),
        ({"draw": "continuous", "rho": (2.0, 1.0)}, "lowest and the highest"),
        ({"draw": "continuous", "weights": "log10"}, "no effect on continuous"),
        ({"rule": None, "draw": "continuous"}, "no effect on continuous draws of a score model"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConditioningConfig(**arguments)


# ---- knots ----


@pytest.mark.parametrize("weights", ["uniform", "log10", "root-3", (5.0, 0.0, 1.0, 1.0, 1.0, 2.0)])
def test_candidates_come_as_often_as_their_weights_say(weights):
    drawn = draw(ConditioningConfig("prox-hybrid", "knots", STEPS, weights))
    n = (1 / (drawn.leaving - drawn.t)).round().long()
    expected = candidate_weights(STEPS, weights)
    observed = torch.tensor([int((n == c).sum()) for c in STEPS])
    assert observed.sum() == len(drawn.t)
    kept = expected > 0
    assert not observed[~kept].any()
    assert stats.chisquare(observed[kept], expected[kept] * len(drawn.t)).pvalue > 1e-3


@pytest.mark.parametrize("count", [5, 20])
def test_knots_of_a_grid_come_equally_often(count):
    drawn = draw(ConditioningConfig("prox-hybrid", "knots", (5, 20, 100)))
    n = (1 / (drawn.leaving - drawn.t)).round().long()
    i = (drawn.t[n == count] * count).round().long()
    assert stats.chisquare(counted(i, count)).pvalue > 1e-3


@pytest.mark.parametrize("name", ["prox-hybrid", "prox-backward", "prox-ode", "euler-maruyama"])
def test_knots_are_what_the_sampler_asks_for(name):
    """Every t, or (t, lam), that the sampler shows the network is drawn in training, to the last bit, and no other."""
    steps, prox = (10, 20, 50), name.startswith("prox")
    drawn = draw(ConditioningConfig(name if prox else None, "knots", steps))
    asked = set()

    def network(x, *shown):
        asked.add(tuple(float(value[0]) for value in shown))
        return x

    for n in steps:
        noise = GeneratorNoise((1, 2), torch.Generator().manual_seed(0), dtype=torch.float64)
        sample(network, name, n, noise=noise, schedule=SDE)
    columns = [drawn.t, drawn.lam] if prox else [drawn.t]
    assert set(zip(*(column.tolist() for column in columns), strict=True)) == asked
    if prox:
        assert len(asked) == sum(steps)
    else:
        assert drawn.lam is None
        assert min(asked) == (1e-3,)


def test_prox_knots_are_i_over_n_with_the_papers_weights():
    drawn = draw(ConditioningConfig("prox-hybrid", "knots", (5, 10)), count=1000)
    n = (1 / (drawn.leaving - drawn.t)).round()
    i = (drawn.t * n).round()
    torch.testing.assert_close(drawn.t, i / n, rtol=0, atol=1e-15)
    gamma = (0.1 + 19.9 * (2 * i + 1) / (2 * n)) / n  # the integral of beta over [i/n, (i+1)/n]
    torch.testing.assert_close(drawn.lam, gamma)
    backward = draw(ConditioningConfig("prox-backward", "knots", (10, 20)), count=1000)
    gamma = SDE.beta_integral(backward.t, backward.leaving)
    torch.testing.assert_close(backward.lam, gamma / (1 - gamma / 2))


def test_backward_knots_need_short_steps():
    with pytest.raises(StepError, match="gamma < 2"):
        make_draws(ConditioningConfig("prox-backward", "knots", (5, 20)), SDE)


# ---- continuous draws ----


def test_score_times_are_uniform():
    t = draw(UNIFORM).t
    assert t.dtype == torch.float64
    assert stats.kstest(t.numpy(), "uniform").pvalue > 1e-3


def test_free_steps_have_n_log_uniform_and_i_uniform():
    drawn = draw(ConditioningConfig("prox-hybrid", "continuous", (4, 9), rho=(1.0, 1.0)))
    n = (1 / (drawn.leaving - drawn.t)).round().long()
    counts = torch.arange(4, 10, dtype=torch.float64)
    expected = ((counts + 1) / counts).log() / math.log(10 / 4)
    observed = counted(n, 10)[4:]
    assert stats.chisquare(observed, expected.numpy() * len(drawn.t)).pvalue > 1e-3
    i = (drawn.t * n).round().long()
    for count in (4, 7):
        assert stats.chisquare(counted(i[n == count], count)).pvalue > 1e-3


def test_free_steps_are_steps_of_power_grids_with_the_rules_weight():
    steps, rho = (5, 5), (1.0, 3.0)
    rule = find_sampler("prox-hybrid")
    drawn = FreeSteps(rule, SDE, steps, rho).draw(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.lam, rule.coefficients(SDE, drawn.leaving, drawn.t).lam)
    assert bool((drawn.t >= 0).all())
    assert bool((drawn.leaving <= 1).all())
    # The exponent, read off the interior steps: t = (i/5)^rho, rho uniform on [1, 3].
    inner = (drawn.t > 0) & (drawn.leaving < 1)
    t, leaving = drawn.t[inner], drawn.leaving[inner]
    exponents = torch.stack([t.log() / math.log(i / 5) for i in (1, 2, 3)])
    fits = torch.stack([(((i + 1) / 5) ** exponents[i - 1] - leaving).abs() for i in (1, 2, 3)])
    assert fits.amin(0).max() < 1e-12
    exponent = exponents.gather(0, fits.argmin(0, keepdim=True))[0]
    assert stats.kstest(((exponent - 1) / 2).numpy(), "uniform").pvalue > 1e-3
    assert float((drawn.t == 0).double().mean()) == pytest.approx(1 / 5, abs=0.02)


def test_free_steps_are_defined_or_refused():
    drawn = draw(ConditioningConfig("prox-backward", "continuous", (40, 1000), rho=(1.0, 3.0)))
    assert bool(torch.isfinite(drawn.lam).all())
    assert bool((drawn.lam > 0).all())
    with pytest.raises(StepError, match="gamma < 2"):
        make_draws(ConditioningConfig("prox-backward", "continuous", (20, 1000)), SDE)


# ---- all draws ----


CONFIGS = [
    UNIFORM,
    ConditioningConfig(None, "knots", (5, 10)),
    ConditioningConfig(),
    ConditioningConfig("prox-hybrid", "continuous", (5, 100)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_draws_are_a_function_of_the_generator_and_slices_are_rows(config):
    first, second, other = draw(config, 50), draw(config, 50), draw(config, 50, seed=1)
    assert torch.equal(first.t, second.t)
    assert not torch.equal(first.t, other.t)
    part = first[10:20]
    assert len(part.t) == 10
    assert torch.equal(part.t, first.t[10:20])
    if first.lam is not None:
        assert torch.equal(part.lam, first.lam[10:20])
        assert torch.equal(part.leaving, first.leaving[10:20])
        assert bool((first.leaving > first.t).all())


# ---- training range ----


@pytest.mark.parametrize("config", CONFIGS)
def test_training_range_covers_its_own_draws(config):
    drawn = draw(config, 5000)
    known = TrainingRange(config, SDE)
    assert bool(known.covers(drawn.t, drawn.lam).all())
    assert not bool(known.covers(drawn.t + 2, drawn.lam).any())


def test_training_range_tells_trained_from_untrained_grids():
    hybrid, score = find_sampler("prox-hybrid"), find_sampler("euler-maruyama")
    known = TrainingRange(ConditioningConfig("prox-hybrid", "knots", (5, 10)), SDE)
    assert known.describe_unseen(hybrid, TimeGrid.uniform(10)) is None
    message = known.describe_unseen(hybrid, TimeGrid.uniform(7))
    assert message.startswith("7 of the 7 steps of prox-hybrid on uniform(7) lie outside")
    assert "steps 5, 10" in message
    assert "first from t = 1 to 0.857143" in message
    assert known.describe_unseen(find_sampler("prox-ode"), TimeGrid.uniform(10)) is not None
    assert known.describe_unseen(score, TimeGrid.denoising(10)) is None, "a prox network says nothing of score samplers"

    subset = TrainingRange(ConditioningConfig(None, "knots", (5,)), SDE)
    assert subset.describe_unseen(score, score.grid(SDE, 5)) is None
    assert subset.describe_unseen(score, score.grid(SDE, 7)) is not None
    assert TrainingRange(UNIFORM, SDE).describe_unseen(score, score.grid(SDE, 7)) is None

    free = TrainingRange(ConditioningConfig("prox-hybrid", "continuous", (5, 1000)), SDE)
    for grid in (TimeGrid.uniform(7), TimeGrid.power(13, 2.0), TimeGrid.power(100, 3.0)):
        assert free.describe_unseen(hybrid, grid) is None
    assert free.describe_unseen(hybrid, TimeGrid.uniform(2)) is not None


def test_training_range_needs_lam_for_prox_models():
    with pytest.raises(ValueError, match="give lam"):
        TrainingRange(ConditioningConfig(), SDE).covers(torch.zeros(1))


@pytest.mark.parametrize("config", [ConditioningConfig("prox-hybrid", "knots", (5, 20)), CONFIGS[3]])
def test_a_prox_far_from_the_training_is_described(config):
    known = TrainingRange(config, SDE)
    drawn = make_draws(config, SDE).draw(1000, torch.Generator().manual_seed(1))
    assert known.describe_far(drawn.t, drawn.lam) is None
    assert known.describe_far(drawn.t, drawn.lam * 2) is None
    one = torch.ones(1, dtype=torch.float64)
    assert "lam = 1e+03" in known.describe_far(0.5 * one, 1e3 * one)
    assert "lam = 1e-09" in known.describe_far(0.5 * torch.cat([one, one]), torch.cat([drawn.lam[:1], 1e-9 * one]))
    assert "t = 1.5" in known.describe_far(1.5 * one, drawn.lam[:1])
