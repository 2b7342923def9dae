"""Losses against closed forms, and objectives with networks that know the answer."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from exact import rand
from proxdm.losses import (
    ObjectiveConfig,
    Phase,
    ProxObjective,
    ScoreObjective,
    losses,
    make_objective,
    matching_weight,
    phase_at,
    proximal_matching,
)
from proxdm.models import PARAMETRISATIONS, SCORE_PARAMETRISATIONS, ProxModel, ScoreModel
from proxdm.schedules import VPSDE

SDE, EPSILON = VPSDE(), SCORE_PARAMETRISATIONS["epsilon"]


randn = partial(rand, seed=0)


# ---- losses of one sample ----


def test_half_precision_errors_are_taken_in_float32():
    a = torch.full((1, 2), 1.0, dtype=torch.bfloat16)
    b = torch.full((1, 2), 1.0 + 1e-4)
    torch.testing.assert_close(losses(a, b, Phase("mse")).loss, torch.tensor([1e-8]), rtol=1e-2, atol=0)


@pytest.mark.parametrize("zeta", [2.0, 1.0, 0.5])
def test_proximal_matching_is_its_formula_and_exact_for_small_errors(zeta):
    mse = torch.tensor([0.0, 1e-12, 0.3, 4.0, 1e6], dtype=torch.float64)
    expected = [0.0, 1e-12 / zeta**2, 1 - math.exp(-0.3 / zeta**2), 1 - math.exp(-4 / zeta**2), 1.0]
    assert proximal_matching(mse, zeta).tolist() == pytest.approx(expected, rel=1e-9, abs=0)


def test_matching_weight_is_the_factor_on_the_gradient():
    mse = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64, requires_grad=True)
    zeta = 0.7
    (gradient,) = torch.autograd.grad(proximal_matching(mse, zeta).sum(), mse)
    torch.testing.assert_close(gradient, matching_weight(mse.detach(), zeta) / zeta**2)


def test_losses_follow_the_phase_and_refuse_other_shapes():
    a, b = randn(4, 3, 2, 2), randn(4, 3, 2, 2, seed=1)
    mse = (a - b).square().mean((1, 2, 3))
    torch.testing.assert_close(losses(a, b, Phase("mse")).loss, mse)
    torch.testing.assert_close(losses(a, b, Phase("l1")).loss, (a - b).abs().mean((1, 2, 3)))
    torch.testing.assert_close(losses(a, b, Phase("proximal-matching", 0.5)).loss, proximal_matching(mse, 0.5))
    for phase in (Phase("mse"), Phase("l1"), Phase("proximal-matching", 0.5)):
        torch.testing.assert_close(losses(a, b, phase).mse, mse)
    with pytest.raises(ValueError, match="differ in shape"):
        losses(a, b[:, :1], Phase("mse"))


# ---- phases ----


def test_stages_are_equal_and_in_order():
    config = ObjectiveConfig("proximal-matching", "noise", 10, (4.0, 2.0, 1.0))
    zetas = [phase_at(config, step, 40).zeta for step in range(40)]
    assert zetas == [None] * 10 + [4.0] * 10 + [2.0] * 10 + [1.0] * 10
    assert {phase_at(config, step, 40).loss for step in range(10)} == {"l1"}
    assert phase_at(config, 10**9, 40) == Phase("proximal-matching", 1.0)
    assert {phase_at(ObjectiveConfig(), step, 40) for step in range(40)} == {Phase("mse")}
    assert str(Phase("proximal-matching", 0.5)) == "proximal-matching(0.5)"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"loss": "huber"}, "objective.loss = 'huber' must be one of 'mse', 'proximal-matching'"),
        ({"target": "x"}, "target = 'x' must be one of 'noise', 'prox', 'output'"),
        ({"l1_steps": 3}, "no effect with loss = 'mse'"),
        ({"zetas": (1.0,)}, "no effect with loss = 'mse'"),
        ({"loss": "proximal-matching"}, "at least one zeta"),
        ({"loss": "proximal-matching", "zetas": (1.0,), "l1_steps": -1}, "l1_steps = -1 must be at least 0"),
        ({"loss": "proximal-matching", "zetas": (1.0, 0.0)}, "must be positive and finite"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**arguments)


# ---- networks that know the answer ----


@pytest.mark.parametrize("name", PARAMETRISATIONS)
@pytest.mark.parametrize("target", ["noise", "prox", "output"])
@pytest.mark.parametrize("phase", [Phase("mse"), Phase("l1"), Phase("proximal-matching", 0.5)], ids=str)
def test_prox_objective_of_a_single_point_at_time_0_has_loss_and_gradient_zero(name, target, phase):
    """All data at one point, t = 0: the prox is that point for every argument and weight."""
    parametrisation = PARAMETRISATIONS[name]
    point = torch.full((8, 2), -0.4, dtype=torch.float64)
    t, lam = torch.zeros(8, dtype=torch.float64), torch.logspace(-4, 1, 8, dtype=torch.float64)
    noise = [randn(8, 2), randn(8, 2, seed=1)]

    def exact(y, t, lam):
        z = (y - point) / lam.sqrt()[:, None]
        return parametrisation.target(SDE, point, z, t, lam)

    prediction, wanted = ProxObjective(SDE, parametrisation, target)(exact, point, noise, t, lam)
    assert losses(prediction, wanted, phase).loss.max() < 1e-7
    if target == "noise":
        assert wanted is noise[1]
    if target == "prox":
        torch.testing.assert_close(wanted, point, rtol=0, atol=1e-12)


def quadrature(count=40):
    """Gauss-Hermite nodes (x, z) of two independent standard normal numbers, with weights."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    x, z = torch.meshgrid(nodes, nodes, indexing="ij")
    return x.reshape(-1, 1), z.reshape(-1, 1), (weights[:, None] * weights).reshape(-1)


