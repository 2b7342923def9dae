"""deepinv's prior and denoiser: closed forms of a Gaussian, and of the coordinates between [0, 1] and [-1, 1]."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("deepinv")

import deepinv

import proxdm
from proxdm.errors import OperatorError
from proxdm.integrations.deepinv import ModelDenoiser, ProxPrior
from proxdm.operators import FunctionModel

SPREAD = 0.3
"""Deviation of the data, in [-1, 1]; their mean is 0."""


def gaussian(**operators):
    """Data N(0, SPREAD^2) in every pixel: D(x, t) = alpha c / (alpha^2 c + sigma^2) x."""
    schedule = proxdm.VPSDE()

    def denoise(x, t):
        alpha, c = schedule.alpha(t), SPREAD**2
        return (alpha * c / (alpha**2 * c + schedule.sigma(t) ** 2)).float().reshape(-1, 1, 1, 1) * x

    def prox(x, t, lam):
        v = schedule.variance(t, SPREAD)
        return (v / (v + lam)).float().reshape(-1, 1, 1, 1) * x

    given = {"denoise": denoise, "prox": prox}
    return FunctionModel(schedule, **{name: given[name] for name in operators or {"denoise": True}})


@pytest.fixture
def x(generator):
    return torch.rand(3, 1, 4, 4, generator=generator)


@pytest.mark.parametrize("kind", ["posterior-mean", "implicit", "model"])
@pytest.mark.parametrize(("sigma", "gamma"), [(0.0, 0.02), (0.1, 0.3), (0.4, 0.01)])
def test_prox_of_a_gaussian(x, kind, sigma, gamma):
    model = gaussian(prox=True) if kind == "model" else gaussian()
    # In x the data are N(1/2, (SPREAD/2)^2): the prox shrinks towards 1/2 by v / (v + gamma).
    v = (SPREAD / 2) ** 2 + sigma**2
    expected = 0.5 + v / (v + gamma) * (x - 0.5)
    found = ProxPrior(model, kind).prox(x, sigma, gamma=gamma)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 if kind == "implicit" and sigma == 0 else 1e-4)


def test_prox_takes_a_weight_for_each_picture(x):
    prior, gammas = ProxPrior(gaussian()), torch.tensor([0.01, 0.1, 1.0])
    each = torch.cat([prior.prox(x[i : i + 1], 0.1, gamma=float(gammas[i])) for i in range(3)])
    torch.testing.assert_close(prior.prox(x, 0.1, gamma=gammas), each)


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_denoiser_and_gradient_of_a_gaussian(x, sigma):
    v = (SPREAD / 2) ** 2
    denoised = 0.5 + v / (v + sigma**2) * (x - 0.5)
    torch.testing.assert_close(ModelDenoiser(gaussian())(x, sigma), denoised, rtol=1e-4, atol=1e-5)
    assert isinstance(ModelDenoiser(gaussian()), deepinv.models.Denoiser)
    gradient = ProxPrior(gaussian()).grad(x, sigma)
    torch.testing.assert_close(gradient, (x - 0.5) / (v + sigma**2), rtol=1e-3, atol=1e-3)


def test_denoising_by_their_algorithm_is_the_map_estimate(x):
    noise = 0.1
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(noise))
    fidelity = deepinv.optim.L2(sigma=noise)
    solver = deepinv.optim.PGD(
        prior=ProxPrior(gaussian(prox=True)), data_fidelity=fidelity, stepsize=0.005, g_param=0.0, max_iter=400
    )
    v = (SPREAD / 2) ** 2
    torch.testing.assert_close(solver(x, physics), 0.5 + v / (v + noise**2) * (x - 0.5), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ProxPrior(gaussian(), "model"), "no prox of its own"),
        (lambda: ProxPrior(gaussian(), "exact"), "kind = 'exact'"),
        (lambda: ModelDenoiser(gaussian(prox=True)), "neither .denoise nor .score"),
        (lambda: ProxPrior(gaussian(prox=True)).grad(torch.zeros(1, 1, 2, 2), 0.1), "no denoiser"),
    ],
)
def test_what_a_model_cannot_give_is_refused(make, words):
    with pytest.raises(OperatorError, match=words):
        make()
