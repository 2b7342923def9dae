"""Convergence rates: orders that theory gives, exact rules, start and last step told apart, paired distances."""

from __future__ import annotations

import json
import math
from importlib.metadata import version

import numpy as np
import pytest
import torch

from proxdm.experiments.convergence import gaussian_rates, mixture_rates, run_rates, stratified
from proxdm.experiments.convergence_plan import (
    DEFAULT_TARGETS,
    MIXTURE_STEPS,
    MIXTURES,
    STEPS,
    TARGETS,
    RatesPlan,
    methods_on,
    three_gaussians,
)
from proxdm.experiments.convergence_result import ROUNDING, Fit, fit_slope
from proxdm.experiments.gaussian import GaussianTarget, NormalLaw, affine_steps
from proxdm.experiments.toy import METHODS, Method, methods_of
from proxdm.grids import TimeGrid
from proxdm.metrics.wasserstein import w2
from proxdm.mixtures import GaussianMixture
from proxdm.noise import GeneratorNoise, sample_generator
from proxdm.rules import RULES, ProxRule, ProxStep, ScoreRule, ScoreStep
from proxdm.samplers import run
from proxdm.schedules import VPSDE

SDE = VPSDE()
ISOTROPIC = TARGETS["isotropic"]


def rates(target, names, steps, **options):
    return gaussian_rates(target, [METHODS[name] for name in names], steps, **options)


