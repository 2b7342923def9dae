from __future__ import annotations

import math

import pytest
import scipy.integrate
import torch

from proxdm import VPSDE
from proxdm.schedules import as_float64, per_sample

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


@pytest.mark.parametrize("sde", [VPSDE(), VPSDE(0.0, 5.0), VPSDE(2.0, 2.0)])
def test_log_snr_and_its_inverse(sde):
    t = torch.tensor([1e-6, 1e-3, 0.3, 1.0], dtype=torch.float64)
    log_snr = sde.log_snr(t)
    torch.testing.assert_close(log_snr, torch.log(sde.alpha_bar(t) / sde.noise_variance(t)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sde.time_of_log_snr(log_snr), t, rtol=1e-9, atol=0)


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


@pytest.mark.parametrize("bounds", [(1.0, 0.5), (-0.1, 1.0), (0.0, 0.0), (0.1, math.inf), (math.nan, 1.0)])
def test_impossible_schedules(bounds):
    with pytest.raises(ValueError, match="0 <= beta_min <= beta_max"):
        VPSDE(*bounds)
