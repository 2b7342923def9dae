"""The one loop: noise, NFE, carry, errors; samplers by their text; plain functions as models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

import proxdm
from exact import StandardNormal
from proxdm import SAMPLERS, VPSDE, Flow, Sampler, TimeGrid, find_sampler, sample, solve
from proxdm.errors import NonFiniteError, OperatorError
from proxdm.noise import GeneratorNoise, SeededNoise
from proxdm.samplers import base


def test_a_new_sampler_is_one_class_with_a_carry_and_as_much_noise_as_it_likes(monkeypatch, generator):
    """x' = x + z1 - z2, with a count of its steps as the carry and two draws a step."""
    monkeypatch.setattr(SAMPLERS, "_entries", dict(SAMPLERS))

    @proxdm.samplers.register
    @dataclass(frozen=True)
    class Wobble(Sampler):
        name, operator, formula, stochastic = "wobble", "score", "x' = x + z1 - z2", True
        width: float = 1.0

        def init(self, ask, x, grid):
            return 0

        def step(self, ask, x, t, s, z, carry):
            return x + self.width * (z() - z()) + 0 * ask.score(x, t) * carry, carry + 1

    found = find_sampler("wobble(width=0.5)")
    assert found == Wobble(0.5)
    assert repr(found) == "wobble(width=0.5)"
    state = solve(found, StandardNormal(), TimeGrid.uniform(2), GeneratorNoise((3,), generator, dtype=torch.float64))
    generator.manual_seed(0)
    x, *z = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(5))
    torch.testing.assert_close(state.x, x + 0.5 * (z[0] - z[1]) + 0.5 * (z[2] - z[3]))
    assert state.nfe == 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_text_and_sampler_are_the_same_thing(name):
    sampler = find_sampler(name)
    assert repr(sampler) == name
    assert find_sampler(repr(sampler)) == sampler == find_sampler(sampler)
    assert sampler.formula
    assert sampler.operator in ("score", "denoiser", "prox")


@pytest.mark.parametrize(
    "text, values",
    [
        ("ddpm", ["sampler 'ddpm'", "'ddim'", "euler-maruyama"]),
        ("ddim(eta=2)", ["eta = 2", "[0, 1]"]),
        ("ddim(eta=big)", ["'big'", "float"]),
        ("ddim(eta=True)", ["True", "float"]),
        ("ddim(order=2)", ["'order'", "eta"]),
        ("ddim(0.5)", ["ddim(0.5)", "parameter=value"]),
        ("prox-hybrid(quadrature=right)", ["'right'", "integral"]),
        ("dpm++2m(weight=heun)", ["weight = 'heun' must be one of 'midpoint', 'line'"]),
        ("multistep(floor=-0.1)", ["floor = -0.1 is a ratio"]),
        ("ipndm(order=5)", ["order = 5 must lie between 1 and 4"]),
        ("deis(order=0)", ["order = 0 must lie between 1 and 4"]),
        ("deis(variable=rho)", ["'rho'", "'log_rho'"]),
        ("unipc(order=4)", ["order = 4 must lie between 1 and 3"]),
        ("ddim(", ["ddim("]),
    ],
)
def test_wrong_texts_are_refused_with_value_and_remedy(text, values):
    with pytest.raises(ValueError) as error:
        find_sampler(text)
    for value in values:
        assert value in str(error.value)


