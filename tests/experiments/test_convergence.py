"""Convergence rates: orders that theory gives, exact rules, start and last step told apart, paired distances."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pytest
import torch

from proxdm.experiments.convergence import (
    MIXTURES,
    ORDER_STEPS,
    ROUNDING,
    TARGETS,
    RatesPlan,
    gaussian_rates,
    mixture_rates,
    order_grid,
    run_rates,
    stratified,
    three_gaussians,
)
from proxdm.experiments.gaussian import GaussianTarget, respond
from proxdm.experiments.toy import METHODS, find_methods
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import w2
from proxdm.mixtures import GaussianMixture
from proxdm.noise import GeneratorNoise, sample_generator
from proxdm.samplers import SAMPLERS, ProxSampler, ScoreSampler, find_sampler, solve
from proxdm.samplers.paper import ProxStep, ScoreStep
from proxdm.schedules import VE, VPSDE, Discrete
from proxdm.sweep import Method, fit_slope

VP = VPSDE()
ISOTROPIC = TARGETS["isotropic"]


def rates(target, names, steps, **options):
    return gaussian_rates(target, find_methods(names), steps, **options)


@pytest.mark.parametrize("target", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("name", ["prox-backward", "prox-hybrid", "prox-ode"])
def test_kl_of_proximal_rules_falls_as_the_square_of_n(target, name):
    """O(1/N^2) is what the paper proves for prox-backward; on Gaussians the other rules share it."""
    found = rates(TARGETS[target], [name], (250, 500, 1000))
    fit = found.fit(name, "exact_kl")
    assert fit.slope == pytest.approx(-2, abs=0.1)
    assert fit.straight
    assert found.fit(name, "exact_kl_reverse").slope == pytest.approx(-2, abs=0.1)
    assert found.fit(name, "exact_w2").slope == pytest.approx(-1, abs=0.05)


def test_euler_maruyama_on_standard_normal_data_has_the_constant_by_hand():
    """V' = (1 - g/2)^2 V + g adds g^2/4 (1 + ...) to V = 1 every step and forgets it at rate beta: d = N^-1 c."""
    target, n = GaussianTarget("standard", (0.0,), (1.0,)), 2000
    # With V = 1 + d: d' = (1 - g) d + g^2 / 4, so d -> int beta(t)^2 / 4 e^(-B(0, t)) dt / N.
    t = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    constant = torch.trapezoid(VP.beta(t) ** 2 / 4 * VP.alpha_bar(t), t)
    found = rates(target, ["score-euler"], (n,)).values("score-euler", "exact_kl")[n]
    assert found == pytest.approx(float(constant / n) ** 2 / 4, rel=0.03)


def moments(schedule, t, s, std=0.5):
    """B(s, t), variances at t and s, and the map and variance of x_s given x_t on N(mu, std^2 I), by Bayes' rule."""
    g = schedule.beta_integral(s, t)
    v_t, v_s = schedule.variance(t, std), schedule.variance(s, std)
    c = torch.exp(-g / 2) * v_s / v_t
    return g, v_t, v_s, c, v_s - c**2 * v_t


@dataclass(frozen=True, repr=False)
class ExactScore(ScoreSampler):
    name, stochastic = "exact-score", True

    def coefficients(self, schedule, t, s):
        g, v_t, _, c, left = moments(schedule, t, s)
        return ScoreStep(torch.exp(g / 2), (torch.exp(g / 2) - c) * v_t, left.clamp(min=0).sqrt())


@dataclass(frozen=True, repr=False)
class ExactProx(ProxSampler):
    name, stochastic = "exact-prox", True

    def coefficients(self, schedule, t, s):
        g, v_t, v_s, _, _ = moments(schedule, t, s)
        nu = (v_s + torch.expm1(g)) ** 2 / v_s - torch.exp(g) * v_t
        return ProxStep(torch.exp(g / 2), nu.clamp(min=0).sqrt(), torch.expm1(g))


