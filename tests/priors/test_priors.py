"""Priors: closed forms against dense matrices, mixtures against scikit-learn, flows against a fine solution."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal

from proxdm import VE, VPSDE, GaussianMixture, TimeGrid, sample, solve
from proxdm.noise import GivenNoise
from proxdm.priors import DenoiserPrior, GaussianPrior, MixturePrior, PriorError, bootstrap, warm_start
from proxdm.priors.base import integrate

D, K, M, R = 7, 4, 5, 2
close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def orthonormal(rows, columns, generator, *batch):
    return torch.linalg.qr(torch.randn(*batch, rows, columns, generator=generator, dtype=torch.float64))[0]


def isotropic(mean, variance, dim=2):
    """N(mean, variance I) as a prior, without directions of its own."""
    centre, none = torch.full((dim,), mean, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    rest = torch.tensor(variance, dtype=torch.float64)
    return GaussianPrior(centre, torch.zeros(dim, 0, dtype=torch.float64), none, rest, shape=(dim,))


def normal(*shape, generator):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def gaussian(generator):
    variances = torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64)
    rest = torch.tensor(0.09, dtype=torch.float64)
    return GaussianPrior(normal(D, generator=generator), orthonormal(D, 3, generator), variances, rest, shape=(D,))


@pytest.fixture
def mixture(generator):
    return MixturePrior(
        mean=normal(D, generator=generator),
        basis=orthonormal(D, M, generator),
        rest=torch.tensor(0.05, dtype=torch.float64),
        log_weights=torch.log_softmax(normal(K, generator=generator), 0),
        centres=2 * normal(K, M, generator=generator),
        axes=orthonormal(M, R, generator, K),
        variances=0.2 + torch.rand(K, R, generator=generator, dtype=torch.float64),
        floors=0.02 + 0.1 * torch.rand(K, generator=generator, dtype=torch.float64),
        shape=(D,),
    )


def dense(prior):
    """The covariance matrix of a Gaussian prior."""
    low = prior.basis @ torch.diag(prior.variances - prior.rest) @ prior.basis.T
    return low + prior.rest * torch.eye(D, dtype=torch.float64)


def dense_components(prior):
    """Means and covariances of the components in data space."""
    eye = torch.eye(D, dtype=torch.float64)
    for k in range(K):
        u = prior.axes[k]
        inner = u @ torch.diag(prior.variances[k] - prior.floors[k]) @ u.T
        inner += prior.floors[k] * torch.eye(M, dtype=torch.float64)
        outside = eye - prior.basis @ prior.basis.T
        yield prior.mean + prior.basis @ prior.centres[k], prior.basis @ inner @ prior.basis.T + prior.rest * outside


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


@pytest.mark.parametrize("s", [0.1, 1.0, 30.0])
def test_a_gaussian_is_its_dense_covariance(gaussian, generator, s):
    x, c, eye = normal(6, D, generator=generator), dense(gaussian), torch.eye(D, dtype=torch.float64)
    v, moved = c + s**2 * eye, x - gaussian.mean
    close(gaussian.denoise(x, s), gaussian.mean + moved @ torch.linalg.solve(v, c))
    close(gaussian.score(x, s), -moved @ torch.linalg.inv(v))
    wanted = gaussian.mean + moved @ torch.linalg.solve(v + 0.7 * eye, v)
    close(gaussian.prox(x, s, 0.7), wanted)
    flowed = gaussian.mean + moved @ (root(c + 0.25 * eye) @ torch.linalg.inv(root(v)))
    close(gaussian.flow(x, s, 0.5), flowed)
    density = multivariate_normal(gaussian.mean.numpy(), v.numpy()).logpdf(x.numpy())
    np.testing.assert_allclose(gaussian.log_prob(x, s).numpy(), density, rtol=0, atol=1e-9)


def test_ratios_may_differ_by_sample(gaussian, mixture, generator):
    x, s = normal(3, D, generator=generator), torch.tensor([0.2, 1.0, 5.0])
    for prior in (gaussian, mixture):
        one_by_one = torch.cat([prior.denoise(x[i : i + 1], float(s[i])) for i in range(3)])
        close(prior.denoise(x, s), one_by_one, atol=1e-12)


@pytest.mark.parametrize("s", [0.3, 1.0, 10.0])
def test_a_mixture_is_its_dense_components(mixture, generator, s):
    x, eye, logs, means = normal(6, D, generator=generator), torch.eye(D, dtype=torch.float64), [], []
    for log_weight, (mean, c) in zip(mixture.log_weights, dense_components(mixture), strict=True):
        v = c + s**2 * eye
        logs.append(float(log_weight) + torch.tensor(multivariate_normal(mean.numpy(), v.numpy()).logpdf(x.numpy())))
        means.append(mean + (x - mean) @ torch.linalg.solve(v, c))
    joint = torch.stack(logs, 1)
    close(mixture.log_prob(x, s), joint.logsumexp(1), atol=1e-9)
    wanted = (torch.softmax(joint, 1)[..., None] * torch.stack(means, 1)).sum(1)
    close(mixture.denoise(x, s), wanted)
    close(mixture.score(x, s), (wanted - x) / s**2, atol=1e-9)


def test_equal_isotropic_components_are_the_exact_mixture(mixture, generator):
    """K components without directions of their own are :class:`proxdm.GaussianMixture`, in hat coordinates."""
    means, zero = normal(K, M, generator=generator), torch.zeros(M, dtype=torch.float64)
    space = {"mean": zero, "basis": torch.diag(zero + 1), "rest": zero[0], "shape": (M,)}
    equal = {"log_weights": zero[:K] - math.log(K), "floors": zero[:K] + 0.09, "centres": means}
    prior = replace(mixture, axes=mixture.axes[..., :0], variances=mixture.variances[:, :0], **space, **equal)
    exact, x = GaussianMixture(means, 0.3, schedule=VE(10.0)), 3 * normal(20, M, generator=generator)
    close(prior.denoise(x, 2.0), exact.denoise(x, 0.2))
    close(prior.log_prob(x, 2.0), exact.log_prob(x, 0.2))


def test_one_component_is_the_gaussian(mixture, generator):
    part = {name: getattr(mixture, name)[:1] for name in ("centres", "axes", "variances", "floors")}
    one = replace(mixture, log_weights=torch.zeros(1, dtype=torch.float64), **part)
    x = normal(6, D, generator=generator)
    for s in (0.3, 4.0):
        close(one.denoise(x, s), one.moments.denoise(x, s))
        close(one.log_prob(x, s), one.moments.log_prob(x, s))
        close(one.flow(x, s, 1.5), one.moments.flow(x, s, 1.5))
    close(warm_start(one, x, 0.7), warm_start(one.moments, x, 0.7))


@pytest.mark.parametrize("start, end", [(20.0, 0.5), (2.0, 0.3), (0.5, 3.0), (0.5, 60.0)])
def test_the_flow_of_a_mixture_is_that_of_a_fine_solution(mixture, generator, start, end):
    x = normal(4, D, generator=generator) * math.sqrt(1 + start**2)

    def slope(log_s, flat):
        at = torch.tensor(flat.reshape(x.shape))
        return (at - mixture.denoise(at, math.exp(log_s))).numpy().ravel()

    fine = solve_ivp(slope, (math.log(start), math.log(end)), x.numpy().ravel(), rtol=1e-9, atol=1e-9).y[:, -1]
    fine = torch.tensor(fine).reshape(x.shape)
    torch.testing.assert_close(mixture.flow(x, start, end), fine, rtol=0.01, atol=0.04 * max(2.5, end))
    finer = integrate(mixture.denoise, x, start, end, 400)
    torch.testing.assert_close(finer, fine, rtol=1e-3, atol=1e-4 * max(2.0, end))


def test_a_flow_to_zero_ends_in_the_data(mixture, generator):
    """Samples of the prior: mean and covariance of 20,000 of them."""
    x = mixture.flow(mixture.farthest * normal(20_000, D, generator=generator), mixture.farthest, 0.0)
    close(x.mean(0), mixture.moments.mean, atol=0.05)
    c = dense(mixture.moments)
    assert float((torch.cov(x.T) - c).abs().max()) < 0.05 * float(c.abs().max())


def test_a_warm_start_has_the_law_of_noisy_data(gaussian, generator):
    s = 0.8
    x = warm_start(gaussian, normal(50_000, D, generator=generator), s)
    close(x.mean(0), gaussian.mean, atol=0.05)
    wanted = dense(gaussian) + s**2 * torch.eye(D, dtype=torch.float64)
    torch.testing.assert_close(torch.cov(x.T), wanted, rtol=0.03, atol=0.05)


def test_a_denoiser_is_a_prior(generator):
    """The exact denoiser of one Gaussian, by 40 steps, against the closed form."""
    model = GaussianMixture(torch.full((1, 2), 0.4, dtype=torch.float64), 0.5)
    exact = isotropic(0.4, 0.25)
    prior, x = DenoiserPrior(model, 40, shape=(2,)), normal(5, 2, generator=generator)
    close(prior.denoise(x, 0.7), exact.denoise(x, 0.7), atol=1e-6)
    torch.testing.assert_close(prior.flow(10 * x, 10.0, 0.5), exact.flow(10 * x, 10.0, 0.5), rtol=0.01, atol=0.02)
    close(bootstrap(prior, x, 0.5, 1.0), bootstrap(exact, x, 0.5, 1.0), atol=0.05)
    assert prior.to("cpu") is prior
    assert float(warm_start(prior, x, 0.5).std()) < 1.5


def test_one_evaluation_on_gaussian_data(generator):
    """N = 1: warm start and one denoising, moved along its line to the floor; nearer to the flow than without."""
    schedule = VPSDE()
    model = GaussianMixture(torch.full((1, 2), 0.4, dtype=torch.float64), 0.5, schedule=schedule)
    prior = isotropic(0.4, 0.25)
    z = normal(1000, 2, generator=generator)
    for s in (0.01, 1.0):
        grid = TimeGrid.rho(1, s, s / 2, schedule=schedule)
        x = solve("multistep", model, grid, GivenNoise(z), prior=prior).x
        wanted = denoised = prior.denoise(warm_start(prior, z, s), s)
        if s > 0.1:
            h = math.log(s / 0.1)
            before = 0.4 + 0.25 / math.sqrt(0.25 + (s * s / 0.1) ** 2) * z
            wanted = denoised + (1 - (1 - math.exp(-h)) / h) * (denoised - before)
        close(x, wanted, atol=1e-5)
    close(denoised, 0.4 + 0.25 / (0.25 + 1) * math.sqrt(1.25) * z, atol=1e-5)
    exact = warm_start(prior, z, 1e-6)
    assert float((x - exact).abs().mean()) < 0.62 * float((denoised - exact).abs().mean())


def test_the_bootstrap_makes_the_first_step_second_order(generator):
    """From ratio 3 to 0.3 on a Gaussian with its own prior: the error of one step falls by 2^3 when it is halved."""
    model = GaussianMixture(torch.full((1, 2), 0.4, dtype=torch.float64), 0.5, schedule=VE(10.0))
    prior = isotropic(0.4, 0.25)
    z, errors = normal(50, 2, generator=generator), {}
    for name in ("multistep", "dpm++2m"):
        for h in (0.2, 0.1):
            grid = TimeGrid.custom([0.1, 0.1 * math.exp(-h)])
            x = solve(name, model, grid, GivenNoise(z), prior=prior).x
            errors[name, h] = float((x - warm_start(prior, z, math.exp(-h))).abs().max())
    assert math.log2(errors["multistep", 0.2] / errors["multistep", 0.1]) == pytest.approx(3, abs=0.3)
    assert math.log2(errors["dpm++2m", 0.2] / errors["dpm++2m", 0.1]) == pytest.approx(2, abs=0.3)


def test_without_a_prior_multistep_is_dpm_solver(generator):
    model = GaussianMixture(normal(20, 2, generator=generator), 0.3)
    assert torch.equal(sample(model, "multistep", 6, (9, 2), seed=1), sample(model, "dpm++2m", 6, (9, 2), seed=1))


def test_a_prior_of_another_shape_is_refused(gaussian):
    with pytest.raises(PriorError, match=r"\(7,\).*\(5,\)"):
        gaussian.denoise(torch.zeros(2, 5), 1.0)
    with pytest.raises(PriorError, match="from inf"):
        integrate(gaussian.denoise, torch.zeros(2, D), math.inf, 1.0)


def test_shapes_dtypes_and_devices(gaussian):
    x = torch.zeros(2, D)
    assert gaussian.denoise(x, 1.0).dtype == torch.float32
    assert replace(gaussian, shape=(1, 7)).denoise(x[:, None], 1.0).shape == (2, 1, 7)
    assert gaussian.to("cpu") is gaussian
    assert gaussian.numbers == D + 3 * D + 3 + 1
    assert gaussian.to("meta").mean.device.type == "meta"
