from __future__ import annotations

import numpy as np
import pytest
import torch

from proxdm import VE, VPSDE, Flow, TimeGrid
from proxdm.grids import GRIDS


def test_uniform():
    grid = TimeGrid.uniform(4)
    assert grid.times.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert grid.times.dtype == torch.float64
    assert grid.steps == 4
    assert grid.pairs() == [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    np.testing.assert_allclose(TimeGrid.uniform(7, t_end=1e-3).times, np.linspace(1, 1e-3, 8), rtol=1e-14)


def test_denoising_is_linspace_to_eps_then_zero():
    grid = TimeGrid.denoising(5, eps=1e-3)
    np.testing.assert_allclose(grid.times, [*np.linspace(1, 1e-3, 5), 0.0], rtol=1e-14)
    assert TimeGrid.denoising(1).times.tolist() == [1.0, 0.0]


def test_power():
    np.testing.assert_allclose(TimeGrid.power(4, 2.0).times, np.linspace(1, 0, 5) ** 2, rtol=1e-14)
    assert TimeGrid.power(6, 1.0) == TimeGrid.uniform(6)


def test_log_snr_is_equally_spaced_in_log_snr():
    sde = VPSDE(0.1, 10.0)
    grid = TimeGrid.log_snr(9, eps=1e-4, schedule=sde)
    assert grid.times[0] == 1
    assert grid.times[-1] == 0
    assert float(grid.times[-2]) == pytest.approx(1e-4, rel=1e-9)
    gaps = torch.diff(sde.log_snr(grid.times[:-1]))
    torch.testing.assert_close(gaps, gaps[0].expand(8), rtol=1e-9, atol=1e-9)


def test_custom_equality_and_hash():
    grid = TimeGrid.custom([1.0, 0.5, 0.0])
    assert grid == TimeGrid.uniform(2)
    assert hash(grid) == hash(TimeGrid.uniform(2))
    assert grid != TimeGrid.uniform(3)
    assert grid.with_steps(5) is None
    times = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    grid = TimeGrid(times)
    times[1] = 0.1
    assert grid.times[1] == 0.5, "the times are a private copy"


def test_rho_is_edms_grid_in_the_ratio():
    """Karras et al. 2022, eq. 5, on every schedule; the start is that of t = 1, at most 80."""
    for schedule in (VPSDE(), VE(20.0), Flow()):
        grid = TimeGrid.rho(6, end=0.05, rho=5.0, schedule=schedule)
        first = min(float(schedule.ratio(1.0)), 80.0)
        expected = np.linspace(first ** (1 / 5), 0.05 ** (1 / 5), 6) ** 5
        np.testing.assert_allclose(schedule.ratio(grid.times[:-1]), expected, rtol=1e-9)
        assert grid.times[-1] == 0
    assert float(VPSDE().ratio(TimeGrid.rho(3, start=2.0).times[0])) == pytest.approx(2.0)
    assert float(VPSDE().ratio(TimeGrid.rho(1, start=2.0).times[0])) == pytest.approx(2.0)


def test_below_starts_at_a_knot():
    grid = TimeGrid.uniform(10).below(0.55)
    np.testing.assert_allclose(grid.times, [0.5, 0.4, 0.3, 0.2, 0.1, 0.0], atol=1e-15)
    assert grid.name == "uniform(10).below(0.55)"
    assert TimeGrid.uniform(10).below(0.3).steps == 3  # the knot itself, whatever its rounding
    with pytest.raises(ValueError, match=r"0\.05.*0\.1"):
        TimeGrid.uniform(10).below(0.05)


@pytest.mark.parametrize("name", [*GRIDS, "power(rho=1.5)", "denoising(eps=0.01)", "rho(end=0.1, rho=3)"])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_named_grids_and_their_families(name, steps):
    schedule = VE(50.0)
    grid = TimeGrid.named(name, steps, schedule)
    assert grid.steps == steps
    assert grid.times[0] == 1
    assert grid.times[-1] == 0
    assert grid.with_steps(steps + 3) == TimeGrid.named(name, steps + 3, schedule)
    assert grid.name.startswith(f"{name.partition('(')[0]}({steps}")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TimeGrid.uniform(0), "steps = 0 must be a whole number of at least 1"),
        (lambda: TimeGrid.uniform(2.5), "whole number"),
        (lambda: TimeGrid.uniform(3, t_end=1.0), r"t_end = 1.0 must lie in \[0, 1\)"),
        (lambda: TimeGrid.denoising(3, eps=0.0), r"eps = 0.0 must lie in \(0, 1\)"),
        (lambda: TimeGrid.log_snr(3, eps=2.0), r"eps = 2.0 must lie in \(0, 1\)"),
        (lambda: TimeGrid.power(3, rho=0), r"rho = 0 must lie in \(0, inf\)"),
        (lambda: TimeGrid.custom([1.0]), "at least 2 times"),
        (lambda: TimeGrid.custom([0.0, 0.5, 1.0]), r"decrease strictly .* times\[0\] = 0 is followed by 0.5"),
        (lambda: TimeGrid.custom([1.0, 0.5, 0.5]), "decrease strictly"),
        (lambda: TimeGrid.custom([1.2, 0.5]), r"must lie in \[0, 1\]"),
        (lambda: TimeGrid.custom([1.0, float("nan"), 0.0]), "must be finite"),
        (lambda: TimeGrid.named("cosine", 3), "'cosine'.*uniform, denoising"),
        (lambda: TimeGrid.named("power(eps=1)", 3), "'eps'.*rho"),
        (lambda: TimeGrid.named("power(rho=two)", 3), "'two'.*float"),
        (lambda: TimeGrid.rho(3, start=500.0), r"start = 500 .*152"),
        (lambda: TimeGrid.rho(3, end=90.0), r"end = 90.0 .*80"),
        (lambda: TimeGrid.rho(3, rho=0.0), r"rho = 0.0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
