"""The proximal operator of a mixture is the global minimiser: dense grids, SciPy, crafted wells, saddle points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from exact import objective, rand
from proxdm.data import datasaurus
from proxdm.grids import TimeGrid
from proxdm.mixtures import GaussianMixture
from proxdm.samplers import find_sampler
from proxdm.schedules import VPSDE

SDE = VPSDE()


def grid_minimum(mix: GaussianMixture, x: torch.Tensor, t: float, lam: float, points: int) -> torch.Tensor:
    """The least objective on a grid over the box of all means and all x, where every minimiser lies, `(B,)`."""
    dim = x.shape[1]
    corners = torch.cat([x, mix.means.flatten(1), -mix.means.flatten(1)])
    axes = [torch.linspace(float(corners[:, j].min()), float(corners[:, j].max()), points) for j in range(dim)]
    grid = torch.cartesian_prod(*axes).reshape(-1, dim).double()
    cost = -lam * mix.log_prob(grid, t)
    return torch.stack([((grid - row).square().sum(1) / 2 + cost).min() for row in x])


def dino() -> GaussianMixture:
    return GaussianMixture(torch.as_tensor(datasaurus.load("dino")), schedule=SDE)


def diffused(mix: GaussianMixture, rule: str, t: float, s: float, count: int, seed: int) -> tuple[torch.Tensor, float]:
    """What a sampler hands to the prox on its step from t to s, and lam."""
    step = find_sampler(rule).coefficients(SDE, t, s)
    x = mix.sample(count, t, generator=torch.Generator().manual_seed(seed))
    return step.scale * x + step.noise * rand(*x.shape, seed=seed), float(step.lam)


def assert_no_point_is_lower(mix: GaussianMixture, x: torch.Tensor, t: float, lam: float, points: int) -> None:
    """Neither one of a grid, nor the minimum downhill from x."""
    result, slack = mix.solve_prox(x, t, lam), 1e-12 * (1 + lam)
    assert result.converged.all()
    assert (result.objective <= grid_minimum(mix, x, t, lam, points) + slack).all()
    assert (result.objective <= mix.solve_prox(x, t, lam, "local").objective + slack).all()


STEPS = [(n, t, s) for n in (10, 40) for t, s in TimeGrid.uniform(n).pairs() if 0 < s <= 0.3]


@pytest.mark.parametrize("rule", ["prox-hybrid", "prox-backward"])
@pytest.mark.parametrize("n, t, s", STEPS)
def test_no_grid_point_is_lower_on_the_steps_of_the_toy(n, t, s, rule):
    mix = dino()
    x, lam = diffused(mix, rule, t, s, 60, seed=n)
    assert_no_point_is_lower(mix, x, s, lam, 250)


def random_mixture(seed: int, dim: int) -> tuple[GaussianMixture, float, float]:
    """Rings, clouds and clusters; weights and deviations equal or not; times and weights where wells compete."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    count = int(2 + 50 * uniform(1))
    means = 2 * uniform(count, dim) - 1
    if seed % 3 == 1:
        means = means / means.norm(dim=1, keepdim=True)
    if seed % 3 == 2:
        means = 0.7 * means[torch.randint(0, count, (count,), generator=generator).remainder(4)] + 0.1 * means
    std = 0.4 * uniform(count) if seed % 2 else 0.05 * float(uniform(1))
    weights = (2 * uniform(count)).exp() if seed % 4 < 3 else None
    t, lam = float(10 ** (-2.5 + 2 * uniform(1))), float(10 ** (-2 + 3 * uniform(1)))
    return GaussianMixture(means, std, weights, SDE), t, lam


@pytest.mark.parametrize(
    "dim, points, seed",
    [
        (dim, points, seed)
        for dim, points, seeds in ((1, 20_000, 24), (2, 250, 24), (3, 60, 6))
        for seed in range(seeds)
    ],
)
def test_no_grid_point_is_lower_on_random_mixtures(dim, points, seed):
    mix, t, lam = random_mixture(seed, dim)
    generator = torch.Generator().manual_seed(seed)
    x = 1.5 * (2 * torch.rand(30 if dim < 3 else 10, dim, generator=generator, dtype=torch.float64) - 1)
    assert_no_point_is_lower(mix, x, t, lam, points)


@pytest.mark.parametrize("dim", [5, 30, 200])
@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_no_component_leads_lower_in_high_dimension(seed, dim):
    """L-BFGS from the means never ends lower."""
    mix, t, lam = random_mixture(seed, dim)
    x = mix.sample(3, t, generator=torch.Generator().manual_seed(seed)) + lam**0.5 * rand(3, dim, seed=seed)
    best = mix.solve_prox(x, t, lam).objective
    for row, value in zip(x, best, strict=True):
        for start in SDE.alpha_bar(t).sqrt() * mix.means[:12]:
            u = descend(mix, start, row, t, lam)
            assert objective(mix, u[None], row[None], t, lam) >= value - 1e-9