def test_same_generator_same_samples_and_dtype(generator):
    model = StandardNormal(dtype=torch.float32)
    one, two = (sample(model, "prox-hybrid", 6, (3, 2), generator=generator.manual_seed(9)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.dtype == torch.float32


def test_seeded_samples_do_not_depend_on_the_batch():
    whole = sample(StandardNormal(), "prox-hybrid", 5, (6, 2), seed=0)
    parts = [
        solve("prox-hybrid", StandardNormal(), TimeGrid.uniform(5), SeededNoise(0, part, (2,), dtype=torch.float64)).x
        for part in (range(2), range(2, 6))
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_half_precision_samples_get_float32_times():
    seen = []

    def prox(x, t, lam):
        seen.append((t.dtype, lam.dtype))
        return x

    noise = GeneratorNoise((2, 3), torch.Generator().manual_seed(0), dtype=torch.bfloat16)
    assert sample(prox, "prox-hybrid", 2, noise=noise, schedule=VPSDE()).dtype == torch.bfloat16
    assert seen == [(torch.float32, torch.float32)] * 2


def test_no_gradient_is_kept_and_none_leaks():
    weight = torch.ones((), requires_grad=True)
    seen = []

    def callback(state):
        assert torch.is_grad_enabled()
        seen.append(state.x.requires_grad)

    sample(lambda x, t: -weight * x, "ode-euler", 3, (2, 2), schedule=VPSDE(), callback=callback)
    assert seen == [False] * 4


def test_a_plain_function_is_what_the_sampler_asks_for():
    """Of N(0, I): the score is -x, the denoiser alpha x, the prox x / (1 + lam); all samplers of the flow keep x."""
    x = sample(lambda x, t: -x, "ode-euler", 4, (3, 2), schedule=VPSDE(), seed=1)
    alpha = VPSDE().alpha
    d = sample(lambda x, t: alpha(t)[:, None].float() * x, "ddim", 200, (3, 2), schedule=VPSDE(), seed=1)
    p = sample(lambda x, t, lam: x / (1 + lam[:, None]), "prox-ode", 4, (3, 2), schedule=VPSDE(), seed=1)
    torch.testing.assert_close(d, x, rtol=0.2, atol=0)
    torch.testing.assert_close(p, x)


def test_states_follow_the_grid():
    seen = []
    sample(StandardNormal(), "prox-hybrid", grid="power(rho=2)", steps=4, shape=(2, 2), callback=seen.append)
    assert [state.t for state in seen] == TimeGrid.power(4, 2.0).times.tolist()
    assert [state.nfe for state in seen] == [state.step for state in seen] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "arguments, values",
    [
        ({"shape": (2, 2)}, ["steps=N"]),
        ({"steps": 3}, ["shape="]),
        ({"steps": 3, "grid": TimeGrid.uniform(4), "shape": (2, 2)}, ["3", "uniform(4)"]),
        ({"steps": 3, "shape": (2, 2), "noise": GeneratorNoise((2, 2))}, ["noise="]),
        ({"steps": 3, "shape": (2, 2), "seed": 1, "generator": torch.Generator()}, ["seed = 1", "generator"]),
        ({"steps": 3, "shape": (2, 2), "schedule": VPSDE()}, ["StandardNormal", "schedule"]),
        ({"steps": 0, "shape": (2, 2)}, ["steps = 0"]),
        ({"steps": 3, "shape": (2, 2), "grid": "cosine"}, ["'cosine'", "uniform"]),
    ],
)
def test_contradictory_arguments(arguments, values):
    with pytest.raises(ValueError) as error:
        sample(StandardNormal(), "prox-hybrid", **arguments)
    assert all(value in str(error.value) for value in values)


def test_a_plain_function_needs_a_schedule():
    with pytest.raises(ValueError, match="schedule="):
        sample(lambda x, t: -x, "ddim", 3, (2, 2))


def test_missing_operators_say_what_would_do():
    class OnlyScore(StandardNormal):
        prox = None

    class OnlyProx(StandardNormal):
        score = None

    with pytest.raises(OperatorError, match=r"\.prox.*OnlyScore.*prox_from_denoiser"):
        sample(OnlyScore(), "prox-hybrid", 3, (2, 2))
    with pytest.raises(OperatorError, match=r"\.score.*OnlyProx.*prox"):
        sample(OnlyProx(), "ode-euler", 3, (2, 2))


def test_the_papers_samplers_name_the_schedules_they_are_for():
    for name in ("prox-hybrid", "ode-euler"):
        with pytest.raises(ValueError, match=rf"{name}.*vpsde.*Flow.*ddim"):
            sample(lambda x, t, lam=None: x, name, 3, (2, 2), schedule=Flow())


def test_non_finite_samples_are_an_error():
    class Broken(StandardNormal):
        def prox(self, x, t, lam):
            x = x.clone()
            x[0] = math.nan
            return x

    with pytest.raises(NonFiniteError, match="1 of 4 samples of prox-hybrid"):
        sample(Broken(), "prox-hybrid", 3, (4, 2))


def test_the_example_in_the_docstring_runs():
    import doctest

    found = doctest.DocTestFinder().find(base.sample, globs={"sample": sample, "VPSDE": VPSDE, "torch": torch})
    results = [doctest.DocTestRunner().run(test) for test in found]
    assert sum(result.attempted for result in results) > 0
    assert not any(result.failed for result in results)
