"""Samplers on Gaussian targets: the closed form is what the samplers do, and its distances are the textbook's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from proxdm.experiments.gaussian import GaussianTarget, NormalLaw, affine_steps
from proxdm.experiments.toy import METHODS
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import w2
from proxdm.mixtures import GaussianMixture
from proxdm.noise import GeneratorNoise, GivenNoise
from proxdm.rules import RULES, step_size
from proxdm.samplers import StepError, run
from proxdm.schedules import VPSDE

SDE = VPSDE()
TARGET = GaussianTarget("test", mean=(0.5, -0.3, 0.0), std=(0.5, 1.3, 0.1))
STANDARD = GaussianTarget("standard", mean=(0.0,), std=(1.0,))
METHOD_NAMES = list(METHODS)


def law(*pairs):
    mean, variance = torch.tensor(pairs, dtype=torch.float64).T
    return NormalLaw(mean, variance)


def one_direction(direction):
    """The exact operators of one direction of the target, from the mixture's solver: not the closed form here."""
    mean = torch.tensor([[TARGET.mean[direction]]], dtype=torch.float64)
    return GaussianMixture(mean, TARGET.std[direction], sde=SDE)


@pytest.mark.parametrize("name", METHOD_NAMES)
@pytest.mark.parametrize("quadrature", [None, "left", "integral"])
def test_the_affine_map_is_that_of_the_sampler_itself(name, quadrature):
    """The sampler is run on x_T and noise that are 0 but for one entry: that gives every coefficient of its map."""
    method, n = METHODS[name], 12 if quadrature != "left" or name != "prox-backward" else 24
    steps = affine_steps(TARGET, method, n, SDE, quadrature)
    grid = method.grid(n)
    for direction in range(3):
        inputs = torch.cat([torch.zeros(1, n + 1), torch.eye(n + 1)]).double()  # rows: nothing, x_T, noise 1 ... N
        noise = GivenNoise(inputs[:, :1], inputs[:, 1:].T[:, :, None])
        out = run(
            one_direction(direction),
            method.rule,
            grid,
            noise if method.rule.stochastic else GivenNoise(inputs[:, :1]),
            last_noise=method.last_noise,
            quadrature=quadrature,
        ).x[:, 0]
        gains = out[1:] - out[0]
        slope, offset, added = steps.slope[:, direction], steps.offset[:, direction], steps.noise[:, direction]
        rest = torch.flip(torch.cumprod(torch.cat([torch.ones(1), slope.flip(0)]), 0), [0]).double()
        scale = rest.abs().max()
        assert abs(gains[0] - rest[0]) < 1e-12 * scale
        torch.testing.assert_close(gains[1:], added * rest[1:], rtol=0, atol=1e-12 * float(scale))
        torch.testing.assert_close(out[0], (offset * rest[1:]).sum(), rtol=0, atol=1e-12 * float(scale))
        start = law((0.2, 1.7)) if direction else law((-1.0, 0.4))
        expected_mean = out[0] + gains[0] * start.mean[0]
        expected_variance = gains[0] ** 2 * start.variance[0] + gains[1:].square().sum()
        found = affine_steps(
            GaussianTarget("one", (TARGET.mean[direction],), (TARGET.std[direction],)), method, n, SDE, quadrature
        ).apply(start)
        assert float(found.mean) == pytest.approx(float(expected_mean), rel=1e-10, abs=1e-12)
        assert float(found.variance) == pytest.approx(float(expected_variance), rel=1e-10)


@pytest.mark.parametrize("name", ["score-denoise-1e-3", "prox-backward", "prox-ode"])
def test_drawn_samples_have_the_mean_and_variance(name):
    """200,000 particles, within five standard errors."""
    count, method = 200_000, METHODS[name]
    noise = GeneratorNoise((count, 1), torch.Generator().manual_seed(3), dtype=torch.float64)
    x = run(one_direction(0), method.rule, method.grid(10), noise, last_noise=method.last_noise).x[:, 0]
    found = affine_steps(TARGET, method, 10, SDE).apply(NormalLaw.standard(3))
    variance = float(found.variance[0])
    assert abs(float(x.mean() - found.mean[0])) < 5 * math.sqrt(variance / count)
    assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / count)


STANDARD_STEPS = {
    "euler-maruyama": (lambda g: 1 - g / 2, lambda g: g**0.5),
    "ode-euler": (lambda g: g**0 + 0.0, lambda g: 0 * g),
    "prox-hybrid": (lambda g: (1 + g / 2) / (1 + g), lambda g: g**0.5 / (1 + g)),
    "prox-backward": (lambda g: 1 / (1 + g / 2), lambda g: g**0.5 / (1 + g / 2)),
    "prox-ode": (lambda g: g**0 + 0.0, lambda g: 0 * g),
}


