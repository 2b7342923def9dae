"""The paper's samplers: on N(0, I) data score(x) = -x and prox(x) = x / (1 + lam), so every step is known exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from exact import StandardNormal
from proxdm import SAMPLERS, VPSDE, Cosine, Discrete, ProxSampler, TimeGrid, find_sampler, sample, solve
from proxdm.errors import StepError
from proxdm.noise import GivenNoise

SDE = VPSDE()
T = torch.tensor([1.0, 0.6, 0.11], dtype=torch.float64)
S = torch.tensor([0.95, 0.5, 0.0], dtype=torch.float64)


def beta(t):
    return 0.1 + 19.9 * t


def integral(s, t):
    return 0.1 * (t - s) + 9.95 * (t * t - s * s)


# x' = a x + b z on N(0, I), with gamma = g, written down by hand from the paper's updates, not from the package.
CLOSED_FORMS = {
    "euler-maruyama": lambda t, s, g: (1 - beta(t) * (t - s) / 2, math.sqrt(beta(t) * (t - s))),
    "ode-euler": lambda t, s, g: (1.0, 0.0),
    "prox-hybrid": lambda t, s, g: ((1 + g / 2) / (1 + g), math.sqrt(g) / (1 + g)),
    "prox-backward": lambda t, s, g: (1 / (1 + g / 2), math.sqrt(g) / (1 + g / 2)),
    "prox-ode": lambda t, s, g: (1.0, 0.0),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("last_noise", [True, False])
@pytest.mark.parametrize("grid", [TimeGrid.uniform(12), TimeGrid.denoising(15), TimeGrid.power(30, 1.4)])
def test_steps_on_gaussian_data(name, grid, last_noise, generator):
    shape = (5, 2, 3)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(grid.steps + 1)]
    x, used = tensors[0], 0
    expected = [x]
    for i, (t, s) in enumerate(grid.pairs()):
        a, b = CLOSED_FORMS[name](t, s, integral(s, t))
        noisy = b != 0 and (last_noise or i < grid.steps - 1)
        used += noisy
        x = a * x + (b * tensors[used] if noisy else 0)
        expected.append(x)
    seen = []
    sampler = replace(find_sampler(name), last_noise=last_noise)
    state = solve(sampler, StandardNormal(), grid, GivenNoise(tensors[0], tensors[1:]), callback=seen.append)
    assert len(seen) == grid.steps + 1
    for got, want in zip(seen, expected, strict=True):
        torch.testing.assert_close(got.x, want, rtol=1e-12, atol=1e-12)
    assert state.nfe == grid.steps


def test_score_is_taken_at_departure_and_prox_at_arrival():
    model, grid = StandardNormal(), TimeGrid.uniform(11)
    sample(model, "euler-maruyama", grid=grid, shape=(1, 2))
    assert model.asked == grid.times[:-1].tolist()
    model.asked.clear()
    sample(model, "prox-backward", grid=grid, shape=(1, 2))
    assert [t for t, _ in model.asked] == grid.times[1:].tolist()
    gammas = [integral(s, t) for t, s in grid.pairs()]
    assert [lam for _, lam in model.asked] == pytest.approx([g / (1 - g / 2) for g in gammas], rel=1e-13)


@pytest.mark.parametrize("name, draws", [("euler-maruyama", 5), ("ode-euler", 1), ("prox-hybrid", 6), ("prox-ode", 1)])
def test_random_numbers_come_in_the_documented_order(name, draws):
    """x_T first, then one tensor a noisy step; the denoising sampler draws none for its last of 5 steps."""
    generator, reference = (torch.Generator().manual_seed(1) for _ in range(2))
    sample(StandardNormal(), name, 5, (4, 3), generator=generator)
    for _ in range(draws):
        torch.randn((4, 3), generator=reference, dtype=torch.float64)
    assert torch.equal(generator.get_state(), reference.get_state())


def test_usual_grids_and_quadratures_are_the_papers():
    for name in CLOSED_FORMS:
        sampler = find_sampler(name)
        prox = sampler.operator == "prox"
        assert sampler.grid(SDE, 7) == (TimeGrid.uniform(7) if prox else TimeGrid.denoising(7, 1e-3))
        assert sampler.quadrature == ("integral" if prox else "left")


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_coefficients_are_elementwise_and_vanish_with_the_step(name):
    sampler = find_sampler(name)
    together = sampler.coefficients(SDE, T, S)
    for i in range(3):
        alone = sampler.coefficients(SDE, float(T[i]), float(S[i]))
        for field in vars(together):
            assert getattr(together, field).dtype == torch.float64
            assert float(getattr(alone, field)) == float(getattr(together, field)[i])  # to the last bit
    assert sampler.stochastic == bool((together.noise > 0).all())
    tiny = sampler.coefficients(SDE, 0.5, 0.5 - 1e-12)
    assert [float(getattr(tiny, field)) for field in vars(tiny)] == pytest.approx([1.0, 0.0, 0.0], abs=1e-5)


@pytest.mark.parametrize("schedule", [Discrete.linear(), Cosine()])
def test_gamma_of_every_variance_preserving_schedule(schedule):
    """`gamma = 2 log(alpha_s / alpha_t)` whatever the beta, and the left point tends to it."""
    hybrid = find_sampler("prox-hybrid")
    t, s = 0.4301, 0.43
    gamma = float(hybrid.gamma(schedule, t, s))
    assert gamma == pytest.approx(2 * math.log(float(schedule.alpha(s) / schedule.alpha(t))), rel=1e-9)
    assert gamma == pytest.approx(float(replace(hybrid, quadrature="left").gamma(schedule, t, s)), rel=2e-3)


def test_backward_names_the_smallest_grid_that_works():
    with pytest.raises(StepError, match=r"step 1 of 5 from t = 1 to s = 0.8 .*3.602, .* < 2 .*N = 10 "):
        sample(StandardNormal(), "prox-backward", 5, (2, 2))
    sample(StandardNormal(), "prox-backward", 10, (2, 2))
    with pytest.raises(StepError, match="finer grid, or prox-hybrid"):
        sample(StandardNormal(), "prox-backward", grid=TimeGrid.custom([1.0, 0.3, 0.0]), shape=(2, 2))


def test_backward_excludes_the_limit_itself():
    """A constant beta of 2 over a whole unit gives gamma = 2 exactly."""
    with pytest.raises(StepError):
        find_sampler("prox-backward").check(VPSDE(2.0, 2.0), TimeGrid.uniform(1))
    for name, kind in SAMPLERS.items():
        if name != "prox-backward" and issubclass(kind, ProxSampler):
            kind().check(SDE, TimeGrid.uniform(1))
