from __future__ import annotations

import math

import pytest
import scipy.integrate
import torch

from proxdm import VE, VPSDE, Cosine, Discrete, Flow
from proxdm.schedules import SCHEDULES, VariancePreserving, as_float64, per_sample

TIMES = [0.0, 1e-8, 1e-5, 0.1, 0.5, 1.0]


@pytest.mark.parametrize("sde", [VPSDE(), VPSDE(0.0, 1.0), VPSDE(3.0, 3.0)])
def test_beta_integral_is_the_integral_of_beta(sde):
    for s, t in [(0.0, 1.0), (0.2, 0.7), (0.5, 0.5)]:
        integral, _ = scipy.integrate.quad(lambda u: float(sde.beta(u)), s, t)
        assert float(sde.beta_integral(s, t)) == pytest.approx(integral, abs=1e-13)


def test_default_schedule_is_the_papers():
    assert float(VPSDE().beta(0.0)) == 0.1
    assert float(VPSDE().beta(1.0)) == 20.0
    assert float(VPSDE().beta_integral(0.0, 1.0)) == pytest.approx(10.05, rel=1e-15)


@pytest.mark.parametrize("t", TIMES)
def test_noise_variance_keeps_its_digits_near_zero(t):
    # The reference in exact arithmetic: the series of 1 - exp(-B) for small B, the plain formula elsewhere.
    integral = 0.1 * t + 9.95 * t * t
    exact = integral - integral**2 / 2 + integral**3 / 6 if integral < 1e-4 else 1 - math.exp(-integral)
    assert float(VPSDE().noise_variance(t)) == pytest.approx(exact, rel=1e-11)


def test_schedules_are_float64_whatever_comes_in():
    t = torch.tensor([1e-5, 0.5], dtype=torch.float32)
    assert VPSDE().alpha_bar(t).dtype == torch.float64
    assert VPSDE().noise_variance(t).dtype == torch.float64
    assert VPSDE().beta(1).dtype == torch.float64


def test_the_ratio_0_is_reached_at_0_without_noise_at_the_start():
    assert float(VPSDE(0.0, 5.0).time_of_ratio(0.0)) == 0
    assert float(VPSDE(0.0, 5.0).time_of_log_snr(math.inf)) == 0


