"""The synthetic experiment: its runs are the public samplers, its distances the exact ones, its record the schema."""

from __future__ import annotations

import json
from importlib.metadata import version
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

import proxdm
from proxdm.data import datasaurus
from proxdm.experiments.toy import METHODS, methods_of, run_toy
from proxdm.experiments.toy_result import Spread
from proxdm.metrics.wasserstein import w1, w2
from proxdm.mixtures import GaussianMixture
from proxdm.rules import RULES, ProxRule, ScoreRule, prox_ode


@pytest.fixture(scope="module")
def result():
    return run_toy("star", steps=(10, 4), samples=30, seed=2, seeds=2)


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixture(torch.as_tensor(datasaurus.load("star")))


def direct(mixture, sampler, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    return proxdm.sample(mixture, sampler, shape=(30, 2), generator=generator, **options).numpy()


@pytest.mark.parametrize(
    "method, sampler, options",
    [
        ("score-euler", "euler-maruyama", {"grid": proxdm.TimeGrid.uniform(4), "last_noise": True}),
        ("score-denoise-1e-3", "euler-maruyama", {"steps": 4}),
        ("score-denoise-1e-5", "euler-maruyama", {"grid": proxdm.TimeGrid.denoising(4, eps=1e-5)}),
        ("score-ode", "ode-euler", {"steps": 4}),
        ("prox-hybrid", "prox-hybrid", {"steps": 4}),
        ("prox-ode", "prox-ode", {"steps": 4}),
        ("prox-backward", "prox-backward", {"steps": 10}),
    ],
)
def test_runs_are_the_public_samplers_with_one_generator_a_seed(result, mixture, method, sampler, options):
    steps = 10 if method == "prox-backward" else 4
    first, second = (direct(mixture, sampler, seed, **options) for seed in (2, 3))
    np.testing.assert_allclose(result.particles[method][steps], first, rtol=1e-9, atol=1e-12)
    cell = result.methods[method][steps]
    target = datasaurus.load("star")
    assert cell.w2.values == pytest.approx((w2(first, target), w2(second, target)), rel=1e-9)
    assert cell.w1.values == pytest.approx((w1(first, target), w1(second, target)), rel=1e-9)
    assert cell.nfe == steps
    assert cell.seconds > 0


def test_floor_is_exact_draws(result, mixture):
    draws = [mixture.sample(30, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]
    assert result.floor.w2.values == tuple(w2(x, result.target) for x in draws)
    assert result.floor.nfe == 0


def test_methods_start_from_the_same_particles_and_trajectories_end_in_the_final_ones(result):
    assert result.trajectory_steps == 10
    assert set(result.trajectories) == set(METHODS)
    start = torch.randn((30, 2), generator=torch.Generator().manual_seed(2), dtype=torch.float64).numpy()
    for name, trajectory in result.trajectories.items():
        assert trajectory.states.shape == (11, 30, 2)
        np.testing.assert_array_equal(trajectory.states[0], start)
        np.testing.assert_array_equal(trajectory.states[-1], result.particles[name][10])
        assert trajectory.times == tuple(METHODS[name].grid(10).times.tolist())


def test_trajectories_take_the_middle_n_where_ten_is_not_among_them():
    found = run_toy(steps=(3, 2, 6), samples=5, seeds=1, methods=["prox-ode"])
    assert found.steps == (2, 3, 6)
    assert found.trajectory_steps == 3
    assert found.trajectories["prox-ode"].states.shape == (4, 5, 2)


@pytest.mark.parametrize("mode", ["global", "local"])
def test_prox_samplers_end_on_the_atoms(mode):
    """At t = 0 the prox of point masses is the projection on the nearest of them."""
    found = run_toy("dino", steps=(3,), samples=25, seeds=1, methods=["prox-hybrid", "prox-ode"], prox_mode=mode)
    assert found.record()["prox_mode"] == mode
    for name in ("prox-hybrid", "prox-ode"):
        gaps = np.linalg.norm(found.particles[name][3][:, None] - found.target[None], axis=-1).min(1)
        assert gaps.max() < 1e-12


def test_local_mode_asks_the_solver_for_its_local_minimum(mixture):
    found = run_toy("star", steps=(4,), samples=30, seeds=1, methods=["prox-hybrid"], prox_mode="local")

    class Local:
        sde, device, dtype = mixture.sde, mixture.device, mixture.dtype

        def prox(self, x, t, lam):
            return mixture.solve_prox(x, t, lam, mode="local").u

    expected = direct(Local(), "prox-hybrid", 0, steps=4)
    np.testing.assert_allclose(found.particles["prox-hybrid"][4], expected, rtol=1e-9, atol=1e-12)


def test_undefined_steps_are_skipped_with_a_sentence(result):
    assert set(result.skipped) == {"prox-backward"}
    assert set(result.skipped["prox-backward"]) == {4}
    assert "gamma = 4.378, but it is defined for gamma < 2 only; use N = 10" in result.skipped["prox-backward"][4]
    assert set(result.methods["prox-backward"]) == {10}
    assert result.record()["skipped"]["prox-backward"]["4"] == result.skipped["prox-backward"][4]


def test_record_is_the_schema_and_strict_json(result):
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert (record["dataset"], record["samples"], record["seed"], record["seeds"]) == ("star", 30, 2, [2, 3])
    assert list(record["methods"]) == list(METHODS)
    for name, cells in record["methods"].items():
        assert set(cells) == ({"10"} if name == "prox-backward" else {"4", "10"})
        for steps, cell in cells.items():
            values = result.methods[name][int(steps)]
            assert cell["nfe"] == int(steps)
            assert cell["w1"] == fmean(values.w1.values)
            assert cell["w2"] == fmean(values.w2.values)
            assert cell["w2_std"] == stdev(values.w2.values)
            assert cell["w2_seeds"] == list(values.w2.values)
    assert record["floor"]["w2"] > 0
    assert record["versions"]["torch"] == version("torch")
    assert {"proxdm", "python", "numpy", "POT"} < set(record["versions"])


def test_one_seed_has_no_spread():
    assert Spread((0.25,)).std is None
    found = run_toy(steps=(2,), samples=5, seeds=1, methods=["prox-ode"])
    assert found.record()["methods"]["prox-ode"]["2"]["w2_std"] is None
    json.dumps(found.record(), allow_nan=False)


def test_a_rule_that_is_added_joins_by_itself():
    new = {
        "heun": ScoreRule("heun", RULES["ode-euler"].function, "left", False, "formula"),
        "prox-new": ProxRule("prox-new", prox_ode, "integral", False, "formula"),
    }
    methods = methods_of(RULES | new)
    assert set(methods) == set(METHODS) | {"score-heun", "prox-new"}
    assert methods["score-heun"].uses_score
    assert methods["score-heun"].grid(4) == proxdm.TimeGrid.denoising(4)
    assert not methods["prox-new"].uses_score
    assert methods["prox-new"].grid(4) == proxdm.TimeGrid.uniform(4)


def test_every_rule_of_the_table_is_a_method():
    rules = {method.rule.name for method in METHODS.values()}
    assert rules == set(RULES)


def test_threads_are_as_they_were():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run_toy(steps=(2,), samples=3, seeds=1, methods=["score-ode"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dataset": "dinno"}, r"'dinno' \(did you mean 'dino'\?\)"),
        ({"methods": ["prox-hybird"]}, r"unknown method 'prox-hybird' \(did you mean 'prox-hybrid'\?\); the methods"),
        ({"methods": []}, "methods names none"),
        ({"steps": (5, 0)}, "steps = 0 must be a whole number of at least 1"),
        ({"steps": (2.5,)}, "steps = 2.5 must be a whole number"),
        ({"steps": ()}, "steps names no number of steps"),
        ({"samples": 0}, r"samples = 0 must lie in 1 \.\.\. 704,225"),
        ({"samples": 704_226}, "samples = 704226"),
        ({"seeds": 0}, "seeds = 0 must be at least 1"),
        ({"seed": -1}, "seed = -1 must lie in 0"),
        ({"prox_mode": "best"}, "unknown prox_mode 'best'; use global or local"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        run_toy(**options)


@pytest.mark.slow
def test_distances_reach_those_of_the_papers_code(shared):
    """Prox samplers are as near as one run of the official code, plus its spread; score samplers agree with it."""
    golden = json.loads((shared / "golden" / "dino_official.json").read_text())["methods"]
    found = run_toy("dino", steps=(5, 7, 10, 20, 30), samples=1000, seeds=3, methods=list(golden))
    for name, cells in golden.items():
        assert set(map(str, found.methods[name])) == set(cells)
        for steps, official in cells.items():
            ours = found.methods[name][int(steps)]
            if name.startswith("prox"):
                assert ours.w2.mean <= official["w2"] + 0.015, (name, steps)
                assert ours.w1.mean <= official["w1"] + 0.015, (name, steps)
            else:
                assert ours.w2.mean == pytest.approx(official["w2"], abs=0.03, rel=0.15), (name, steps)
                assert ours.w1.mean == pytest.approx(official["w1"], abs=0.03, rel=0.15), (name, steps)
