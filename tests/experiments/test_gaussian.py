"""Samplers on Gaussian targets: impulses give what the samplers do, and distances are the textbook's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from proxdm.experiments.convergence import TARGETS, order_grid
from proxdm.experiments.gaussian import GaussianModel, GaussianTarget, NormalLaw, respond, respond_last
from proxdm.experiments.toy import METHODS, find_methods
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import w2
from proxdm.mixtures import GaussianMixture
from proxdm.noise import GeneratorNoise
from proxdm.samplers import SAMPLERS, Sampler, find_sampler, solve
from proxdm.schedules import VE, VPSDE, Flow

VP = VPSDE()
TARGET = GaussianTarget("test", mean=(0.5, -0.3, 0.0), std=(0.5, 1.3, 0.1))
STANDARD = GaussianTarget("standard", mean=(0.0,), std=(1.0,))


def law(*pairs):
    mean, variance = torch.tensor(pairs, dtype=torch.float64).T
    return NormalLaw(mean, variance)


@pytest.mark.parametrize("schedule", [VP, VE(), Flow()])
def test_operators_are_those_of_the_mixture(schedule, generator):
    """In each direction alone the target is a mixture of one component, whose prox is found by a search."""
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    t, lam = torch.full((7,), 0.37, dtype=torch.float64), torch.full((7,), 0.8, dtype=torch.float64)
    model = GaussianModel(TARGET, schedule)
    for i in range(3):
        mean = torch.tensor([[TARGET.mean[i]]], dtype=torch.float64)
        one, column = GaussianMixture(mean, TARGET.std[i], schedule=schedule), x[:, i : i + 1]
        for found, expected in (
            (model.denoise(x, t), one.denoise(column, t)),
            (model.score(x, t), one.score(column, t)),
            (model.prox(x, t, lam), one.prox(column, t, lam)),
        ):
            torch.testing.assert_close(found[:, i : i + 1], expected, rtol=1e-9, atol=1e-12)


STANDARD_STEPS = {
    "euler-maruyama": (lambda g: 1 - g / 2, lambda g: g**0.5),
    "ode-euler": (lambda g: g**0 + 0.0, lambda g: 0 * g),
    "prox-hybrid": (lambda g: (1 + g / 2) / (1 + g), lambda g: g**0.5 / (1 + g)),
    "prox-backward": (lambda g: 1 / (1 + g / 2), lambda g: g**0.5 / (1 + g / 2)),
    "prox-ode": (lambda g: g**0 + 0.0, lambda g: 0 * g),
}


@pytest.mark.parametrize("name", list(STANDARD_STEPS))
def test_the_papers_samplers_on_standard_normal_data(name):
    """Data N(0, 1) stay N(0, 1): score -x, prox y / (1 + lam), and each step is a number by hand."""
    sampler = find_sampler(name)
    grid = sampler.grid(VP, 20)
    gamma = sampler.gamma(VP, grid.times[:-1], grid.times[1:])
    slope, noise = (function(gamma) for function in STANDARD_STEPS[name])
    if not sampler.last_noise:
        noise[-1] = 0
    variance = torch.tensor(0.0)
    for a, c in zip(slope, noise, strict=True):
        variance = a * a * variance + c * c
    found = respond(sampler, STANDARD, VP, grid)
    assert float(found.slope) == pytest.approx(float(slope.prod()), rel=1e-12)
    assert float(found.variance) == pytest.approx(float(variance), rel=1e-12)
    assert (float(found.offset), found.nfe) == (0.0, 20)


@pytest.mark.parametrize("schedule", [VP, VE(5.0)])
@pytest.mark.parametrize("name", ["score-denoise-1e-3", "prox-backward", "ddim(eta=1)", "dpm++2m", "heun"])
def test_drawn_samples_have_the_mean_and_variance(name, schedule):
    """200,000 particles, within five standard errors, from the start that samplers take."""
    (method,) = find_methods([name])
    if schedule != VP and method.sampler.operator != "denoiser":
        pytest.skip("the paper's samplers are made for variance-preserving schedules")
    count, grid = 200_000, method.times(schedule, 10)
    noise = GeneratorNoise((count, 3), torch.Generator().manual_seed(3), dtype=torch.float64)
    last = solve(method.sampler, GaussianModel(TARGET, schedule), grid, noise)
    response = respond(method.sampler, TARGET, schedule, grid)
    found = response.apply(law(*[(0.0, float(schedule.initial_std(grid.times[0])) ** 2)] * 3))
    assert ((last.x.mean(0) - found.mean).abs() < 5 * (found.variance / count).sqrt()).all()
    assert ((last.x.var(0) / found.variance - 1).abs() < 5 * math.sqrt(2 / count)).all()
    assert response.nfe == last.nfe == (19 if name == "heun" else 10)


@dataclass(frozen=True)
class Twice(Sampler):
    """Draws twice a step, though it says that it draws nothing."""

    name, operator, formula = "twice", "denoiser", "x' = D / 2 + z + 2 z'"

    def step(self, ask, x, t, s, z, carry):
        return ask.denoise(x, t) / 2 + z() + 2 * z(), carry


@dataclass(frozen=True)
class Clips(Sampler):
    name, operator, formula = "clips", "denoiser", "x' = clip D"

    def step(self, ask, x, t, s, z, carry):
        return ask.denoise(x, t).clamp(-0.4, 0.4), carry


def test_impulses_find_every_draw():
    first, second = (float(VP.alpha(t)) / 2 for t in (1.0, 0.5))  # D = alpha x on N(0, 1)
    found = respond(Twice(), STANDARD, VP, TimeGrid.custom([1.0, 0.5, 0.0]))
    assert float(found.variance) == pytest.approx(second**2 * 5 + 5)
    assert float(found.slope) == pytest.approx(first * second)


def test_what_has_no_normal_law_is_an_error():
    with pytest.raises(ValueError, match="clips is not affine"):
        respond(Clips(), TARGET, VP, TimeGrid.uniform(3))


@pytest.mark.parametrize("name", [*METHODS, "ddim", "dpm++2m", "dpm++3m", "heun"])
def test_the_last_step_alone(name):
    """All steps are those before the last, then the last; a history makes that false unless the grid ends in 0."""
    (method,) = find_methods([name])
    grid = method.times(VP, 12)
    whole = respond(method.sampler, TARGET, VP, grid)
    last = respond_last(method.sampler, TARGET, VP, grid, whole)
    torch.testing.assert_close(last.slope * whole.before[1], whole.slope)
    assert last.nfe == 1
    inner = TimeGrid.custom(grid.times[:-1])
    whole = respond(method.sampler, TARGET, VP, inner)
    assert (respond_last(method.sampler, TARGET, VP, inner, whole) is None) == name.startswith("dpm++")


def test_schedulers_of_diffusers_have_a_law_too():
    pytest.importorskip("diffusers")
    sampler = find_sampler("diffusers:DPMSolverMultistep(solver_order=2, final_sigmas_type=zero)")
    grid = sampler.grid(VP, 10)
    found, own = (respond(one, TARGET, VP, grid) for one in (sampler, find_sampler("dpm++2m")))
    torch.testing.assert_close(found.offset, own.offset, rtol=1e-3, atol=1e-4)
    assert found.nfe == 10


ORDERS = dict.fromkeys(("ddim", "ddim(eta=1)", *STANDARD_STEPS), 1)
ORDERS |= {"heun": 2, "dpm++2m": 2, "dpm++3m": 3, "dpm++3m(published=True)": 2, "multistep": 2, "unipc": 2}
# iPNDM takes equal steps for granted, which are not taken here.
ORDERS |= {"deis": 3, "ipndm": 2, "prox-exponential": 1, "prox-exponential(eta=1)": 1}
assert set(SAMPLERS) <= set(ORDERS), "every sampler has an order here"


@pytest.mark.parametrize("name, order", ORDERS.items())
def test_global_orders(name, order):
    """W2 of output and exact law falls as N^-order."""
    target, errors = TARGETS["anisotropic"], []
    for n in (200, 400):
        grid = order_grid(n, VP)
        first, last = (target.law(grid.times[i], VP) for i in (0, -1))
        errors.append(respond(find_sampler(name), target, VP, grid).apply(first).w2(last))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.05)


def test_marginals_are_those_of_the_forward_process():
    for t in (0.0, 0.3, 1.0):
        found = TARGET.law(t, VP)
        assert found.mean.tolist() == pytest.approx([float(VP.alpha(t)) * mean for mean in TARGET.mean], rel=1e-14)
        assert found.variance.tolist() == pytest.approx([float(VP.variance(t, std)) for std in TARGET.std], rel=1e-14)


def test_kl_is_that_of_torch():
    p, q = law((0.1, 0.5), (-2.0, 3.0), (0.0, 1.0)), law((0.4, 0.2), (-1.0, 4.0), (0.0, 1.0))
    one, other = (torch.distributions.Normal(x.mean, x.variance.sqrt()) for x in (p, q))
    forward, backward = (float(torch.distributions.kl_divergence(*pair).sum()) for pair in ((one, other), (other, one)))
    assert p.distances(q) == pytest.approx({"kl": forward, "kl_reverse": backward, "w2": p.w2(q)}, rel=1e-13)
    assert p.kl(p) == p.w2(p) == 0


@pytest.mark.parametrize("excess", [1e-5, 1e-8, -1e-8])
def test_small_kl_has_no_cancellation(excess):
    """KL of N(0, 1 + e) from N(0, 1) is e^2 / 4 - e^3 / 6 + ...: far below what 1 - log(1 + e) could resolve."""
    true = (1 + excess) - 1
    assert law((0.0, 1 + excess)).kl(law((0.0, 1.0))) == pytest.approx(true**2 / 4 - true**3 / 6, rel=1e-6)


def test_w2_is_bures_and_that_of_sorted_samples():
    p, q = law((0.1, 0.5), (-2.0, 3.0)), law((0.4, 0.2), (-1.0, 4.0))
    a, b = (np.diag(x.variance.numpy()) for x in (p, q))
    root = sqrtm(a)
    bures = np.trace(a + b - 2 * sqrtm(root @ b @ root)).real
    assert p.w2(q) == pytest.approx(math.sqrt(bures + float((p.mean - q.mean).square().sum())), rel=1e-12)
    u = torch.special.ndtri((torch.arange(300, dtype=torch.float64) + 0.5) / 300)[:, None]
    one, other = law((0.1, 0.5)), law((0.4, 0.2))
    drawn = w2(one.mean + one.variance.sqrt() * u, other.mean + other.variance.sqrt() * u)
    assert one.w2(other) == pytest.approx(drawn, rel=1e-2)


def test_laws_without_density_are_infinitely_far():
    point, normal = law((0.0, 0.0)), law((0.0, 1.0))
    assert point.distances(normal) == {"kl": math.inf, "kl_reverse": math.inf, "w2": 1.0}
    assert law((0.0, math.inf)).kl(normal) == math.inf


def test_targets_in_words():
    assert GaussianTarget("a", (0.5, 0.5), (0.25, 0.25)).formula == "N(0.5, 0.25²) in each of 2 directions"
    assert GaussianTarget("a", (0.5,), (0.25,)).formula == "N(0.5, 0.25²)"
    assert GaussianTarget("a", (0.5, 0.0), (1.0, 0.25)).formula == "N(μ, diag(σ²)), μ = (0.5, 0), σ = (1, 0.25)"
