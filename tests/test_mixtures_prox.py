"""The proximal operator of a mixture: closed forms, optimality, limits, symmetries, inputs.

That the minimum is the global one is the business of test_mixtures_global.py.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from exact import objective, rand
from proxdm.mixtures import GaussianMixture
from proxdm.schedules import VPSDE

SDE = VPSDE()
PAIRS = [(1e-4, 1e-3), (0.01, 0.05), (0.1, 0.3), (0.3, 0.7), (0.9, 1.9), (1.0, 5.0)]


def mixture(count: int = 12, shape: tuple[int, ...] = (2,), *, seed: int = 0, spread: bool = False) -> GaussianMixture:
    """Unequal weights; unequal deviations where `spread`, else point masses."""
    means = 0.6 * rand(count, *shape, seed=seed)
    std = 0.05 + 0.2 * rand(count, seed=seed + 1).abs() if spread else 0.0
    return GaussianMixture(means, std, rand(count, seed=seed + 2).exp(), SDE)


def relative_residual(mix: GaussianMixture, u: torch.Tensor, x: torch.Tensor, t: float, lam: float) -> float:
    """|u - x - lam score| over what its terms can be known to: lam / v times the size of the numbers."""
    v = float(SDE.variance(t, float(mix.std.min())))
    gradient = (u - x - lam * mix.score(u, t)).flatten(1)
    scale = (1 + lam / v) * (1 + u.flatten(1).norm(dim=1)) + x.flatten(1).norm(dim=1)
    return float((gradient.norm(dim=1) / scale).max())


@pytest.mark.parametrize("mode", ["global", "local"])
@pytest.mark.parametrize("t, lam", [*PAIRS, (0.2, 1e-12), (0.2, 1e12), (1e-9, 1e-3), (1.0, 1e-6)])
@pytest.mark.parametrize("std", [0.0, 0.7])
def test_one_gaussian_in_closed_form(t, lam, std, mode):
    """prox = (v x + lam m) / (v + lam)."""
    mean, x = rand(1, 4, seed=0), 3 * rand(6, 4, seed=1)
    alpha, v = SDE.alpha_bar(t), SDE.variance(t, std)
    result = GaussianMixture(mean, std).solve_prox(x, t, lam, mode)
    torch.testing.assert_close(result.u, (v * x + lam * alpha.sqrt() * mean) / (v + lam), rtol=1e-12, atol=1e-12)
    assert result.converged.all()
    assert result.unimodal.all()


@pytest.mark.parametrize("mode", ["global", "local"])
@pytest.mark.parametrize("t, lam", PAIRS)
@pytest.mark.parametrize(
    "count, shape, spread",
    [(12, (2,), False), (12, (2,), True), (40, (1,), False), (30, (3, 2), False), (25, (40,), True)],
)
def test_the_result_is_stationary_and_says_so(t, lam, count, shape, spread, mode):
    mix = mixture(count, shape, spread=spread)
    x = mix.sample(40, t, generator=torch.Generator().manual_seed(1)) + lam**0.5 * rand(40, *shape, seed=2)
    result = mix.solve_prox(x, t, lam, mode)
    assert result.converged.all()
    assert relative_residual(mix, result.u, x, t, lam) < 1e-12
    torch.testing.assert_close(result.objective, objective(mix, result.u, x, t, lam), rtol=1e-9, atol=1e-9)
    gradient = (result.u - x - lam * mix.score(result.u, t)).flatten(1)
    torch.testing.assert_close(result.residual, gradient.norm(dim=1), rtol=0.01, atol=1e-9)
    torch.testing.assert_close(mix.prox(x, t, lam), mix.solve_prox(x, t, lam).u, rtol=0, atol=0)


@pytest.mark.parametrize("lam", [1e-12, 1e-300])
def test_tiny_lam_takes_one_small_gradient_step(lam):
    mix, x = mixture(), rand(20, 2, seed=1)
    for t in (1e-3, 0.5):
        torch.testing.assert_close(mix.prox(x, t, lam), x + lam * mix.score(x, t), rtol=1e-11, atol=1e-11)


def test_zero_lam_gives_x_back():
    x = rand(10, 2, seed=1)
    for spread, t in ((False, 0.5), (True, 0.5), (True, 0.0)):
        result = mixture(spread=spread).solve_prox(x, t, 0.0)
        assert torch.equal(result.u, x)
        assert result.converged.all()
        assert result.residual.abs().max() == result.objective.abs().max() == 0


@pytest.mark.parametrize("spread", [False, True])
def test_huge_lam_gives_the_mode_of_the_density(spread):
    mix, t = mixture(spread=spread), 0.02
    u = mix.prox(rand(5, 2, seed=1), t, 1e12)
    axis = torch.linspace(-2, 2, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    assert mix.log_prob(u, t).min() >= mix.log_prob(grid, t).max()
    torch.testing.assert_close(u, u[:1].expand_as(u), rtol=0, atol=1e-9)


def nearest(atoms: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return atoms[(x[:, None] - atoms).square().sum(2).argmin(1)]


@pytest.mark.parametrize("dim", [2, 50])
@pytest.mark.parametrize("lam", [0.0, 0.01, 10.0])
def test_point_masses_at_time_zero_are_projected_on(dim, lam):
    """Whatever lam and the weights."""
    atoms, x = rand(300, dim, seed=0), 2 * rand(100, dim, seed=1)
    result = GaussianMixture(atoms, weights=rand(300, seed=2).exp()).solve_prox(x, 0.0, lam)
    torch.testing.assert_close(result.u, nearest(atoms, x), rtol=0, atol=1e-15)
    torch.testing.assert_close(result.objective, (result.u - x).square().sum(1) / 2)
    assert result.converged.all()


@pytest.mark.parametrize("t", [1e-7, 1e-12, 1e-30])
def test_small_times_approach_the_projection(t):
    """With equal weights; the deviation of p_t is sqrt(0.1 t)."""
    atoms, x = rand(142, 2, seed=0), rand(200, 2, seed=1)
    u = GaussianMixture(atoms).prox(x, t, 0.2)
    torch.testing.assert_close(u, nearest(atoms, x), rtol=0, atol=10 * t + 1e-15)


def test_small_times_weigh_unequal_atoms():
    """argmin of |u - x|^2 / 2 - lam log w over the atoms: the posterior's most probable atom."""
    atoms, x, lam = rand(50, 2, seed=0), rand(200, 2, seed=1), 0.2
    weights = rand(50, seed=2).exp()
    mix = GaussianMixture(atoms, weights=weights)
    cost = (x[:, None] - atoms).square().sum(2) / 2 - lam * mix.weights.log()
    torch.testing.assert_close(mix.prox(x, 1e-12, lam), atoms[cost.argmin(1)], rtol=0, atol=1e-10)