@pytest.mark.parametrize("lam", [0.01, 0.5, 4.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_standard_normal_data_have_the_known_optimum(lam, t):
    """p_t = N(0, 1) for every t, prox(y) = y / (1 + lam): stationary for every loss, with known values of it.

    The error of the noise is then N(0, 1 / (1 + lam)).
    """
    x, z, weights = quadrature()
    columns = [torch.full((len(x),), value, dtype=torch.float64) for value in (t, lam)]
    # The noise of x_t is set so that x_t = x: with x_0 = x, z_t = x (1 - a) / s has x_t = a x + s z_t = x.
    a, s = float(SDE.alpha_bar(t).sqrt()), float(SDE.noise_variance(t).sqrt())
    noise = [x * ((1 - a) / s if s else 0.0), z]
    shrink = torch.tensor(1 / (1 + lam), dtype=torch.float64, requires_grad=True)
    objective = ProxObjective(SDE, PARAMETRISATIONS["prox"], "noise")
    prediction, target = objective(lambda y, t, lam: shrink * y, x, noise, *columns)
    variance = 1 / (1 + lam)
    matching = 1 - 1 / math.sqrt(1 + 2 * variance / 1.3**2)
    for phase, expected, rtol in [
        (Phase("mse"), variance, 1e-10),
        (Phase("l1"), math.sqrt(2 / math.pi * variance), 2e-2),
        (Phase("proximal-matching", 1.3), matching, 1e-4),
    ]:
        value = (weights * losses(prediction, target, phase).loss).sum()
        assert value.item() == pytest.approx(expected, rel=rtol)
        (gradient,) = torch.autograd.grad(value, shrink, retain_graph=True)
        if phase.loss != "l1":  # the kink of |.| defeats the quadrature's gradient
            scale = (1 + lam) / math.sqrt(lam)
            assert abs(float(gradient)) < 1e-3 * scale
        with torch.no_grad():
            for factor in (0.7, 1.3):
                worse, _ = objective(lambda y, t, lam, f=factor: f * shrink * y, x, noise, *columns)
                assert (weights * losses(worse, target, phase).loss).sum() > value


def test_plain_error_is_lam_times_the_balanced_one():
    t, lam = torch.full((16,), 0.4, dtype=torch.float64), torch.logspace(-3, 1, 16, dtype=torch.float64)
    x0, noise = randn(16, 1, 4, 4), [randn(16, 1, 4, 4, seed=1), randn(16, 1, 4, 4, seed=2)]
    for parametrisation in PARAMETRISATIONS.values():
        errors = {}
        for target in ("noise", "prox", "output"):
            found = ProxObjective(SDE, parametrisation, target)(lambda y, t, lam: 0.1 * y**2, x0, noise, t, lam)
            errors[target] = losses(*found, Phase("mse")).loss
        torch.testing.assert_close(errors["prox"], lam * errors["noise"])
        same = {"epsilon": "noise", "prox": "prox"}.get(parametrisation.name)
        if same:
            torch.testing.assert_close(errors["output"], errors[same])


def test_network_sees_y_t_and_lam():
    """y = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) z + sqrt(lam) z'."""
    t, lam = torch.tensor([0.2, 0.7], dtype=torch.float64), torch.tensor([0.3, 2.0], dtype=torch.float64)
    x0, z, z_prox = randn(2, 5), randn(2, 5, seed=1), randn(2, 5, seed=2)
    seen = []

    def network(*arguments):
        seen.append(arguments)
        return torch.zeros_like(x0)

    ProxObjective(SDE, PARAMETRISATIONS["epsilon"])(network, x0, [z, z_prox], t, lam)
    y, seen_t, seen_lam = seen[0]
    a = torch.exp(-(0.1 * t + 19.9 * t**2 / 2))[:, None]
    torch.testing.assert_close(y, a.sqrt() * x0 + (1 - a).sqrt() * z + lam.sqrt()[:, None] * z_prox)
    assert torch.equal(seen_t, t)
    assert torch.equal(seen_lam, lam)


@pytest.mark.parametrize("name", SCORE_PARAMETRISATIONS)
@pytest.mark.parametrize("target", ["noise", "output"])
def test_a_perfect_network_of_every_parametrisation_has_loss_zero(name, target):
    entry, x0, z = SCORE_PARAMETRISATIONS[name], randn(3, 4), randn(3, 4)
    t = torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64)
    exact = entry.target(SDE, x0, SDE.perturb(x0, t, z), t)
    prediction, wanted = ScoreObjective(SDE, entry, target)(lambda x, t: exact, x0, [z], t)
    torch.testing.assert_close(prediction, wanted, rtol=1e-4, atol=1e-5)


def test_make_objective_fits_the_model():
    net = torch.nn.Linear(2, 2)
    assert make_objective(ScoreModel(net, SDE), ObjectiveConfig()) == ScoreObjective(SDE, EPSILON)
    prox = make_objective(ProxModel(net, SDE, "prox"), ObjectiveConfig("proximal-matching", "prox", 0, (1.0,)))
    assert prox == ProxObjective(SDE, PARAMETRISATIONS["prox"], "prox")
    with pytest.raises(ValueError, match="does not fit a score model"):
        make_objective(ScoreModel(net, SDE), ObjectiveConfig(target="prox"))
    with pytest.raises(ValueError, match="lam is missing"):
        prox(lambda *a: a[0], randn(1, 2), [randn(1, 2), randn(1, 2)], torch.zeros(1))