@pytest.mark.parametrize("n", [1, 3, 50])
def test_a_rule_that_is_exact_for_gaussians_has_no_error_and_no_slope(n):
    methods = [Method(one, "uniform") for one in (ExactScore(last_noise=True), ExactProx())]
    found = gaussian_rates(ISOTROPIC, methods, (n, 2 * n))
    for method in methods:
        for metric in ("kl", "w2"):
            assert max(found.values(method.name, f"exact_{metric}").values()) < ROUNDING[metric]
        assert found.fit(method.name, "exact_kl") is None
        assert found.record()["methods"][method.name]["fits"]["exact"]["kl"] is None
    # From N(0, I) what is left is the start: the map of the exact process, the same at every N.
    first, second = found.values("exact-prox", "kl").values()
    assert 1e-12 < first == pytest.approx(second, rel=1e-6)
    # For another target it is a rule with an error like any other.
    other = gaussian_rates(TARGETS["anisotropic"], methods, (n,))
    assert other.values("exact-prox", "exact_kl")[n] > 1e-8


def test_starts_ends_and_evaluations():
    found = rates(ISOTROPIC, ["score-denoise-1e-3", "heun"], (20,))
    (row, heun), grid, data = found.rows, TimeGrid.denoising(20), ISOTROPIC.law(0.0, VP)
    whole = respond(find_sampler("euler-maruyama"), ISOTROPIC, VP, grid)
    last = respond(find_sampler("euler-maruyama"), ISOTROPIC, VP, TimeGrid.custom([1e-3, 0.0]))
    normal = GaussianTarget("standard", (0.0, 0.0), (1.0, 1.0)).law(0.0, VP)
    starts = {
        "": whole.apply(normal),
        "exact_": whole.apply(ISOTROPIC.law(1.0, VP)),
        "last_": last.apply(ISOTROPIC.law(1e-3, VP)),
    }
    assert row.metrics == {start + name: x for start, law in starts.items() for name, x in law.distances(data).items()}
    assert (row.grid, row.nfe, heun.nfe) == ("denoising(20, eps=0.001)", 20, 39)


def test_variance_exploding_schedules_start_from_their_own_law():
    found = rates(ISOTROPIC, ["dpm++2m"], (40,), schedule=VE())
    (row,) = found.rows
    assert row.metrics["exact_kl"] < row.metrics["kl"] < 2 * row.metrics["exact_kl"], "N(0, I) would be far off"


def test_an_error_that_does_not_shrink_is_that_of_the_last_step():
    found = rates(TARGETS["anisotropic"], ["heun", "prox-hybrid"], (10, 100, 1000))
    floor = found.values("heun", "last_kl")
    assert floor[10] == pytest.approx(floor[1000], rel=1e-6)
    assert found.values("heun", "exact_kl")[1000] == pytest.approx(floor[10], rel=0.01)
    shrinks = list(found.values("prox-hybrid", "last_kl").values())
    assert shrinks[0] > 1e3 * shrinks[1] > 1e6 * shrinks[2]


def test_the_start_bends_the_slope_of_the_probability_flow():
    found = rates(ISOTROPIC, ["score-ode"], (1000, 2000, 4000))
    assert not found.fit("score-ode").straight or found.fit("score-ode").slope > -0.5
    alpha, v1 = float(VP.alpha_bar(1.0)), float(VP.variance(1.0, 0.5))
    # The flow maps deviations by sigma / sqrt(v_1): the mean is off by that times sqrt(alpha_bar) mu, the ratio of
    # variances is 1 / v_1.
    by_hand = 2 * (alpha * 0.5**2 / v1 + 1 / v1 - 1 + math.log(v1)) / 2
    assert found.values("score-ode", "kl")[4000] == pytest.approx(by_hand, rel=0.1)


def test_orders_of_a_schedule_that_ends_early():
    """Stable Diffusion's betas reach a ratio of 14.6; linear interpolation between them leaves the order."""
    schedule = Discrete.scaled_linear()
    assert float(schedule.ratio(order_grid(5, schedule).times[0])) == pytest.approx(14.61, abs=0.01)
    assert -rates(ISOTROPIC, ["ddim"], (5,), schedule=schedule).order("ddim").slope == pytest.approx(1, abs=0.05)


def test_orders_are_measured_between_exact_laws_on_a_grid_without_a_step_to_0():
    grid = order_grid(50, VP)
    ratios = VP.ratio(grid.times).log()
    torch.testing.assert_close(ratios[[0, -1]].exp(), torch.tensor([20.0, 0.05]).double())
    assert float(ratios[0] - ratios[1]) == pytest.approx(float(ratios[0] - ratios[-1]) / 50**2)
    found = rates(ISOTROPIC, ["ddim", "heun"], (5,))
    assert list(found.orders["ddim"]) == list(ORDER_STEPS)
    assert [round(-found.order(name).slope) for name in ("ddim", "heun")] == [1, 2]
    assert found.record()["methods"]["heun"]["order"]["w2"] == found.orders["heun"]