def descend(mix: GaussianMixture, start: torch.Tensor, x: torch.Tensor, t: float, lam: float) -> torch.Tensor:
    """SciPy's L-BFGS on the objective of one point."""

    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(flat)[None]
        gradient = (u - x) - lam * mix.score(u, t)
        return float(objective(mix, u, x[None], t, lam)), gradient[0].numpy()

    done = minimize(function, start.numpy(), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    return torch.from_numpy(done.x)


@pytest.mark.parametrize("t, s", [(0.2, 0.1), (0.3, 0.2), (0.6, 0.5), (1.0, 0.9), (0.05, 0.025)])
def test_scipy_from_x_never_ends_lower(t, s):
    """The paper's code takes one run of L-BFGS from x per point."""
    mix = dino()
    x, lam = diffused(mix, "prox-hybrid", t, s, 40, seed=7)
    result = mix.solve_prox(x, s, lam)
    ends = torch.stack([descend(mix, row, row, s, lam) for row in x])
    excess = objective(mix, ends, x, s, lam) - result.objective
    assert (excess >= -1e-10).all()
    same = excess < 1e-9
    assert same.float().mean() > 0.8
    torch.testing.assert_close(ends[same], result.u[same], rtol=0, atol=2e-4)


WELLS = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), weights=[0.95, 0.05])


def test_local_mode_stays_in_its_well_where_global_mode_leaves_it():
    """x sits in the right well, the left one is lower: the two modes must differ, each by the right amount."""
    t, lam = 0.05, 2.0
    x = torch.tensor([[0.3, 0.1]], dtype=torch.float64)
    m = float(SDE.alpha_bar(t).sqrt())
    low, near = WELLS.solve_prox(x, t, lam), WELLS.solve_prox(x, t, lam, "local")
    assert low.u[0, 0] < -0.9 * m
    assert near.u[0, 0] > 0.9 * m
    assert near.objective > low.objective + 1
    assert near.converged.all()
    assert near.residual.max() < 1e-11
    assert not low.unimodal.any()
    end = descend(WELLS, x[0], x[0], t, lam)
    torch.testing.assert_close(near.u[0], end, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["global", "local"])
@pytest.mark.parametrize("std", [0.0, [0.05, 0.05, 0.07, 0.07]])
def test_a_start_on_a_saddle_point_does_not_stay(mode, std):
    """x in the middle of four equal wells is stationary, and no minimum."""
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    mix, x, t, lam = GaussianMixture(means, std), torch.zeros(1, 2, dtype=torch.float64), 0.02, 0.5
    assert mix.score(x, t).norm() < 1e-12
    result = mix.solve_prox(x, t, lam, mode)
    assert result.u.norm() > 0.9 * SDE.alpha_bar(t).sqrt()
    assert result.objective < objective(mix, x, x, t, lam) - 0.1
    assert result.converged.all()


@pytest.mark.parametrize("dim", [2, 30])
def test_a_saddle_point_of_two_wells_in_any_dimension(dim):
    means = torch.zeros(2, dim, dtype=torch.float64)
    means[0, 0], means[1, 0] = 1.0, -1.0
    x = 0.1 * rand(5, dim, seed=0)
    x[:, 0] = 0.0
    for mode in ("global", "local"):
        result = GaussianMixture(means).solve_prox(x, 0.02, 0.5, mode)
        assert result.converged.all()
        assert (result.u[:, 0].abs() > 0.9).all()


@pytest.mark.parametrize("gap", [1.98, 2.0, 2.02, 2.1, 2.3])
def test_wells_about_to_merge(gap):
    """Two equal kernels of deviation 1 have two modes from a distance of 2 on; nearby, modes are flat and close."""
    t, lam = 0.1, 0.3
    alpha, v = float(SDE.alpha_bar(t)), float(SDE.noise_variance(t))
    width = (v * (v + lam) / (lam * alpha)) ** 0.5
    means = torch.tensor([[-gap / 2, 0.0], [gap / 2, 0.0]], dtype=torch.float64) * width
    mix = GaussianMixture(means)
    for tilt in (0.0, 1e-6, 1e-3, 0.02, -0.02):
        x = torch.tensor([[tilt, 0.2]], dtype=torch.float64)
        result = mix.solve_prox(x, t, lam)
        assert result.converged.all()
        assert result.residual.max() < 1e-9
        line = torch.stack([torch.linspace(-0.6, 0.6, 20_001).double(), result.u[0, 1].expand(20_001)], dim=1)
        assert result.objective <= objective(mix, line, x, t, lam).min() + 1e-13


def test_the_proof_of_a_single_minimum_is_right():
    """Proved rows have no other minimum: climbs from everywhere end at the same point."""
    proved = 0
    for seed in range(8):
        mix, x = random_mixture(seed, 2)[0], 2 * rand(20, 2, seed=seed)
        t, lam = (0.25, 0.2) if seed % 2 == 0 else (0.01, 0.003)
        result = mix.solve_prox(x, t, lam)
        for i in torch.nonzero(result.unimodal)[:3, 0].tolist():
            proved += 1
            for start in (2 * rand(4, 2, seed=seed + 1)).unbind():
                end = descend(mix, start, x[i], t, lam)
                torch.testing.assert_close(end, result.u[i], rtol=0, atol=1e-4)
    assert proved > 15
    assert dino().solve_prox(rand(5, 2, seed=0), 0.5, 1.0).unimodal.all()