@pytest.mark.parametrize("target", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("name", ["prox-backward", "prox-hybrid", "prox-ode"])
def test_kl_of_proximal_rules_falls_as_the_square_of_n(target, name):
    """O(1/N^2) is what the paper proves for prox-backward; on Gaussians the other rules share it."""
    found = rates(TARGETS[target], [name], (500, 1000, 2000))
    fit = found.fit(name, start="exact")
    assert fit.slope == pytest.approx(-2, abs=0.1)
    assert fit.straight
    assert found.fit(name, "kl_reverse", "exact").slope == pytest.approx(-2, abs=0.1)
    assert found.fit(name, "w2", "exact").slope == pytest.approx(-1, abs=0.05)


def test_a_score_rule_with_noise_at_every_step_has_the_same_order():
    fit = rates(ISOTROPIC, ["score-euler"], (500, 1000, 2000)).fit("score-euler", start="exact")
    assert fit.slope == pytest.approx(-2, abs=0.1)


def test_euler_maruyama_on_standard_normal_data_has_the_constant_by_hand():
    """V' = (1 - g/2)^2 V + g adds g^2/4 (1 + ...) to V = 1 every step and forgets it at rate beta: d = N^-1 c."""
    target, n = GaussianTarget("standard", (0.0,), (1.0,)), 4000
    # With V = 1 + d: d' = (1 - g) d + g^2 / 4, so d -> int beta(t)^2 / 4 e^(-B(0, t)) dt / N.
    t = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    constant = torch.trapezoid(SDE.beta(t) ** 2 / 4 * SDE.alpha_bar(t), t)
    found = rates(target, ["score-euler"], (n,)).methods["score-euler"][n].exact.kl
    assert found == pytest.approx(float(constant / n) ** 2 / 4, rel=0.02)


def exact_rules(sigma_d):
    """A prox rule and a score rule that are exact for N(mu, sigma_d^2 I), at any step size, by Bayes' rule.

    With g = B(s, t): x_s given x_t has mean m_s + c (x_t - m_t), c = e^(-g/2) v_s / v_t, and variance v_s - c^2 v_t.
    """

    def moments(sde, t, s):
        g = sde.beta_integral(s, t)
        v_t, v_s = sde.variance(t, sigma_d), sde.variance(s, sigma_d)
        c = torch.exp(-g / 2) * v_s / v_t
        return g, v_t, v_s, c, v_s - c**2 * v_t

    def score_step(sde, t, s, quadrature):
        g, v_t, _, c, left = moments(sde, t, s)
        drift = torch.exp(g / 2)  # takes m_t to m_s
        return ScoreStep(drift, (drift - c) * v_t, left.clamp(min=0).sqrt())

    def prox_step(sde, t, s, quadrature):
        g, v_t, v_s, _, _ = moments(sde, t, s)
        lam = torch.expm1(g)
        nu = (v_s + lam) ** 2 / v_s - torch.exp(g) * v_t
        return ProxStep(torch.exp(g / 2), nu.clamp(min=0).sqrt(), lam)

    return {
        "exact-score": ScoreRule("exact-score", score_step, "integral", True, "formula"),
        "exact-prox": ProxRule("exact-prox", prox_step, "integral", True, "formula"),
    }


@pytest.mark.parametrize("n", [1, 3, 50])
def test_a_rule_that_is_exact_for_gaussians_has_no_error_and_no_slope(n):
    rules = exact_rules(0.5)
    methods = [Method(name, rule, TimeGrid.uniform, True) for name, rule in rules.items()]
    found = gaussian_rates(ISOTROPIC, methods, (n, 2 * n))
    for name in rules:
        for cell in found.methods[name].values():
            assert cell.exact.kl < ROUNDING["kl"]
            assert cell.exact.w2 < ROUNDING["w2"]
        assert found.fit(name, start="exact") is None
        assert found.record()["methods"][name]["fits"]["exact"]["kl"] is None
    # From N(0, I) what is left is the start: the map of the exact process, the same at every N.
    first, second = (found.methods["exact-prox"][k].normal.kl for k in (n, 2 * n))
    assert 1e-12 < first == pytest.approx(second, rel=1e-6)
    # For another target it is a rule with an error like any other.
    other = gaussian_rates(TARGETS["anisotropic"], methods, (n,))
    assert other.methods["exact-prox"][n].exact.kl > 1e-8


def test_a_rule_that_is_added_joins_by_itself():
    methods = methods_of(RULES | exact_rules(0.5))
    found = gaussian_rates(ISOTROPIC, list(methods.values()), (10,))
    assert set(found.methods) == {*METHODS, "score-exact-score", "exact-prox"}
    assert all(len(cells) == 1 for cells in found.methods.values())


def test_start_and_last_step():
    n = 20
    cell = rates(ISOTROPIC, ["score-denoise-1e-3"], (n,)).methods["score-denoise-1e-3"][n]
    moves, data = affine_steps(ISOTROPIC, METHODS["score-denoise-1e-3"], n, SDE), ISOTROPIC.law(0.0, SDE)
    assert cell.grid == "denoising(20, eps=0.001)"
    assert cell.normal == moves.apply(NormalLaw.standard(2)).distances(data)
    assert cell.exact == moves.apply(ISOTROPIC.law(1.0, SDE)).distances(data)
    assert cell.last_step == moves.apply(ISOTROPIC.law(1e-3, SDE), first=-1).distances(data)


def test_the_floor_of_the_denoising_grid_is_the_last_step_and_does_not_shrink():
    name = "score-denoise-1e-3"
    found = rates(TARGETS["anisotropic"], [name, "prox-hybrid"], (10, 1000, 30_000))
    floor = {n: cell.last_step.kl for n, cell in found.methods[name].items()}
    assert floor[10] == pytest.approx(floor[30_000], rel=1e-12)
    assert found.methods[name][30_000].exact.kl == pytest.approx(floor[10], rel=0.1)
    assert not found.fit(name).straight
    shrinks = [cell.last_step.kl for cell in found.methods["prox-hybrid"].values()]
    assert shrinks[0] > 1e4 * shrinks[1] > 1e6 * shrinks[2]


def test_the_start_bends_the_slope_of_the_probability_flow():
    found = rates(ISOTROPIC, ["score-ode"], (1000, 2000, 4000))
    assert not found.fit("score-ode").straight or found.fit("score-ode").slope > -0.5
    alpha, v1 = float(SDE.alpha_bar(1.0)), float(SDE.variance(1.0, 0.5))
    # The flow maps deviations by sigma / sqrt(v_1): the mean is off by that times sqrt(alpha_bar) mu, the ratio of
    # variances is 1 / v_1.
    by_hand = 2 * (alpha * 0.5**2 / v1 + 1 / v1 - 1 + math.log(v1)) / 2
    assert found.methods["score-ode"][4000].normal.kl == pytest.approx(by_hand, rel=0.1)


def test_quadrature_reaches_the_rules():
    own = rates(ISOTROPIC, ["score-euler", "prox-hybrid"], (10,))
    left = rates(ISOTROPIC, ["score-euler", "prox-hybrid"], (10,), quadrature="left")
    integral = rates(ISOTROPIC, ["score-euler", "prox-hybrid"], (10,), quadrature="integral")
    assert own.methods["score-euler"] == left.methods["score-euler"] != integral.methods["score-euler"]
    assert own.methods["prox-hybrid"] == integral.methods["prox-hybrid"] != left.methods["prox-hybrid"]


def test_undefined_steps_are_skipped_with_a_sentence():
    found = rates(ISOTROPIC, ["prox-backward"], (5, 10))
    assert set(found.methods["prox-backward"]) == {10}
    assert "gamma = 3.602, but it is defined for gamma < 2 only; use N = 10" in found.skipped["prox-backward"][5]
    none = rates(ISOTROPIC, ["prox-backward"], (5,))
    assert none.methods == {"prox-backward": {}}
    assert none.fit("prox-backward") is None
    json.dumps(none.record(), allow_nan=False)


def test_fits_are_least_squares_over_the_last_three():
    values = {1: 5.0, 10: 1.0, 100: 1e-2, 1000: 1e-3}
    fit = fit_slope(values)
    assert fit.steps == (10, 100, 1000)
    assert fit.local == pytest.approx((-2, -1))
    assert fit.slope == pytest.approx(np.polyfit([1, 2, 3], [0, -2, -3], 1)[0])
    assert not fit.straight
    exact = fit_slope({n: 3.0 / n**2 for n in (7, 20, 90, 200)})
    assert exact.slope == pytest.approx(-2)
    assert exact.straight
    assert fit_slope({10: 1.0, 20: 1.0, 30: math.inf, 40: 0.0}).steps == (10, 20)
    assert fit_slope({10: 1.0}) is None
    assert fit_slope({10: 1e-30, 20: 1e-31}, rounding=1e-24) is None
    assert Fit(-2.0, (1, 2), (-2.05, -1.95)).straight
    assert not Fit(-2.0, (1, 2), (-2.2, -1.95)).straight


@pytest.fixture(scope="module")
def mixed():
    methods = [METHODS[name] for name in ("score-euler", "prox-hybrid", "prox-backward")]
    return mixture_rates(MIXTURES["mixture"], methods, (4, 10), samples=60, seeds=(5, 6))


def test_runs_on_mixtures_are_the_samplers_against_one_reference_a_seed(mixed):
    mixture = three_gaussians(SDE)
    for name in ("score-euler", "prox-hybrid"):
        distances = []
        for seed in (5, 6):
            noise = GeneratorNoise((60, 2), torch.Generator().manual_seed(seed), dtype=torch.float64)
            method = METHODS[name]
            x = run(mixture, method.rule, method.grid(10), noise, last_noise=method.last_noise).x
            reference = stratified(mixture, 60, sample_generator(seed, 0))
            distances.append(w2(x, reference.points, y_weights=reference.masses))
        cell = mixed.methods[name][10]
        assert cell.w2.values == pytest.approx(distances, rel=1e-9)
        assert (cell.nfe, cell.grid) == (10, "uniform(10)")
        assert cell.seconds > 0
    draws = mixture.sample(60, generator=sample_generator(5, 1))
    reference = stratified(mixture, 60, sample_generator(5, 0))
    assert mixed.floor.w2.values[0] == w2(draws, reference.points, y_weights=reference.masses)
    assert (mixed.floor.nfe, mixed.floor.grid) == (0, None)
    assert set(mixed.methods["prox-backward"]) == {10}
    assert "gamma < 2" in mixed.skipped["prox-backward"][4]


def test_stratified_draws_have_the_exact_masses(generator):
    mixture = GaussianMixture(torch.tensor([[0.0], [10.0], [20.0]]).double(), [0.1, 0.0, 0.1], [0.5, 0.499, 0.001])
    drawn = stratified(mixture, 100, generator)
    assert drawn.points.shape == (50 + 50 + 1, 1)
    nearest = (drawn.points / 10).round()[:, 0]
    for component, mass in enumerate((0.5, 0.499, 0.001)):
        assert float(drawn.masses[nearest == component].sum()) == pytest.approx(mass, rel=1e-12)
    assert torch.equal(drawn.points[nearest == 1], torch.full((50, 1), 10.0, dtype=torch.float64))
    assert float(drawn.points[nearest == 0].std()) == pytest.approx(0.1, rel=0.4)


def test_the_dino_is_its_point_masses():
    mixture = MIXTURES["dino"].build(SDE)
    found = mixture_rates(MIXTURES["dino"], [METHODS["prox-ode"]], (2,), samples=142, seeds=(0,))
    noise = GeneratorNoise((142, 2), torch.Generator().manual_seed(0), dtype=torch.float64)
    x = run(mixture, "prox-ode", TimeGrid.uniform(2), noise).x
    assert found.methods["prox-ode"][2].w2.values[0] == pytest.approx(w2(x, mixture.means), rel=1e-9)


def test_the_whole_run_and_its_record():
    plan = RatesPlan(
        ("mixture", "isotropic", "mixture"), (20, 10), ("prox-ode", "score-ode"), samples=20, seeds=1, seed=3
    )
    result = run_rates(plan)
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert list(record["gaussians"]) == ["isotropic"]
    assert list(record["mixtures"]) == ["mixture"]
    assert (record["grid"], record["quadrature"]) == (None, None)
    gaussian = record["gaussians"]["isotropic"]
    assert (gaussian["mean"], gaussian["std"]) == ([0.5, 0.5], [0.5, 0.5])
    assert list(gaussian["methods"]) == ["prox-ode", "score-ode"]
    cell = gaussian["methods"]["prox-ode"]["steps"]["20"]
    values = result.gaussians[0].methods["prox-ode"][20]
    assert (cell["kl"], cell["kl_reverse"], cell["w2"]) == (
        values.normal.kl,
        values.normal.kl_reverse,
        values.normal.w2,
    )
    assert cell["exact_start"]["kl"] == values.exact.kl
    assert cell["last_step"]["w2"] == values.last_step.w2
    assert cell["grid"] == "uniform(20)"
    fit = gaussian["methods"]["prox-ode"]["fits"]["normal"]["kl"]
    assert fit["steps"] == [10, 20]
    assert fit["slope"] == result.gaussians[0].fit("prox-ode").slope
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


@pytest.mark.parametrize("grid", ["uniform", "denoising", "power", "log-snr"])
def test_on_one_grid_the_methods_are_the_rules(grid):
    methods = methods_on(grid)
    assert list(methods) == list(RULES)
    for name, method in methods.items():
        assert method.rule is RULES[name]
        assert method.last_noise == isinstance(method.rule, ProxRule)
        assert method.grid(7) == TimeGrid.named(grid, 7)
    assert methods_on() is METHODS


def test_grids_take_their_parameters():
    assert methods_on("power", rho=3.0)["ode-euler"].grid(5) == TimeGrid.power(5, 3.0)
    assert methods_on("log-snr", eps=0.01)["ode-euler"].grid(5) == TimeGrid.log_snr(5, 0.01)
    plan = RatesPlan(("isotropic",), (10, 100), ("prox-hybrid",), grid="power", rho=3.0, quadrature="left")
    result = run_rates(plan)
    assert (result.grid, result.quadrature) == ("power", "left")
    cell = result.gaussians[0].methods["prox-hybrid"][10]
    assert cell.grid == "power(10, rho=3)"


def test_defaults():
    plan = RatesPlan()
    assert [target.name for target in (*plan.gaussians, *plan.mixtures)] == list(DEFAULT_TARGETS)
    assert plan.numbers(STEPS) == list(STEPS)
    assert plan.numbers(MIXTURE_STEPS) == list(MIXTURE_STEPS)
    assert (plan.particles, plan.all_seeds) == (1000, (0, 1, 2))
    assert [method.name for method in plan.chosen_methods()] == list(METHODS)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"targets": ()}, "target names none; give at least one of isotropic, anisotropic, mixture, dino"),
        ({"targets": ("isotropc",)}, r"unknown target 'isotropc' \(did you mean 'isotropic'\?\)"),
        ({"steps": ()}, "steps names no number of steps"),
        ({"steps": (10, 0)}, "steps = 0 must be a whole number of at least 1"),
        ({"steps": (2.5,)}, "steps = 2.5 must be a whole number"),
        ({"methods": ()}, "methods names none"),
        (
            {"methods": ("prox-hybird",)},
            r"unknown method 'prox-hybird' \(did you mean 'prox-hybrid'\?\); the methods are",
        ),
        ({"methods": ("score-euler",), "grid": "power"}, r"the methods on one grid \(power\) are euler-maruyama"),
        ({"grid": "powr"}, "unknown grid 'powr'; the grids are uniform, denoising, power, log-snr"),
        ({"rho": 2.0}, "rho = 2 has an effect on the power grid only"),
        ({"rho": 2.0, "grid": "uniform"}, "rho = 2 has an effect on the power grid only"),
        ({"rho": -1.0, "grid": "power"}, "rho = -1.0 must lie in"),
        ({"eps": 0.1}, "eps = 0.1 has an effect on the denoising and log-snr grids only"),
        ({"eps": 2.0, "grid": "denoising"}, "eps = 2.0 must lie in"),
        ({"quadrature": "right"}, "unknown quadrature 'right'; use left or integral"),
        ({"samples": 0}, r"samples = 0 must lie in 1 \.\.\. 10,000"),
        ({"samples": 10_001}, "samples = 10001 must lie in 1"),
        ({"seeds": 0}, "seeds = 0 must be at least 1"),
        ({"seed": -1}, "seed = -1 must lie in 0"),
        ({"targets": ("isotropic",), "samples": 5}, "samples = 5 has an effect on mixtures only"),
        ({"targets": ("isotropic",), "seed": 5}, "seed = 5 has an effect on mixtures only"),
    ],
)
def test_wrong_plans(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        RatesPlan(**options)
    assert "\n" not in str(caught.value)
