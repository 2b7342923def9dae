"""The synthetic experiment: its runs are the public samplers, its distances the exact ones, its record the schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

import proxdm
from proxdm.data import datasaurus
from proxdm.experiments.toy import METHODS, ToyPlan, find_methods, run_toy
from proxdm.metrics.wasserstein import w1, w2
from proxdm.mixtures import GaussianMixture
from proxdm.samplers import SAMPLERS
from proxdm.samplers.multistep import Ddim
from proxdm.sweep import Method


@pytest.fixture(scope="module")
def result():
    methods = (*METHODS, "heun", "ddim(eta=1)")
    return run_toy(ToyPlan(dataset="star", steps=(10, 4), samples=30, seed=2, seeds=2, methods=methods))


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixture(torch.as_tensor(datasaurus.load("star")))


def direct(model, sampler, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    return proxdm.sample(model, sampler, shape=(30, 2), generator=generator, **options).numpy()


@pytest.mark.parametrize(
    "method, sampler, options",
    [
        ("score-euler", "euler-maruyama(last_noise=True)", {"grid": proxdm.TimeGrid.uniform(4)}),
        ("score-denoise-1e-3", "euler-maruyama", {"steps": 4}),
        ("score-denoise-1e-5", "euler-maruyama", {"grid": proxdm.TimeGrid.denoising(4, eps=1e-5)}),
        ("score-ode", "ode-euler", {"steps": 4}),
        ("prox-hybrid", "prox-hybrid", {"steps": 4}),
        ("prox-ode", "prox-ode", {"steps": 4}),
        ("prox-backward", "prox-backward", {"steps": 10}),
        ("ddim(eta=1)", "ddim(eta=1)", {"steps": 4}),
        ("heun", "heun", {"steps": 4}),
    ],
)
def test_runs_are_the_public_samplers_with_one_generator_a_seed(result, mixture, method, sampler, options):
    steps = options.get("steps", 4)
    first, second = (direct(mixture, sampler, seed, **options) for seed in (2, 3))
    np.testing.assert_allclose(result.particles[method][steps], first, rtol=1e-9, atol=1e-12)
    cell = result.methods[method][steps]
    target = datasaurus.load("star")
    assert cell.w2.values == pytest.approx((w2(first, target), w2(second, target)), rel=1e-9)
    assert cell.metrics["w1"].values == pytest.approx((w1(first, target), w1(second, target)), rel=1e-9)
    assert cell.nfe == (7 if method == "heun" else steps)
    assert cell.seconds > 0


def test_floor_is_exact_draws(result, mixture):
    draws = [mixture.sample(30, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]
    assert result.floor.w2.values == tuple(w2(x, result.points) for x in draws)
    assert result.floor.nfe == 0


def test_methods_start_from_the_same_particles_and_trajectories_end_in_the_final_ones(result):
    assert result.trajectory_steps == 10
    assert set(result.trajectories) == set(result.names)
    start = torch.randn((30, 2), generator=torch.Generator().manual_seed(2), dtype=torch.float64).numpy()
    for method in find_methods(result.names):
        trajectory = result.trajectories[method.name]
        assert trajectory.states.shape == (11, 30, 2)
        np.testing.assert_array_equal(trajectory.states[0], start)
        np.testing.assert_array_equal(trajectory.states[-1], result.particles[method.name][10])
        assert trajectory.times == tuple(method.times(proxdm.VPSDE(), 10).times.tolist())


def test_trajectories_take_the_middle_n_where_ten_is_not_among_them():
    found = run_toy(ToyPlan(steps=(3, 2, 6), samples=5, seeds=1, methods=("prox-ode",)))
    assert (found.steps, found.trajectory_steps) == ((2, 3, 6), 3)
    assert found.trajectories["prox-ode"].states.shape == (4, 5, 2)
    assert found.record()["methods"]["prox-ode"][2]["w2_std"] is None, "one seed has no spread"


@pytest.mark.parametrize("mode", ["global", "local"])
def test_prox_samplers_end_on_the_atoms(mode):
    """At t = 0 the prox of point masses is the projection on the nearest of them."""
    found = run_toy(ToyPlan(steps=(3,), samples=25, seeds=1, methods=("prox-hybrid", "prox-ode"), prox_mode=mode))
    assert found.record()["prox_mode"] == mode
    for particles in found.particles.values():
        assert np.linalg.norm(particles[3][:, None] - found.points[None], axis=-1).min(1).max() < 1e-12


def test_local_mode_asks_the_solver_for_its_local_minimum(mixture):
    plan = ToyPlan(dataset="star", steps=(4,), samples=30, seeds=1, methods=("prox-hybrid",), prox_mode="local")

    class Local:
        schedule, device, dtype = mixture.schedule, mixture.device, mixture.dtype

        def prox(self, x, t, lam):
            return mixture.solve_prox(x, t, lam, mode="local").u

    expected = direct(Local(), "prox-hybrid", 0, steps=4)
    np.testing.assert_allclose(run_toy(plan).particles["prox-hybrid"][4], expected, rtol=1e-9, atol=1e-12)


def test_record_is_the_schema_and_strict_json(result):
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert (record["dataset"], record["samples"], record["seed"], record["seeds"]) == ("star", 30, 2, [2, 3])
    assert list(record["methods"]) == list(result.names)
    for name, cells in record["methods"].items():
        assert set(cells) == ({"10"} if name == "prox-backward" else {"4", "10"})
        for steps, cell in cells.items():
            summary = result.methods[name][int(steps)]
            w1_seeds, w2_seeds = (list(summary.metrics[metric].values) for metric in ("w1", "w2"))
            assert (cell["nfe"], cell["w1"], cell["w2"]) == (summary.nfe, fmean(w1_seeds), fmean(w2_seeds))
            assert (cell["w2_std"], cell["w2_seeds"]) == (stdev(w2_seeds), w2_seeds)
    assert {name: list(of) for name, of in record["skipped"].items()} == {"prox-backward": ["4"]}
    assert "gamma = 4.378" in record["skipped"]["prox-backward"]["4"]
    assert record["floor"]["w2"] > 0
    assert record["versions"]["torch"] == version("torch")
    assert {"proxdm", "python", "numpy", "POT"} < set(record["versions"])


def test_every_sampler_is_a_method_once_it_is_in_the_table(monkeypatch):
    @dataclass(frozen=True, repr=False)
    class Own(Ddim):
        name = "own"

    monkeypatch.setitem(SAMPLERS._entries, "own", Own)
    every = find_methods(["all"])
    assert [method.name for method in every[:7]] == list(METHODS)
    assert {method.sampler.name for method in every} == set(SAMPLERS)
    assert find_methods(["own", "own(eta=0.5)", "all", "own"])[:2] == [Method(Own()), Method(Own(0.5))]
    on_grid = find_methods(["all"], "power(rho=3)")
    assert [method.name for method in on_grid] == list(SAMPLERS)
    assert {method.grid for method in on_grid} == {"power(rho=3)"}


def test_a_sampler_that_fails_when_it_runs_is_skipped(monkeypatch):
    @dataclass(frozen=True, repr=False)
    class Wild(Ddim):
        name = "wild"

        def step(self, ask, x, t, s, z, carry):
            return ask.denoise(x, t) * float("nan"), carry

    monkeypatch.setitem(SAMPLERS._entries, "wild", Wild)
    found = run_toy(ToyPlan(steps=(1,), samples=3, seeds=2, methods=("wild", "ddim")))
    assert [name for name, cells in found.methods.items() if cells] == list(found.trajectories) == ["ddim"]
    assert "3 of 3 samples of wild" in found.skipped["wild"][1]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dataset": "dinno"}, r"'dinno' .*'dino'\?"),
        ({"methods": ("prox-hybird",)}, r"'prox-hybird' .*'prox-hybrid'\?"),
        ({"methods": ("score-eulr",)}, r"'score-eulr' .*'score-euler'\?"),
        ({"methods": ()}, "methods"),
        ({"samples": 0}, r"samples = 0 .*704,225"),
        ({"samples": 704_226}, "samples = 704226"),
        ({"prox_mode": "best"}, "prox_mode = 'best' must be one of 'global', 'local'"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        ToyPlan(**options)


@pytest.mark.slow
def test_distances_reach_those_of_the_papers_code(shared):
    """Prox samplers are as near as one run of the official code, plus its spread; score samplers agree with it."""
    golden = json.loads((shared / "golden" / "dino_official.json").read_text())["methods"]
    found = run_toy(ToyPlan(steps=(5, 7, 10, 20, 30), methods=tuple(golden)))
    for name, cells in golden.items():
        assert set(map(str, found.methods[name])) == set(cells)
        for steps, official in cells.items():
            for metric, spread in found.methods[name][int(steps)].metrics.items():
                if name.startswith("prox"):
                    assert spread.mean <= official[metric] + 0.015, (name, steps)
                else:
                    assert spread.mean == pytest.approx(official[metric], abs=0.03, rel=0.15), (name, steps)
