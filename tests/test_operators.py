"""Operators made of one another: closed forms on a Gaussian, where the posterior mean is the prox."""

from __future__ import annotations

import pytest
import torch

from proxdm import (
    VE,
    VPSDE,
    Flow,
    GaussianMixture,
    ScoreModel,
    TimeGrid,
    implicit_prox,
    prox_from_denoiser,
    sample,
    solve,
)
from proxdm.errors import OperatorError
from proxdm.noise import GeneratorNoise
from proxdm.operators import FunctionModel, denoise, score

SCHEDULES = [VPSDE(), VE(3.0), Flow()]
T, LAM = torch.tensor([0.2, 0.7], dtype=torch.float64), torch.tensor([0.05, 0.9], dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_score_and_denoiser_stand_for_each_other(schedule, generator):
    exact = GaussianMixture(torch.randn(6, 3, generator=generator, dtype=torch.float64), 0.2, schedule=schedule)
    x = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    only_score = FunctionModel(schedule, score=exact.score)
    only_denoiser = FunctionModel(schedule, denoise=exact.denoise)
    torch.testing.assert_close(denoise(only_score, x, T), exact.denoise(x, T), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(score(only_denoiser, x, T), exact.score(x, T), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("std", [0.0, 0.5])
def test_the_posterior_mean_of_a_gaussian_is_its_prox(schedule, std, generator):
    exact = GaussianMixture(torch.full((1, 4), 0.6, dtype=torch.float64), std, schedule=schedule)
    y = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    for model in (exact, FunctionModel(schedule, score=exact.score)):
        mean = prox_from_denoiser(model).prox(y, T, LAM)
        torch.testing.assert_close(mean, exact.prox(y, T, LAM), rtol=1e-9, atol=1e-9)


def test_the_posterior_mean_of_a_mixture_is_a_mean(generator):
    """Against draws: x_s weighted by N(y; x_s, lam)."""
    exact = GaussianMixture([[-1.0], [0.5]], 0.1, [0.3, 0.7])
    draws = exact.sample(400_000, t=0.2, generator=generator).double()
    y = torch.tensor([[0.1]], dtype=torch.float64)
    weights = torch.softmax(-(draws - y).square().sum(1) / (2 * 0.3), 0)
    mean = prox_from_denoiser(exact).prox(y, 0.2, 0.3)
    assert float(mean) == pytest.approx(float((weights[:, None] * draws).sum()), abs=5e-3)


def test_one_evaluation_a_step_at_the_right_time():
    asked = []

    class Network(torch.nn.Module):
        def forward(self, x, t):
            asked.append(float(t[0]))
            return 0.0 * x

    sde = VPSDE()
    prox_from_denoiser(ScoreModel(Network())).prox(torch.zeros(1, 2), 0.3, float(sde.beta_integral(0.3, 0.4)))
    ratio = ((sde.noise_variance(0.3) + sde.beta_integral(0.3, 0.4)) / sde.alpha_bar(0.3)).sqrt()
    assert asked == [pytest.approx(float(sde.time_of_ratio(ratio)), rel=1e-6)]
    assert 0.3 < asked[0] < 0.4


@pytest.mark.parametrize("name", ["prox-hybrid", "prox-ode"])
def test_every_proximal_sampler_runs_on_a_denoiser(name):
    exact = GaussianMixture(torch.full((1, 2), 0.6, dtype=torch.float64), 0.5)
    ours, theirs = (sample(model, name, 12, (50, 2), seed=0) for model in (prox_from_denoiser(exact), exact))
    # The first step's surrogate would leave the unit interval; it is held at t = 1.
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("t, lam", [(0.05, 0.01), (0.3, 0.2), (0.6, 1.0), (0.9, 5.0)])
def test_the_implicit_prox_is_the_exact_one_where_the_problem_is_convex(generator, t, lam):
    means = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    mixture = GaussianMixture(means, 0.4)
    y = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    # Of equal components the Hessian of log p is below alpha^2 R^2 / v^2 - 1 / v, R half the width of the means.
    alpha, v = float(VPSDE().alpha(t)), float(VPSDE().variance(t, 0.4))
    assert lam * (alpha**2 * float(torch.pdist(means).max() / 2) ** 2 / v**2 - 1 / v) < 1
    u = implicit_prox(mixture, tol=1e-9, most=200).prox(y, t, lam)
    torch.testing.assert_close(u, mixture.prox(y, t, lam), rtol=0, atol=1e-6)
    torch.testing.assert_close(u - lam * mixture.score(u, t), y, rtol=0, atol=1e-6)


def test_the_evaluations_of_an_implicit_prox_are_counted():
    model = implicit_prox(GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), 0.5))
    state = solve("prox-hybrid", model, TimeGrid.uniform(5), GeneratorNoise((3, 2), dtype=torch.float64))
    assert state.nfe == model.evaluations >= 10
    assert model.unconverged == 0


def test_an_implicit_prox_says_where_it_did_not_converge():
    """Two far points of mass, a long step: not convex."""
    mixture = GaussianMixture(torch.tensor([[-3.0], [3.0]], dtype=torch.float64), 0.1)
    model = implicit_prox(mixture, tol=1e-12, most=3)
    with pytest.warns(UserWarning, match=r"1 of 1 proximal operators at t = 0.3 have not converged to 1e-12 in 3"):
        model.prox(torch.tensor([[0.2]], dtype=torch.float64), 0.3, 1.0)
    assert model.unconverged == 1
    with pytest.raises(ValueError, match="most = 1 and memory"):
        implicit_prox(mixture, most=1)


def test_nothing_to_make_a_prox_of():
    for make in (prox_from_denoiser, implicit_prox):
        with pytest.raises(OperatorError, match=r"FunctionModel has neither \.denoise nor \.score"):
            make(FunctionModel(VPSDE(), prox=lambda x, t, lam: x))
