"""`sample_prox_multistep` by k-diffusion's contract, beside k-diffusion's own samplers and wrappers."""

from __future__ import annotations

import importlib.machinery
import math
import sys
from dataclasses import replace
from unittest.mock import MagicMock

import pytest
import torch

import proxdm
from proxdm.errors import StepError
from proxdm.integrations.k_diffusion import get_sigmas_prox, sample_prox_multistep
from proxdm.noise import GivenNoise
from proxdm.priors import fit_prior
from proxdm.schedules import Discrete
from tiny_models import random_prior


@pytest.fixture(scope="module")
def k_diffusion():
    """The package; what it imports for training and evaluation, and its samplers do not use, may be missing."""
    pytest.importorskip("torchsde")
    absent = []
    for name in ("clip", "cleanfid", "cleanfid.inception_torchscript", "dctorch", "einops", "jsonmerge", "skimage"):
        try:
            __import__(name)
        except ImportError:
            absent.append(name)
            sys.modules[name] = MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None))
    yield pytest.importorskip("k_diffusion")
    for name in absent:
        del sys.modules[name]


def denoiser(x, sigma, scale=1.0):
    """A nonlinear denoiser: of data at -1 and 1."""
    return scale * torch.tanh(x / sigma.reshape(-1, 1, 1, 1) ** 2)


@pytest.fixture
def prior():
    return random_prior((1, 4, 4), components=2, rank=2)


def noise(seed=0):
    return torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_without_a_prior_it_is_their_2m(k_diffusion, n):
    sigmas = k_diffusion.sampling.get_sigmas_karras(n, 0.05, 20.0)
    theirs = k_diffusion.sampling.sample_dpmpp_2m(denoiser, noise() * sigmas[0], sigmas, {"scale": 0.7}, disable=True)
    ours = sample_prox_multistep(denoiser, noise() * sigmas[0], sigmas, {"scale": 0.7}, disable=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_callback_sees_what_theirs_sees(k_diffusion):
    sigmas = k_diffusion.sampling.get_sigmas_karras(4, 0.05, 20.0)
    seen = ([], [])
    for sampler, calls in zip((k_diffusion.sampling.sample_dpmpp_2m, sample_prox_multistep), seen, strict=True):
        sampler(denoiser, noise() * sigmas[0], sigmas, None, calls.append, True)
    for theirs, ours in zip(*seen, strict=True):
        assert theirs.keys() == ours.keys()
        assert theirs["i"] == ours["i"]
        for key in ("x", "sigma", "sigma_hat", "denoised"):
            torch.testing.assert_close(theirs[key], ours[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("kind", ["DiscreteEpsDDPMDenoiser", "DiscreteVDDPMDenoiser"])
def test_with_a_prior_it_is_our_sampler(k_diffusion, prior, n, kind):
    schedule = Discrete.linear()
    bars = schedule.alpha_bar(torch.arange(1, 1001, dtype=torch.float64) / 1000).float()

    def network(x, t):
        return torch.tanh(x * (1 + t.reshape(-1, 1, 1, 1) / 1000))

    wrapped = getattr(k_diffusion.external, kind)(network, bars, quantize=False)
    sigmas = get_sigmas_prox(n, prior, float(wrapped.sigma_max))
    assert len(sigmas) == n + 1
    found = sample_prox_multistep(wrapped, noise() * sigmas[0], sigmas, disable=True, prior=prior)
    meaning = "epsilon" if "Eps" in kind else "v"
    ours = torch.nn.Module()
    ours.forward = lambda x, t: network(x, 1000 * t - 1)
    model = proxdm.ScoreModel(ours, schedule, meaning)
    known = replace(prior, curve=replace(prior.curve, schedule=str(schedule)))
    x = proxdm.sample(model, "multistep", n, prior=known, noise=GivenNoise(noise()))
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4)


def test_one_evaluation_on_gaussian_data(prior):
    """D moved along its line from ratio 2 to 0.1, the value before that of ratio 40: nearer to the data than D."""
    images = torch.randn(500, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    exact = fit_prior(images, components=1)
    sigmas = torch.tensor([2.0, 0.0])
    found = sample_prox_multistep(
        lambda x, sigma: exact.denoise(x, sigma[0]), noise() * 2, sigmas, disable=True, prior=exact
    )
    start, h = proxdm.priors.warm_start(exact, noise(), 2.0), math.log(20)
    denoised = exact.denoise(start, 2.0)
    line = (1 - (1 - math.exp(-h)) / h) * (denoised - proxdm.priors.bootstrap(exact, start, 2.0, 40.0))
    torch.testing.assert_close(found, denoised + line, rtol=1e-5, atol=1e-5)
    data = proxdm.priors.warm_start(exact, noise(), 1e-3)
    assert float((found - data).abs().mean()) < 0.5 * float((denoised - data).abs().mean())


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 1.0], [1.0, 2.0, 0.0]])
def test_sigmas_must_decrease(sigmas):
    with pytest.raises(StepError, match="decreasing"):
        sample_prox_multistep(denoiser, noise(), torch.tensor(sigmas))


def test_start_is_asked_for_where_nobody_says(prior):
    with pytest.raises(ValueError, match="start from"):
        get_sigmas_prox(3, replace(prior, curve=None))
    assert get_sigmas_prox(3, replace(prior, curve=None), start=1.5)[0].item() == pytest.approx(1.5)
    assert get_sigmas_prox(3, prior, sigma_max=0.5)[0].item() == pytest.approx(0.5)