@pytest.mark.parametrize("sde", [VPSDE(), VPSDE(0.0, 5.0), VPSDE(2.0, 2.0)])
def test_log_snr_and_its_inverse(sde):
    t = torch.tensor([1e-6, 1e-3, 0.3, 1.0], dtype=torch.float64)
    log_snr = sde.log_snr(t)
    torch.testing.assert_close(log_snr, torch.log(sde.alpha_bar(t) / sde.noise_variance(t)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sde.time_of_log_snr(log_snr), t, rtol=1e-9, atol=0)


EVERY = [
    VPSDE(),
    Discrete.linear(),
    Discrete.scaled_linear(),
    Discrete.cosine(50),
    Discrete((0.3,)),
    Cosine(),
    VE(),
    Flow(),
]


def name_of(schedule):
    return f"{type(schedule).__name__}{len(getattr(schedule, 'betas', ())) or ''}"


def test_every_schedule_is_here():
    assert {type(schedule) for schedule in EVERY} == set(SCHEDULES.values())


@pytest.mark.parametrize("schedule", EVERY, ids=name_of)
def test_coefficients_ratio_and_inverse_agree(schedule):
    t = torch.tensor([0.0, 1e-5, 0.013, 0.3, 0.77, 1.0], dtype=torch.float64)
    alpha, sigma, ratio = schedule.alpha(t), schedule.sigma(t), schedule.ratio(t)
    assert (alpha[0], sigma[0], ratio[0]) == (1, 0, 0)
    torch.testing.assert_close(ratio, sigma / alpha, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(schedule.time_of_ratio(ratio), t, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(schedule.log_snr(t[1:]), 2 * torch.log(alpha / sigma)[1:], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(schedule.time_of_log_snr(schedule.log_snr(t[1:])), t[1:], rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(schedule.alpha_bar(t) + schedule.noise_variance(t), alpha**2 + sigma**2)
    assert (ratio[1:] > ratio[:-1]).all()
    assert float(schedule.time_of_ratio(float(ratio[3]))) == pytest.approx(0.3, rel=1e-9)


@pytest.mark.parametrize("schedule", [one for one in EVERY if isinstance(one, VariancePreserving)], ids=name_of)
def test_variance_preserving_schedules(schedule):
    t = torch.linspace(0.003, 0.99, 200, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=1e-12, atol=0)
    whole = schedule.beta_integral(0.2, 0.6)
    assert float(whole) == pytest.approx(2 * math.log(float(schedule.alpha(0.2) / schedule.alpha(0.6))), rel=1e-9)
    u = torch.linspace(0.2, 0.6, 20_001, dtype=torch.float64)
    assert float(torch.trapezoid(schedule.beta(u), u)) == pytest.approx(float(whole), rel=1e-3)
    assert float(schedule.initial_std(0.5)) == 1


def test_discrete_passes_through_its_table():
    table = Discrete((0.1, 0.2, 0.3))
    bars = torch.tensor([0.9, 0.72, 0.504], dtype=torch.float64)
    torch.testing.assert_close(table.alpha_bar(torch.tensor([1.0, 2.0, 3.0]) / 3), bars, rtol=1e-6, atol=0)
    middle = float(table.ratio(0.5)) ** 2
    assert middle == pytest.approx(math.sqrt((0.1 / 0.9) * (0.28 / 0.72)), rel=1e-9)  # geometric mean of the knots


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_tables_are_those_of_diffusers(name):
    scheduling = pytest.importorskip("diffusers").DDPMScheduler
    names = {"linear": ("linear", 1e-4, 0.02), "scaled_linear": ("scaled_linear", 0.00085, 0.012)}
    kind, start, end = names.get(name, ("squaredcos_cap_v2", 0.0, 0.0))
    theirs = scheduling(beta_schedule=kind, beta_start=start, beta_end=end).alphas_cumprod.double()
    ours = getattr(Discrete, name)().alpha_bar(torch.arange(1, 1001) / 1000)
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-9)


def test_ends_and_starts():
    assert math.isinf(float(Flow().ratio(1.0)))
    assert float(Flow().time_of_ratio(math.inf)) == 1
    assert float(VE(30.0).initial_std(1.0)) == 30
    assert float(Flow().initial_std(1.0)) == 1
    assert float(Discrete.linear().time_of_ratio(1e9)) == 1


BOUNDS = [(1.0, 0.5), (-0.1, 1.0), (0.0, 0.0), (0.1, math.inf), (math.nan, 1.0)]


@pytest.mark.parametrize(
    "make, values",
    [
        (lambda: Discrete(()), "none"),
        (lambda: Discrete((0.1, 1.0)), "1.0"),
        (lambda: VE(0.0), "sigma_max = 0.0"),
        (lambda: Cosine(math.inf), "max_ratio = inf"),
        *((lambda ends=ends: VPSDE(*ends), "0 <= beta_min <= beta_max") for ends in BOUNDS),
    ],
)
def test_values_out_of_range(make, values):
    with pytest.raises(ValueError, match=values):
        make()


def test_perturb_is_the_marginal(generator):
    x0 = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    z = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    x = VPSDE().perturb(x0, t, z)
    assert torch.equal(x[0], x0[0])
    for i in range(3):
        alpha_bar = math.exp(-(0.1 * t[i] + 9.95 * t[i] ** 2))
        torch.testing.assert_close(x[i], math.sqrt(alpha_bar) * x0[i] + math.sqrt(1 - alpha_bar) * z[i])
    assert VPSDE().perturb(x0.float(), 0.5, z.float()).dtype == torch.float32


def test_variance_of_diffused_data():
    assert float(VPSDE().variance(0.4)) == pytest.approx(1.0, rel=1e-15)
    assert float(VPSDE().variance(0.0, sigma_d=0.5)) == 0.25


def test_per_sample_shapes():
    assert per_sample(torch.tensor(2.0), torch.zeros(3, 4)).shape == ()
    assert per_sample(torch.ones(3), torch.zeros(3, 4, 5)).shape == (3, 1, 1)
    assert per_sample(as_float64(1), torch.zeros(3)).dtype == torch.float32