def test_undefined_steps_are_skipped_with_a_sentence():
    found = rates(ISOTROPIC, ["prox-backward"], (5, 10))
    assert set(found.methods["prox-backward"]) == {10}
    assert "gamma = 3.602" in found.skipped["prox-backward"][5]
    none = rates(ISOTROPIC, ["prox-backward"], (5,))
    assert none.methods == {"prox-backward": {}}
    assert none.fit("prox-backward") is None
    json.dumps(none.record(), allow_nan=False)


def test_fits_are_least_squares_over_the_last_three():
    fit = fit_slope({1: 5.0, 10: 1.0, 100: 1e-2, 1000: 1e-3})
    assert fit.steps == (10, 100, 1000)
    assert fit.local_slopes == pytest.approx((-2, -1))
    assert fit.slope == pytest.approx(np.polyfit([1, 2, 3], [0, -2, -3], 1)[0])
    assert not fit.straight
    exact = fit_slope({n: 3.0 / n**2 for n in (7, 20, 90, 200)})
    assert exact.slope == pytest.approx(-2)
    assert exact.straight
    assert fit_slope({10: 1.0, 20: 1.0, 30: math.inf, 40: 0.0}).steps == (10, 20)
    assert fit_slope({10: 1.0}) is None
    assert fit_slope({10: 1e-30, 20: 1e-31}, rounding=1e-24) is None
    assert fit_slope({1: 1.0, 10: 10**-2.05, 100: 1e-4}).straight
    assert not fit_slope({1: 1.0, 10: 10**-2.2, 100: 10**-4.15}).straight


def test_runs_on_mixtures_are_the_samplers_against_one_reference_a_seed():
    plan = RatesPlan(("mixture",), (4, 10), ("score-euler", "prox-backward", "heun"), samples=60, seed=5, seeds=2)
    methods = find_methods(plan.methods)
    mixed, mixture = mixture_rates(MIXTURES["mixture"], methods, plan), three_gaussians()
    references = {seed: stratified(mixture, 60, sample_generator(seed, 0)) for seed in (5, 6)}

    def distance(x, seed):
        points, masses = references[seed]
        return w2(x, points, y_weights=masses)

    for method in methods:
        distances = []
        for seed in (5, 6):
            noise = GeneratorNoise((60, 2), torch.Generator().manual_seed(seed), dtype=torch.float64)
            distances.append(distance(solve(method.sampler, mixture, method.times(VP, 10), noise).x, seed))
        assert mixed.methods[method.name][10].w2.values == pytest.approx(distances, rel=1e-9)
    cell = mixed.methods["heun"][10]
    assert (cell.nfe, cell.grid) == (19, TimeGrid.rho(10).name)
    draws = [mixture.sample(60, generator=sample_generator(seed, 1)) for seed in (5, 6)]
    assert mixed.floor.w2.values == tuple(map(distance, draws, (5, 6)))
    assert (mixed.floor.nfe, mixed.floor.grid) == (0, None)
    assert set(mixed.methods["prox-backward"]) == {10}
    assert "gamma < 2" in mixed.skipped["prox-backward"][4]


def test_stratified_draws_have_the_exact_masses(generator):
    mixture = GaussianMixture(torch.tensor([[0.0], [10.0], [20.0]]).double(), [0.1, 0.0, 0.1], [0.5, 0.499, 0.001])
    points, masses = stratified(mixture, 100, generator)
    assert points.shape == (50 + 50 + 1, 1)
    nearest = (points / 10).round()[:, 0]
    for component, mass in enumerate((0.5, 0.499, 0.001)):
        assert float(masses[nearest == component].sum()) == pytest.approx(mass, rel=1e-12)
    assert torch.equal(points[nearest == 1], torch.full((50, 1), 10.0, dtype=torch.float64))
    assert float(points[nearest == 0].std()) == pytest.approx(0.1, rel=0.4)


