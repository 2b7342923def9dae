"""Samplers of the probability flow: orders on a Gaussian, exactness, equality with diffusers."""

from __future__ import annotations

import math

import pytest
import torch

from exact import rand
from proxdm import VE, VPSDE, Cosine, Discrete, Flow, GaussianMixture, TimeGrid, find_sampler, sample, solve
from proxdm.errors import OperatorError, StepError
from proxdm.noise import GeneratorNoise, GivenNoise
from proxdm.operators import Ask, FunctionModel

SCHEDULES = [VPSDE(), Discrete.linear(), Discrete.scaled_linear(), Cosine(), VE(), Flow()]
NAMES = ["ddim", "heun", "dpm++2m", "dpm++3m", "multistep", "ipndm", "deis", "deis(variable=log_rho)", "unipc",
         "unipc(order=3)"]  # fmt: skip
BY_NAME = {"ids": lambda schedule: type(schedule).__name__}
STD = 0.5


def gaussian(schedule):
    return GaussianMixture(torch.full((1, 3), 0.7, dtype=torch.float64), STD, schedule=schedule)


def flow(schedule, x, t, s):
    """The exact probability flow of N(0.7, STD^2 I): `(x - alpha m) / sqrt(v)` stays as it is."""
    at = [(float(schedule.alpha(u)), math.sqrt(float(schedule.variance(u, STD)))) for u in (t, s)]
    return at[1][0] * 0.7 + at[1][1] * (x - at[0][0] * 0.7) / at[0][1]