def test_positive_deviations_at_time_zero_are_no_special_case():
    mix, x = mixture(spread=True), rand(30, 2, seed=1)
    assert mix.solve_prox(x, 0.0, 0.3).converged.all()
    torch.testing.assert_close(mix.prox(x, 0.0, 0.3), mix.prox(x, 1e-12, 0.3), rtol=0, atol=1e-9)


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("dim", [2, 5])
def test_permuted_rotated_and_shifted_mixtures(dim, spread):
    mix = mixture(15, (dim,), spread=spread)
    t, lam, x = 0.1, 0.3, rand(50, dim, seed=4)
    std = mix.std.expand(15)
    u = mix.prox(x, t, lam)

    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    permuted = GaussianMixture(mix.means[order], std[order], mix.weights[order])
    torch.testing.assert_close(permuted.prox(x, t, lam), u, rtol=0, atol=1e-9)

    rotation = torch.linalg.qr(rand(dim, dim, seed=5)).Q
    rotated = GaussianMixture(mix.means @ rotation, std, mix.weights)
    torch.testing.assert_close(rotated.prox(x @ rotation, t, lam), u @ rotation, rtol=0, atol=1e-9)

    shift = 3 * rand(dim, seed=6)
    moved = SDE.alpha_bar(t).sqrt() * shift
    shifted = GaussianMixture(mix.means + shift, std, mix.weights)
    torch.testing.assert_close(shifted.prox(x + moved, t, lam), u + moved, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spread", [False, True])
def test_scaling_space_scales_the_prox(spread):
    """In data space: means, deviations and x times c, the noise too, lam times c^2."""
    c, t, lam = 3.0, 0.2, 0.4
    mix, x = mixture(spread=spread), rand(30, 2, seed=4)
    # A deviation that makes V_i = std_i^2 + (1 - alpha_bar) / alpha_bar come out c^2 times as large.
    noise = SDE.noise_variance(t) / SDE.alpha_bar(t)
    wide = GaussianMixture(c * mix.means, (c**2 * (mix.std**2 + noise) - noise).sqrt(), mix.weights)
    torch.testing.assert_close(wide.prox(c * x, t, c**2 * lam), c * mix.prox(x, t, lam), rtol=0, atol=1e-9)


@pytest.mark.parametrize("count, dim, spread", [(12, 2, False), (12, 2, True), (30, 20, False), (700, 3, False)])
def test_rows_do_not_depend_on_each_other(count, dim, spread):
    mix = mixture(count, (dim,), spread=spread)
    x = rand(24, dim, seed=4)
    t = torch.tensor([1e-8, 0.05, 0.05, 0.3, 0.9, 1.0]).repeat(4)
    lam = torch.tensor([0.1, 0.2, 1.0, 0.0, 0.7, 3.0]).repeat_interleave(4)
    together = mix.solve_prox(x, t, lam)
    for i in range(24):
        alone = mix.solve_prox(x[i : i + 1], float(t[i].double()), float(lam[i].double()))
        torch.testing.assert_close(together.u[i], alone.u[0], rtol=0, atol=1e-11)
        assert together.unimodal[i] == alone.unimodal[0]


def test_time_zero_for_some_rows():
    mix, x = mixture(), rand(4, 2, seed=4)
    t = torch.tensor([0.0, 0.1, 0.0, 0.1])
    u = mix.prox(x, t, 0.3)
    torch.testing.assert_close(u[::2], mix.prox(x[::2], 0.0, 0.3), rtol=0, atol=0)
    torch.testing.assert_close(u[1::2], mix.prox(x[1::2], t[1], 0.3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [False, True])
def test_small_pieces_give_the_same(spread, monkeypatch):
    mix, x = mixture(20, (3,), spread=spread), rand(60, 3, seed=4)
    whole = mix.prox(x, 0.1, 0.3)
    for budget in (100, 4000):
        monkeypatch.setattr("proxdm._modes.solve.BUDGET", budget)
        torch.testing.assert_close(mix.prox(x, 0.1, 0.3), whole, rtol=0, atol=1e-11)


def test_duplicates_are_weights():
    points, x = 0.6 * rand(6, 2, seed=0), rand(40, 2, seed=1)
    copies = torch.tensor([1, 5, 2, 1, 7, 3])
    for t, lam in PAIRS:
        many = GaussianMixture(points.repeat_interleave(copies, 0))
        few = GaussianMixture(points, weights=copies.double())
        torch.testing.assert_close(many.prox(x, t, lam), few.prox(x, t, lam), rtol=0, atol=1e-8)
    one = GaussianMixture(points[:1].expand(100, 2))
    torch.testing.assert_close(one.prox(x, 0.1, 0.3), GaussianMixture(points[:1]).prox(x, 0.1, 0.3))


@pytest.mark.parametrize("mode", ["global", "local"])
@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("t", [1e-9, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("lam", [1e-12, 1e-3, 1.0, 1e4, 1e12])
def test_extreme_weights_and_distant_points_converge(t, lam, spread, mode):
    mix = mixture(30, spread=spread)
    for distance in (1.0, 1e6):
        x = distance * rand(20, 2, seed=3)
        result = mix.solve_prox(x, t, lam, mode)
        assert torch.isfinite(result.u).all()
        assert result.converged.all()
        assert relative_residual(mix, result.u, x, t, lam) < 1e-12


@pytest.mark.parametrize("spread", [False, True])
def test_the_objective_never_rises(spread):
    """In local mode one more evaluation allowed is one more step of the same climb; it stops at its best point."""
    mix, t, lam = mixture(40, spread=spread), 0.02, 0.5
    x = 2 * rand(100, 2, seed=3)
    before = objective(mix, x, x, t, lam)
    falls = 0
    for iterations in range(1, 12):
        result = mix.solve_prox(x, t, lam, "local", max_iterations=iterations)
        assert (result.objective <= before + 1e-10).all()
        falls += int((result.objective < before - 1e-6).sum())
        before = result.objective
        if iterations == 1:
            assert not result.converged.all()
    assert falls > 100
    assert mix.solve_prox(x, t, lam, "local").converged.all()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 0.0), (torch.bfloat16, 1e-2)])
def test_types_and_shapes(dtype, tolerance):
    mix, x = mixture(8, (2, 3)), rand(5, 2, 3, seed=1).to(dtype)
    result = mix.solve_prox(x, 0.2, 0.5)
    assert result.u.dtype == dtype
    assert result.u.shape == x.shape
    assert result.objective.dtype == result.residual.dtype == torch.float64
    assert result.converged.dtype == result.unimodal.dtype == torch.bool
    assert all(field.shape == (5,) for field in list(vars(result).values())[1:])
    exact = mix.prox(x.double(), 0.2, 0.5)
    torch.testing.assert_close(result.u.double(), exact, rtol=tolerance, atol=tolerance)
    # The residual is that of the float64 solution, not of its rounded copy.
    assert result.residual.max() < 1e-13
    single = mix.to(dtype=torch.float32)  # means in float32 are enough
    torch.testing.assert_close(single.prox(x.double(), 0.2, 0.5), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("route", ["gathered", "full"])
@pytest.mark.parametrize("dim, spread", [(2, False), (2, True), (6, False), (20, True), (60, False)])
def test_the_three_ways_of_solving_agree(dim, spread, route, monkeypatch):
    mix = mixture(30, (dim,), spread=spread)
    for t, lam in PAIRS[1:]:
        x = mix.sample(20, t, generator=torch.Generator().manual_seed(1)) + lam**0.5 * rand(20, dim, seed=2)
        expected = mix.solve_prox(x, t, lam)
        with monkeypatch.context() as patch:
            patch.setattr("proxdm._modes.solve.SHARED_RESOLUTION", 0.0)
            patch.setattr("proxdm._modes.solve.GATHERED_SIZE", 10**9 if route == "gathered" else 0)
            for mode in ("global", "local"):
                result = mix.solve_prox(x, t, lam, mode)
                assert result.converged.all()
                assert relative_residual(mix, result.u, x, t, lam) < 1e-12
                reference = expected if mode == "global" else mix.solve_prox(x, t, lam, mode)
                torch.testing.assert_close(result.objective, reference.objective, rtol=1e-9, atol=1e-9)


MEMORY = """
import resource, torch
from proxdm.mixtures import GaussianMixture

torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
means = torch.rand(10_000, 28, 28, generator=generator) * 2 - 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mix = GaussianMixture(means)
for t, lam, count in [(0.9, 1.9, 64), (0.6, 1.3, 16), (0.1, 0.3, 64), (0.01, 1e6, 4), (0.0, 0.1, 64)]:
    x = mix.sample(count, t, generator=generator)
    result = mix.solve_prox(x, t, lam)
    assert result.converged.all()
    assert result.u.shape == x.shape
    if t > 0:
        assert (result.residual < 1e-9 * (1 + lam / (1 - mix.schedule.alpha_bar(t)))).all()
        mix.score(x, t), mix.log_prob(x, t)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in kilobytes on Linux")
def test_ten_thousand_images_fit_in_a_few_hundred_megabytes():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 600


POINT = torch.zeros(2, 2, dtype=torch.float64)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("name", ["prox", "solve_prox"])
@pytest.mark.parametrize(
    "lam, message",
    [
        (-1.0, "lam = -1 must be at least 0 and finite"),
        (NAN, "lam = nan must be at least 0 and finite"),
        (INF, "lam = inf must be at least 0 and finite"),
        (torch.tensor([1.0, -2.0]), "lam = -2 must be at least 0"),
        (torch.ones(3), r"lam has shape \(3,\).*\(2,\)"),
        (torch.ones(2, 1), r"lam has shape \(2, 1\)"),
    ],
)
def test_wrong_weights(name, lam, message):
    with pytest.raises(ValueError, match=message):
        getattr(mixture(), name)(POINT, 0.5, lam)


def test_wrong_mode_and_limit():
    with pytest.raises(ValueError, match="unknown mode 'best'; use 'global' or 'local'"):
        mixture().solve_prox(POINT, 0.5, 1.0, "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_iterations = 0 must be at least 1"):
        mixture().solve_prox(POINT, 0.5, 1.0, max_iterations=0)


def test_half_point_masses_have_no_prox_at_time_zero():
    mix = GaussianMixture(POINT, [0.0, 1.0])
    with pytest.raises(ValueError, match="the prox is not defined at t = 0 for a mixture of point masses"):
        mix.prox(POINT, 0.0, 1.0)
    assert mix.solve_prox(POINT + 0.1, 1e-6, 1.0).converged.all()