def test_the_dino_is_its_point_masses():
    mixture = MIXTURES["dino"].build()
    plan = RatesPlan(("dino",), (2,), ("prox-ode",), samples=142, seeds=1)
    found = mixture_rates(MIXTURES["dino"], find_methods(plan.methods), plan)
    noise = GeneratorNoise((142, 2), torch.Generator().manual_seed(0), dtype=torch.float64)
    x = solve("prox-ode", mixture, TimeGrid.uniform(2), noise).x
    assert found.methods["prox-ode"][2].w2.values[0] == pytest.approx(w2(x, mixture.means), rel=1e-9)


def test_the_whole_run_and_its_record():
    targets, methods = ("mixture", "isotropic", "mixture"), ("prox-ode", "score-ode")
    result = run_rates(RatesPlan(targets, (20, 10), methods, samples=20, seeds=1, seed=3))
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert list(record["gaussians"]) == ["isotropic"]
    assert list(record["mixtures"]) == ["mixture"]
    assert (record["grid"], record["quadrature"]) == (None, None)
    gaussian = record["gaussians"]["isotropic"]
    assert (gaussian["mean"], gaussian["std"]) == ([0.5, 0.5], [0.5, 0.5])
    assert list(gaussian["methods"]) == ["prox-ode", "score-ode"]
    cell, row = gaussian["methods"]["prox-ode"]["steps"]["20"], result.gaussians[0].rows[1]
    for name in ROUNDING:
        found = [cell[name], cell["exact_start"][name], cell["last_step"][name]]
        assert found == [row.metrics[start + name] for start in ("", "exact_", "last_")]
    assert (cell["grid"], cell["nfe"]) == ("uniform(20)", 20)
    fit = gaussian["methods"]["prox-ode"]["fits"]["normal"]["kl"]
    assert fit["steps"] == [10, 20]
    assert fit["slope"] == result.gaussians[0].fit("prox-ode").slope
    assert {"local_slopes", "straight"} < set(fit)
    mixture = record["mixtures"]["mixture"]
    assert (mixture["samples"], mixture["seeds"]) == (20, [3])
    assert mixture["methods"]["score-ode"]["steps"]["10"]["w2_std"] is None
    assert mixture["floor"]["w2"] > 0
    assert record["versions"]["torch"] == version("torch")


def test_numbers_that_are_not_finite_are_none():
    """A variance below the smallest float64 is 0: there is no density, but there is a W2."""
    found = rates(GaussianTarget("point", (0.0,), (1e-170,)), ["prox-hybrid"], (5, 10))
    cell = json.loads(json.dumps(found.record(), allow_nan=False))["methods"]["prox-hybrid"]["steps"]["5"]
    assert (cell["kl"], cell["kl_reverse"], cell["w2"]) == (None, None, 0.0)
    assert found.fit("prox-hybrid") is None


def test_defaults():
    plan = RatesPlan()
    assert (plan.targets, plan.samples, plan.all_seeds) == (("isotropic", "anisotropic", "mixture"), 1000, (0, 1, 2))
    assert len(find_methods(plan.methods)) == len(METHODS) + len(SAMPLERS) - 5, "five are there by the paper's names"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"targets": ()}, "target.* isotropic, anisotropic, mixture, dino"),
        ({"targets": ("isotropc",)}, r"'isotropc' .*'isotropic'\?"),
        ({"steps": ()}, "steps"),
        ({"steps": (10, 0)}, "steps = 0 .*at least 1"),
        ({"steps": (2.5,)}, "steps = 2.5"),
        ({"methods": ()}, "methods"),
        ({"methods": ("prox-hybird",)}, r"'prox-hybird' .*'prox-hybrid'\?"),
        ({"methods": ("score-euler",), "grid": "power"}, "'score-euler'.* euler-maruyama"),
        ({"grid": "powr"}, "'powr'.* uniform, denoising, power, log-snr"),
        ({"grid": "denoising(eps=2)"}, "eps = 2 "),
        ({"samples": 0}, r"samples = 0 .*10,000"),
        ({"samples": 10_001}, "samples = 10001"),
        ({"seeds": 0}, "seeds = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"targets": ("isotropic",), "samples": 5}, "samples = 5 .*mixture"),
        ({"targets": ("isotropic",), "seed": 5}, "seed = 5 .*mixture"),
    ],
)
def test_wrong_plans(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        RatesPlan(**options)
    assert "\n" not in str(caught.value)