@pytest.mark.parametrize("schedule", [VPSDE(), Discrete.linear(), Cosine(), VE(), Flow()], **BY_NAME)
@pytest.mark.parametrize(
    "name, order",
    [
        ("ddim", 1),
        ("heun", 2),
        ("dpm++2m", 2),
        ("dpm++2m(weight=line)", 2),
        ("dpm++3m", 3),
        ("dpm++3m(published=True)", 2),
        ("ipndm(order=1)", 1),
        ("deis(order=2)", 2),
        ("deis(order=2, variable=log_rho)", 2),
        ("unipc(order=1)", 2),
        ("unipc", 2),  # its last step is of first order, as in its code
    ],
)
def test_order_on_a_gaussian(schedule, name, order, generator):
    """From ratio 79 to 0.1, uniform in its logarithm: halving the steps divides the error by 2^order."""
    ends = torch.tensor([79.0, 0.1], dtype=torch.float64).log()
    x = torch.randn(8, 3, generator=generator, dtype=torch.float64) * 5
    errors = []
    for steps in (80, 160):
        ratios = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, steps + 1, dtype=torch.float64)).exp()
        grid = TimeGrid.custom(schedule.time_of_ratio(ratios))
        t, s = float(grid.times[0]), float(grid.times[-1])
        out = solve(name, gaussian(schedule), grid, GivenNoise(x)).x
        errors.append(float((out - flow(schedule, x * float(schedule.initial_std(t)), t, s)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("schedule", SCHEDULES, **BY_NAME)
@pytest.mark.parametrize("name", NAMES)
def test_point_masses_are_reached_in_one_step_from_anywhere(schedule, name):
    """The denoiser of a point mass is the point."""
    mass = GaussianMixture(torch.full((1, 2), -0.3, dtype=torch.float64), schedule=schedule)
    for steps in (1, 6):
        x = sample(mass, name, steps, (5, 2), seed=0)
        torch.testing.assert_close(x, torch.full_like(x, -0.3), rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", [VPSDE(), VE(), Flow()], **BY_NAME)
def test_the_weight_of_a_line_is_exact_on_a_line(schedule):
    """D = a + b log rho, whatever x: steps down to ratio 0.1, and the last one to the line's value at the floor."""
    a, b, z = rand(7, 3, seed=0), rand(7, 3, seed=1), rand(7, 3, seed=2)

    def value(t):
        return a + b * float(schedule.ratio(t).log())

    model = FunctionModel(schedule, denoise=lambda x, t: value(t[0]), dtype=torch.float64)
    sampler = find_sampler("dpm++2m(weight=line, floor=0.05)")
    ask = Ask(model, "denoiser", None)
    x, carry = z, ((a + b * math.log(5.0), math.log(5.0 / 3.0)),)
    for rho, below in ((3.0, 0.7), (0.7, 0.1), (0.1, 0.0)):
        t, s = float(schedule.time_of_ratio(rho)), float(schedule.time_of_ratio(below)) if below else 0.0
        hat, (x, carry) = x / float(schedule.alpha(t)), sampler.step(ask, x, t, s, rand, carry)
        e = (below or 0.05) / rho  # int_0^h e^{u - h} (a + b (log rho - u)) du, h = -log e
        moved = (1 - e) * (a + b * math.log(rho)) + b * (math.log(e) + 1 - e)
        wanted = moved + e * (hat if below else a + b * math.log(rho))  # the last step has no noise
        torch.testing.assert_close(x / float(schedule.alpha(s)), wanted, rtol=0, atol=1e-6)


def test_a_floor_that_is_not_below_the_last_ratio_changes_nothing():
    model, grid = GaussianMixture(rand(20, 2, seed=3), 0.3), TimeGrid.rho(5, 20.0, 0.12)
    plain, higher, lower = (
        sample(model, f"dpm++2m(floor={floor})", shape=(9, 2), grid=grid, seed=0) for floor in (0.0, 0.13, 0.05)
    )
    assert torch.equal(higher, plain)
    assert not torch.equal(lower, plain)


def test_evaluations_are_counted():
    for name, steps, wanted in (("ddim", 7, 7), ("heun", 7, 13), ("dpm++2m", 7, 7), ("dpm++3m", 7, 7)):
        grid = TimeGrid.rho(steps)
        state = solve(name, gaussian(VPSDE()), grid, GeneratorNoise((2, 3), dtype=torch.float64))
        assert state.nfe == find_sampler(name).evaluations(grid) == wanted
    ends_early = TimeGrid.uniform(4, t_end=0.1)
    assert find_sampler("heun").evaluations(ends_early) == 8


def test_ddim_with_noise_keeps_the_law(generator):
    """eta = 1 on Gaussian data: mean and deviation of 20,000 samples."""
    x = sample(gaussian(VPSDE()), "ddim(eta=1)", shape=(20_000, 3), grid=TimeGrid.uniform(200), generator=generator)
    assert float(x.mean()) == pytest.approx(0.7, abs=0.02)
    assert float(x.std()) == pytest.approx(STD, rel=0.04)


def test_flow_starts_at_an_infinite_ratio():
    for name in ("ddim", "dpm++2m", "dpm++3m"):
        x = sample(gaussian(Flow()), name, shape=(2000, 3), grid=TimeGrid.uniform(60), seed=0)
        assert float(x.mean()) == pytest.approx(0.7, abs=0.03)
        assert float(x.std()) == pytest.approx(STD, rel=0.05)
    with pytest.raises(StepError, match="infinite at t = 1"):
        sample(gaussian(Flow()), "heun", shape=(2, 3), grid=TimeGrid.uniform(5))


@pytest.mark.parametrize("schedule", [VPSDE(), Discrete.linear(), Cosine()], **BY_NAME)
@pytest.mark.parametrize(
    "ours, theirs",
    [
        ("ddim", "DDIM"),
        ("ddim(eta=1)", "DDPM"),
        ("dpm++2m", "DPMSolverMultistep"),
        ("dpm++2m(weight=line)", "DPMSolverMultistep(solver_type=heun)"),
        ("dpm++3m(published=True)", "DPMSolverMultistep(solver_order=3)"),
        ("heun", "HeunDiscrete"),
        ("unipc", "UniPCMultistep"),
        ("unipc(order=3)", "UniPCMultistep(solver_order=3)"),
    ],
)
def test_equal_to_diffusers_on_the_same_times(schedule, ours, theirs):
    """20 trailing steps on a mixture; diffusers computes in float32, and Heun starts from sqrt(1 + ratio^2) z."""
    pytest.importorskip("diffusers")
    model = GaussianMixture(rand(20, 2, seed=3), 0.3, schedule=schedule)
    name, _, options = theirs.partition("(")
    other = find_sampler(f"diffusers:{name}(timestep_spacing=trailing{', ' + options if options else ')'}")
    grid = other.grid(schedule, 20)
    draws = [GeneratorNoise((50, 2), torch.Generator().manual_seed(1), dtype=torch.float64) for _ in range(2)]
    a, b = solve(ours, model, grid, draws[0]), solve(other, model, grid, draws[1])
    torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e-4 if ours == "heun" else 1e-5)
    assert a.nfe == b.nfe


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis_is_that_of_diffusers(order):
    """Whose polynomial is one of log rho, and whose last time is the first of the table."""
    pytest.importorskip("diffusers")
    model, start = GaussianMixture(rand(20, 2, seed=3), 0.3), GivenNoise(rand(50, 2, seed=1))
    other = find_sampler(f"diffusers:DEISMultistep(timestep_spacing=trailing, solver_order={order})")
    grid = other.grid(VPSDE(), 20)
    ends = TimeGrid.custom(torch.cat([grid.times[:-1], torch.tensor([1e-3], dtype=torch.float64)]))
    ours = solve(f"deis(order={order}, variable=log_rho)", model, ends, start).x
    torch.testing.assert_close(ours, solve(other, model, grid, start).x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [3, 4, 12])
def test_ipndm_is_that_of_diffusers(steps):
    """Whose `betas` are sigma, and whose model predicts `v`."""
    schedulers = pytest.importorskip("diffusers").schedulers
    schedule, grid = VPSDE(), TimeGrid.rho(steps)
    model, start = GaussianMixture(rand(20, 2, seed=3), 0.3), rand(50, 2, seed=1)
    other = schedulers.IPNDMScheduler(trained_betas=schedule.sigma(grid.times).tolist())
    other.set_timesteps(steps)
    x = start
    for i, t in enumerate(grid.times[:-1].tolist()):
        denoised, alpha, sigma = model.denoise(x, t), float(schedule.alpha(t)), float(schedule.sigma(t))
        v = alpha * (x - alpha * denoised) / sigma - sigma * denoised
        x = other.step(v, other.timesteps[i], x).prev_sample
    torch.testing.assert_close(solve("ipndm", model, grid, GivenNoise(start)).x, x, rtol=0, atol=1e-4)


def test_diffusers_by_name():
    pytest.importorskip("diffusers")
    sampler = find_sampler("diffusers:DPMSolverMultistep(solver_order=3)")
    assert repr(sampler) == "diffusers:DPMSolverMultistepScheduler(solver_order=3)"
    assert find_sampler(repr(sampler)) == sampler
    with pytest.raises(OperatorError, match=r"'DDIMMScheduler'.*'DDIMScheduler'"):
        find_sampler("diffusers:DDIMM")
    with pytest.raises(ValueError, match=r"'solver_ordre'.*'solver_order'"):
        find_sampler("diffusers:DPMSolverMultistep(solver_ordre=3)")
    with pytest.raises(StepError, match=r"1000.*uniform\(7\)"):
        sample(gaussian(VPSDE()), "diffusers:DDPM", grid=TimeGrid.uniform(7), shape=(2, 3))


@pytest.mark.parametrize("schedule", SCHEDULES, **BY_NAME)
def test_diffusers_samples_every_schedule(schedule):
    pytest.importorskip("diffusers")
    """Coordinates and times are those of the model: diffusers' DDIM is ours, up to float32 and an infinite ratio."""
    other = find_sampler("diffusers:DDIM(timestep_spacing=trailing)")
    grid = other.grid(schedule, 20)
    a, b = (sample(gaussian(schedule), sampler, grid=grid, shape=(50, 3), seed=0) for sampler in ("ddim", other))
    torch.testing.assert_close(a, b, rtol=0, atol=2e-3)


def test_noise_of_diffusers_comes_from_outside():
    pytest.importorskip("diffusers")
    one, two = (sample(gaussian(VPSDE()), "diffusers:EulerAncestralDiscrete", 8, (3, 3), seed=5) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, sample(gaussian(VPSDE()), "diffusers:EulerAncestralDiscrete", 8, (3, 3), seed=6))