@pytest.mark.parametrize("name", list(STANDARD_STEPS))
def test_every_step_on_standard_normal_data(name):
    """Data N(0, 1) stay N(0, 1): score -x, prox y / (1 + lam), and each step is a number by hand."""
    method = next(method for method in METHODS.values() if method.rule is RULES[name] and method.name != "score-euler")
    grid = method.grid(20)
    gamma = step_size(SDE, grid.times[:-1], grid.times[1:], method.rule.quadrature)
    slope, noise = (function(gamma) for function in STANDARD_STEPS[name])
    if not method.last_noise:
        noise[-1] = 0
    steps = affine_steps(STANDARD, method, 20, SDE)
    torch.testing.assert_close(steps.slope[:, 0], slope, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(steps.noise[:, 0], noise, rtol=1e-13, atol=1e-13)
    assert steps.offset.abs().max() == 0
    variance = 1.0
    for a, c in zip(slope.tolist(), noise.tolist(), strict=True):
        variance = a * a * variance + c * c
    assert float(steps.apply(NormalLaw.standard(1)).variance) == pytest.approx(variance, rel=1e-12)


def test_the_last_steps_alone():
    steps = affine_steps(TARGET, METHODS["prox-hybrid"], 7, SDE)
    start = law((0.3, 0.2), (1.0, 2.0), (0.0, 0.5))
    mean, variance = start.mean, start.variance
    for i in (5, 6):
        mean = steps.slope[i] * mean + steps.offset[i]
        variance = steps.slope[i] ** 2 * variance + steps.noise[i] ** 2
    for first in (5, -2):
        found = steps.apply(start, first=first)
        assert torch.equal(found.mean, mean)
        torch.testing.assert_close(found.variance, variance, rtol=1e-15, atol=0)


def test_marginals_are_those_of_the_forward_process():
    times = TimeGrid.uniform(5).times
    mean, variance = TARGET.at(times, SDE)
    assert mean.shape == variance.shape == (6, 3)
    for i, t in enumerate(times.tolist()):
        root = SDE.alpha_bar(t).sqrt()
        for k in range(3):
            assert float(mean[i, k]) == pytest.approx(float(root) * TARGET.mean[k], rel=1e-14)
            assert float(variance[i, k]) == pytest.approx(float(SDE.variance(t, TARGET.std[k])), rel=1e-14)
    data = TARGET.law(0.0, SDE)
    assert data.mean.tolist() == pytest.approx(TARGET.mean)
    assert data.variance.sqrt().tolist() == pytest.approx(TARGET.std)


def test_kl_is_that_of_torch():
    p, q = law((0.1, 0.5), (-2.0, 3.0), (0.0, 1.0)), law((0.4, 0.2), (-1.0, 4.0), (0.0, 1.0))
    normal = torch.distributions.Normal
    for a, b in ((p, q), (q, p)):
        expected = torch.distributions.kl_divergence(
            normal(a.mean, a.variance.sqrt()), normal(b.mean, b.variance.sqrt())
        ).sum()
        assert a.kl(b) == pytest.approx(float(expected), rel=1e-13)
    found = p.distances(q)
    assert (found.kl, found.kl_reverse, found.w2) == (p.kl(q), q.kl(p), p.w2(q))
    assert p.kl(p) == p.w2(p) == 0


@pytest.mark.parametrize("excess", [1e-5, 1e-8, -1e-8])
def test_small_kl_has_no_cancellation(excess):
    """KL of N(0, 1 + e) from N(0, 1) is e^2 / 4 - e^3 / 6 + ...: far below what 1 - log(1 + e) could resolve."""
    variance = 1 + excess
    true = variance - 1
    expected = true**2 / 4 - true**3 / 6
    assert law((0.0, variance)).kl(law((0.0, 1.0))) == pytest.approx(expected, rel=1e-6)


def test_w2_is_bures_and_that_of_sorted_samples():
    p, q = law((0.1, 0.5), (-2.0, 3.0)), law((0.4, 0.2), (-1.0, 4.0))
    a, b = (np.diag(x.variance.numpy()) for x in (p, q))
    root = sqrtm(a)
    bures = np.trace(a + b - 2 * sqrtm(root @ b @ root)).real
    assert p.w2(q) == pytest.approx(math.sqrt(bures + float((p.mean - q.mean).square().sum())), rel=1e-12)
    # In one dimension, quantile by quantile.
    u = torch.special.ndtri((torch.arange(300, dtype=torch.float64) + 0.5) / 300)[:, None]
    one, other = law((0.1, 0.5)), law((0.4, 0.2))
    drawn = w2(one.mean + one.variance.sqrt() * u, other.mean + other.variance.sqrt() * u)
    assert one.w2(other) == pytest.approx(drawn, rel=1e-2)


def test_laws_without_density_are_infinitely_far():
    point, normal = law((0.0, 0.0)), law((0.0, 1.0))
    assert point.kl(normal) == normal.kl(point) == math.inf
    assert law((0.0, math.inf)).kl(normal) == math.inf
    assert point.distances(normal).record() == {"kl": None, "kl_reverse": None, "w2": 1.0}


def test_undefined_steps_are_errors():
    with pytest.raises(StepError, match=r"gamma = 3\.602, but it is defined for gamma < 2 only"):
        affine_steps(TARGET, METHODS["prox-backward"], 5, SDE)


@pytest.mark.parametrize(
    "mean, std, message",
    [
        ((), (), "has 0 means and 0 standard deviations"),
        ((1.0,), (1.0, 2.0), "has 1 means and 2 standard deviations"),
        ((math.nan,), (1.0,), "has mean nan; means must be finite"),
        ((0.0,), (0.0,), "has standard deviation 0.0; it must be positive and finite"),
        ((0.0,), (-1.0,), "has standard deviation -1.0"),
        ((0.0,), (math.inf,), "has standard deviation inf"),
    ],
)
def test_wrong_targets(mean, std, message):
    with pytest.raises(ValueError, match=message) as caught:
        GaussianTarget("bad", mean, std)
    assert "\n" not in str(caught.value)


def test_targets_in_words():
    assert GaussianTarget("a", (0.5, 0.5), (0.25, 0.25)).formula == "N(0.5, 0.25²) in each of 2 directions"
    assert GaussianTarget("a", (0.5,), (0.25,)).formula == "N(0.5, 0.25²)"
    assert GaussianTarget("a", (0.5, 0.0), (1.0, 0.25)).formula == "N(μ, diag(σ²)), μ = (0.5, 0), σ = (1, 0.25)"
