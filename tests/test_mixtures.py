"""Densities, scores, denoisers and samples of Gaussian mixtures, against closed forms and independent code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from exact import rand
from proxdm.errors import NonFiniteError
from proxdm.mixtures import GaussianMixture
from proxdm.schedules import VPSDE

SDE = VPSDE()
TIMES = [1e-4, 0.05, 0.3, 0.7, 1.0]


def mixture(count: int = 7, shape: tuple[int, ...] = (3,), *, seed: int = 0, spread: bool = True) -> GaussianMixture:
    """Unequal weights; unequal deviations where `spread`, else 0.2 for all."""
    means = rand(count, *shape, seed=seed)
    std = 0.1 + rand(count, seed=seed + 1).abs() if spread else 0.2
    return GaussianMixture(means, std, rand(count, seed=seed + 2).exp(), SDE)


def reference(mix: GaussianMixture, t: float) -> MixtureSameFamily:
    """p_t by torch.distributions."""
    alpha = float(SDE.alpha_bar(t))
    means = mix.means.double().flatten(1) * alpha**0.5
    std = (alpha * mix.std.expand(mix.components) ** 2 + float(SDE.noise_variance(t))).sqrt()
    normals = Independent(Normal(means, std[:, None].expand_as(means)), 1)
    return MixtureSameFamily(Categorical(probs=mix.weights), normals)


@pytest.mark.parametrize("t", TIMES)
def test_one_gaussian_in_closed_form(t):
    mean, std, x = rand(1, 4, seed=0), 0.7, 3 * rand(6, 4, seed=1)
    mix = GaussianMixture(mean, std)
    alpha, v = SDE.alpha_bar(t), SDE.variance(t, std)
    away = x - alpha.sqrt() * mean
    expected = -away.square().sum(1) / (2 * v) - 2 * torch.log(2 * math.pi * v)
    torch.testing.assert_close(mix.log_prob(x, t), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mix.score(x, t), -away / v, rtol=1e-12, atol=1e-12)
    denoised = mean + alpha.sqrt() * std**2 / v * away
    torch.testing.assert_close(mix.denoise(x, t), denoised, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("t", TIMES)
def test_the_density_is_that_of_torch_distributions_the_score_its_gradient(t, spread):
    """And `E[X_0 | X_t = x] = (x + (1 - alpha_bar) score) / sqrt(alpha_bar)`, by Tweedie."""
    mix = mixture(spread=spread)
    x = (2 * rand(50, 3, seed=3)).requires_grad_()
    log_prob, own = reference(mix, t).log_prob(x), mix.log_prob(x, t)
    torch.testing.assert_close(own, log_prob, rtol=1e-11, atol=1e-11)
    score, gradient = (torch.autograd.grad(value.sum(), x)[0] for value in (log_prob, own))
    x = x.detach()
    torch.testing.assert_close(mix.score(x, t), score, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, score, rtol=1e-10, atol=1e-10)
    expected = (x + SDE.noise_variance(t) * score) / SDE.alpha_bar(t).sqrt()
    torch.testing.assert_close(mix.denoise(x, t), expected, rtol=1e-9, atol=1e-9)


def test_denoise_at_time_zero():
    x = rand(20, 3, seed=3)
    torch.testing.assert_close(mixture().denoise(x, 0.0), x, rtol=0, atol=1e-15)
    atoms = rand(7, 3, seed=0)
    expected = atoms[torch.cdist(x, atoms).argmin(1)]
    torch.testing.assert_close(GaussianMixture(atoms).denoise(x, 0.0), expected, rtol=0, atol=1e-15)


def longdouble_log_joint(mix: GaussianMixture, x: torch.Tensor, t: float) -> np.ndarray:
    """log(w_i N(x; m_i, v_i I)) in extended precision, `(B, K)`."""
    alpha = np.longdouble(float(SDE.alpha_bar(t)))
    means = np.sqrt(alpha) * mix.means.numpy().astype(np.longdouble)
    v = alpha * mix.std.expand(mix.components).numpy().astype(np.longdouble) ** 2 + float(SDE.noise_variance(t))
    square = ((x.numpy().astype(np.longdouble)[:, None] - means) ** 2).sum(2)
    dim = means.shape[1]
    return np.log(mix.weights.numpy()) - square / (2 * v) - dim / 2 * np.log(2 * np.longdouble(np.pi) * v)


@pytest.mark.parametrize("dim", [2, 40])
@pytest.mark.parametrize("std", [0.0, 1e-7])
def test_tiny_times_keep_their_digits(dim, std):
    """At t = 1e-12 the deviation is 3e-7, a million times below the spread of the atoms."""
    t = 1e-12
    mix = GaussianMixture(rand(200, dim, seed=0), std, rand(200, seed=1).exp())
    deviation = float(SDE.variance(t, std).sqrt())
    x = float(SDE.alpha_bar(t)) ** 0.5 * mix.means[:50] + deviation * rand(50, dim, seed=2)
    joint = longdouble_log_joint(mix, x, t)
    expected = joint.max(1)  # the others are some 1e12 below
    # x itself is only known to a rounding error of eps |x|.
    tolerance = 10 * 2.3e-16 * float(x.abs().max()) / deviation * dim
    torch.testing.assert_close(mix.log_prob(x, t).numpy(), expected.astype(float), rtol=tolerance, atol=0)


def test_tiny_unequal_variances_keep_their_digits():
    t, mix = 1e-12, GaussianMixture(rand(80, 2, seed=0), torch.logspace(-7, -5, 80))
    x = mix.means + mix.std[:, None] * rand(80, 2, seed=2)
    expected = longdouble_log_joint(mix, x, t).max(1)
    torch.testing.assert_close(mix.log_prob(x, t).numpy(), expected.astype(float), rtol=1e-7, atol=0)


@pytest.mark.parametrize("spread", [True, False])
def test_distant_points_keep_their_digits(spread):
    mix, t = mixture(20, (2,), spread=spread), 0.1
    x = 1e6 * rand(30, 2, seed=5)
    joint = longdouble_log_joint(mix, x, t)
    share = np.exp(joint - joint.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    alpha = float(SDE.alpha_bar(t))
    v = (alpha * mix.std.expand(20) ** 2 + float(SDE.noise_variance(t))).numpy()
    m = alpha**0.5 * mix.means.numpy()
    expected = ((share / v)[:, :, None] * (m - x.numpy()[:, None])).sum(1).astype(float)
    torch.testing.assert_close(mix.score(x, t).numpy(), expected, rtol=1e-13, atol=0)


def test_shapes_and_one_time_per_row():
    mix, t = mixture(5, (2, 3)), torch.tensor([0.1, 0.5, 0.9, 0.2])
    x = rand(4, 2, 3, seed=1)
    assert mix.log_prob(x, t).shape == (4,)
    assert mix.score(x, t).shape == mix.denoise(x, t).shape == x.shape
    for i in range(4):
        for function in (mix.log_prob, mix.score, mix.denoise):
            torch.testing.assert_close(function(x, t)[i], function(x[i : i + 1], t[i])[0], rtol=1e-12, atol=1e-12)


def test_scalar_events_and_empty_batches():
    mix = GaussianMixture(torch.tensor([-1.0, 2.0], dtype=torch.float64), 0.5)
    x = rand(6, seed=0)
    flat = GaussianMixture(torch.tensor([[-1.0], [2.0]], dtype=torch.float64), 0.5)
    torch.testing.assert_close(mix.log_prob(x, 0.2), flat.log_prob(x[:, None], 0.2))
    assert mix.score(x, 0.2).shape == (6,)
    assert mix.score(x[:0], 0.2).shape == mix.prox(x[:0], 0.2, 1.0).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_come_in_the_dtype_of_x(dtype):
    mix, x = mixture(), rand(5, 3, seed=1).to(dtype)
    for function in (mix.log_prob, mix.score, mix.denoise):
        result = function(x, 0.3)
        assert result.dtype == dtype
        torch.testing.assert_close(result, function(x.double(), 0.3).to(dtype))


def test_large_batches_are_worked_through_in_pieces(monkeypatch):
    mix, x = mixture(), rand(50, 3, seed=1)
    whole = [f(x, 0.3) for f in (mix.log_prob, mix.score, mix.denoise)]
    monkeypatch.setattr("proxdm._modes.inputs.NUMBERS_AT_ONCE", 20)
    for f, expected in zip((mix.log_prob, mix.score, mix.denoise), whole, strict=True):
        torch.testing.assert_close(f(x, 0.3), expected, rtol=1e-12, atol=1e-12)


def test_equal_deviations_given_one_by_one_are_the_same():
    means, x = rand(6, 3, seed=0), rand(8, 3, seed=1)
    one, many = GaussianMixture(means, 0.3), GaussianMixture(means, torch.full((6,), 0.3))
    torch.testing.assert_close(one.log_prob(x, 0.4), many.log_prob(x, 0.4))


def test_attributes():
    means = rand(4, 2, 3, seed=0).float()
    mix = GaussianMixture(means, 0.5, [1.0, 2.0, 3.0, 4.0])
    means.zero_()
    assert mix.means.abs().sum() > 0, "the means are copied"
    assert mix.components == 4
    assert mix.event_shape == (2, 3)
    assert mix.dim == 6
    assert mix.dtype == torch.float32
    assert mix.device == torch.device("cpu")
    assert mix.schedule == VPSDE()
    torch.testing.assert_close(mix.weights, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))
    assert "4 means of shape (2, 3), std=0.5" in repr(mix)
    wide = mix.to(dtype=torch.float64)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.weights, mix.weights)


def test_another_schedule():
    sde, x = VPSDE(0.5, 5.0), rand(4, 2, seed=0)
    mix = GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), 2.0, schedule=sde)
    torch.testing.assert_close(mix.score(x, 0.5), -x / sde.variance(0.5, 2.0))


@pytest.mark.parametrize("t", [0.0, 0.2, 1.0])
def test_samples_have_the_moments_of_the_mixture(t):
    mix, n = mixture(4, (2,)), 40_000
    x = mix.sample(n, t, generator=torch.Generator().manual_seed(0))
    assert x.shape == (n, 2)
    alpha, v = float(SDE.alpha_bar(t)), SDE.variance(t, 1.0) - SDE.alpha_bar(t) * (1 - mix.std**2)
    centres = alpha**0.5 * mix.means
    mean = mix.weights @ centres
    second = mix.weights @ (centres.square() + v[:, None])
    error = (second - mean.square()).sqrt() / n**0.5
    assert ((x.mean(0) - mean).abs() < 5 * error).all()
    square = x.square()
    assert ((square.mean(0) - second).abs() < 5 * square.std(0) / n**0.5).all()
    # The log density of draws has the mean of minus the entropy: weights and deviations belong together.
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = mix.log_prob(reference(mix, t).sample((n,)), t)
    own = mix.log_prob(x, t)
    assert abs(own.mean() - other.mean()) < 5 * (own.var() / n + other.var() / n).sqrt()


def test_samples_of_point_masses_at_time_zero_are_the_points():
    mix = GaussianMixture(rand(5, 3, seed=0), weights=[0.4, 0.3, 0.1, 0.1, 0.1])
    x = mix.sample(20_000, generator=torch.Generator().manual_seed(0))
    distance, index = torch.cdist(x, mix.means, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert distance.max() < 1e-14
    share = torch.bincount(index, minlength=5) / 20_000
    assert ((share - mix.weights).abs() < 5 * (mix.weights * (1 - mix.weights) / 20_000).sqrt()).all()


def test_samples_are_reproducible():
    mix = mixture().to(dtype=torch.float32)
    draws = [mix.sample(5, 0.1, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].dtype == torch.float32
    assert mix.sample(0).shape == (0, 3)


POINT = torch.zeros(2, 3, dtype=torch.float64)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((torch.zeros(0, 2),), ValueError, r"means has shape \(0, 2\), must be \(K, \*\)"),
        ((torch.tensor(1.0),), ValueError, r"means has shape \(\)"),
        ((torch.tensor([[0.0], [NAN]]),), NonFiniteError, "1 of 2 numbers in means"),
        ((POINT, -0.1), ValueError, "std = -0.1 must be at least 0"),
        ((POINT, [0.1]), ValueError, r"std has shape \(1,\), must be one number, or one for each mean: \(2,\)"),
        ((POINT, INF), NonFiniteError, "1 of 1 numbers in std"),
        ((POINT, 0.1, [1.0]), ValueError, r"weights has shape \(1,\)"),
        ((POINT, 0.1, [1.0, 0.0]), ValueError, "weights must be positive, the least is 0"),
        ((POINT, 0.1, [1.0, INF]), NonFiniteError, "1 of 2 numbers in weights"),
    ],
)
def test_wrong_mixtures(arguments, error, message):
    with pytest.raises(error, match=message):
        GaussianMixture(*arguments)


@pytest.mark.parametrize("name", ["log_prob", "score", "denoise", "prox"])
@pytest.mark.parametrize(
    "x, t, error, message",
    [
        (POINT[:, :2], 0.5, ValueError, r"x has shape \(2, 2\), the mixture takes \(B, 3\)"),
        (POINT[0], 0.5, ValueError, r"x has shape \(3,\).*x\[None\]"),
        (POINT.long(), 0.5, ValueError, "must be a floating tensor"),
        (POINT.numpy(), 0.5, ValueError, "must be a floating tensor"),
        (POINT + NAN, 0.5, NonFiniteError, "2 of 2 rows of x"),
        (torch.tensor([[0.0, 0.0, 0.0], [0.0, INF, 0.0]]), 0.5, NonFiniteError, "1 of 2 rows of x"),
        (POINT, 1.5, ValueError, r"t = 1.5 must lie in \[0, 1\]"),
        (POINT, NAN, ValueError, r"t = nan must lie in \[0, 1\]"),
        (POINT, torch.tensor([0.1, 2.0]), ValueError, r"t = 2 must lie in \[0, 1\]"),
        (POINT, torch.zeros(3), ValueError, r"t has shape \(3,\).*\(2,\)"),
        (POINT.to("meta"), 0.5, ValueError, "x is on meta, the mixture on cpu"),
    ],
)
def test_wrong_points_and_times(name, x, t, error, message):
    with pytest.raises(error, match=message):
        getattr(mixture(), name)(x, t, *([1.0] if name == "prox" else []))


@pytest.mark.parametrize("name", ["log_prob", "score"])
@pytest.mark.parametrize("std", [0.0, [0.0, 1.0]])
def test_point_masses_have_no_density_at_time_zero(name, std):
    mix = GaussianMixture(POINT, std)
    with pytest.raises(ValueError, match=f"{name} does not exist at t = 0.*take t > 0 or std > 0"):
        getattr(mix, name)(POINT, torch.tensor([0.5, 0.0]))


def test_half_point_masses_have_no_posterior_at_time_zero():
    with pytest.raises(ValueError, match="denoise is not defined at t = 0"):
        GaussianMixture(POINT, [0.0, 1.0]).denoise(POINT, 0.0)


def test_wrong_sample_arguments():
    with pytest.raises(ValueError, match="n = -1 must be at least 0"):
        mixture().sample(-1)
    with pytest.raises(ValueError, match=r"t = 2 must lie in \[0, 1\]"):
        mixture().sample(1, 2.0)
