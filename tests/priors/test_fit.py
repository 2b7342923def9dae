"""Fitting priors, and their files."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from proxdm import VPSDE, GaussianMixture
from proxdm.errors import OutputError
from proxdm.priors import (
    DenoiserPrior,
    GainCurve,
    GaussianPrior,
    MixturePrior,
    PriorError,
    few_step_grid,
    fit_prior,
    gain,
    load_prior,
    save_prior,
    start_for,
)

CURVE = GainCurve((0.5, 1.0, 2.0, 4.0), (0.6, 0.8, 0.7, 1.0), 256, "VPSDE(beta_min=0.1, beta_max=20.0)")


def clustered(n=2000, d=40, k=4):
    """Points `(n, d)` in k clusters, the first half of the set from half of them (sets are often in order)."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(k, d, generator=generator)
    labels = torch.arange(n) * k // n
    return centres[labels] + 0.3 * torch.randn(n, d, generator=generator)


def fitted(x):
    """All but the twentieth of every twenty, which is held."""
    return x[torch.arange(len(x)) % 20 != 19].double()


def test_a_gaussian_has_mean_and_leading_directions_of_the_data():
    x = clustered()
    prior = fit_prior(x, 1, 5)
    assert isinstance(prior, GaussianPrior)
    c, u = np.linalg.eigh(np.cov(fitted(x).numpy().T, bias=True))
    torch.testing.assert_close(prior.mean, fitted(x).mean(0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(prior.variances.numpy(), c[::-1][:5], rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(prior.basis.numpy() * u[:, ::-1][:, :5], 0)), 1, atol=1e-4)
    assert float(prior.rest) == pytest.approx(float(np.mean(c[:-5])), rel=1e-4)


def test_directions_by_subspace_iteration_are_those_of_the_covariance():
    """1,100 dimensions, variances that fall as those of pictures: by iteration."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3000, 1100, generator=generator) * 5 / (1 + torch.arange(1100) / 3)
    prior = fit_prior(x, 1, 10)
    c = np.linalg.eigvalsh(np.cov(fitted(x).numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(prior.variances.numpy(), c[:10], rtol=0.01)
    torch.testing.assert_close(prior.basis.T @ prior.basis, torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_mixture_finds_clusters():
    prior = fit_prior(clustered(), 4, 10, 3)
    assert isinstance(prior, MixturePrior)
    assert (prior.components, prior.directions, prior.rank) == (4, 10, 3)
    torch.testing.assert_close(prior.log_weights.exp(), torch.full((4,), 0.25, dtype=torch.float64), rtol=0, atol=1e-6)
    assert float(prior.variances.max()) < 0.2


def test_sizes_are_chosen_by_the_rule_and_said():
    prior = fit_prior(clustered(n=4000))
    assert 4 <= prior.components <= 4000 // 200
    assert "of 3,800 pictures; held-out log density" in prior.facts.rule
    assert isinstance(fit_prior(clustered(n=60)), GaussianPrior)


def test_every_kind_of_pictures_gives_the_same_prior(tmp_path):
    x = clustered(n=1100)
    same = fit_prior(x, 4, 8, 2)
    np.save(tmp_path / "x.npy", x.numpy())
    data = [(row, 0) for row in x]
    kinds = [x.numpy(), np.load(tmp_path / "x.npy", mmap_mode="r"), data, lambda: iter(x.split(300))]
    for kind in kinds:
        prior = fit_prior(kind, 4, 8, 2)
        assert prior.facts == same.facts
        torch.testing.assert_close(prior.centres, same.centres, rtol=0, atol=1e-4)
    assert fit_prior(x + 1, 4, 8, 2).facts.fingerprint != same.facts.fingerprint


def test_of_a_long_stream_few_pictures_are_held_from_all_of_it():
    """Every twentieth of 30,000: 1,500, of which 256 are kept, in bounded memory."""
    numbers = torch.arange(30_000, dtype=torch.float32)[:, None].repeat(1, 3)
    held = fit_prior(lambda: iter(numbers.split(700)), 1, 1).held[:, 0]
    assert len(held) == 256
    assert torch.equal(held % 20, torch.full((256,), 19.0))
    assert float(held[0]) < 500
    assert float(held[-1]) > 29_000
    assert float(held.diff().min()) > 0


def test_a_stream_is_begun_once_a_pass():
    begun = []
    fit_prior(lambda: begun.append(1) or iter(clustered(600).split(100)), 2, 8, 2)
    assert len(begun) == 3  # facts and mean; covariance, of 40 dimensions; coefficients


def test_uint8_pictures_are_taken_to_the_range_of_models():
    pictures = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8)
    prior = fit_prior(pictures, 1)
    assert prior.shape == (1, 4, 4)
    torch.testing.assert_close(prior.mean, (fitted(pictures) / 127.5 - 1).mean(0).flatten(), rtol=0, atol=1e-6)
    assert -1 <= prior.facts.low < prior.facts.high <= 1


@pytest.mark.parametrize(
    "data, sizes, words",
    [
        (torch.zeros(1, 3), {}, "2 pictures at least, and there are 1"),
        (torch.tensor([[0.0, 1.0], [math.nan, 1.0]]), {}, "picture 1 has NaN"),
        (clustered(100), {"components": 60}, "components = 60 must lie between 1 and 47 for 95 pictures"),
        (clustered(100), {"directions": 41}, "directions = 41 must lie between 1 and 40"),
        (clustered(100), {"directions": 4, "rank": 5}, "rank = 5 must lie between 1 and 4"),
        (clustered(100), {"components": 0}, "components = 0"),
    ],
)
def test_bad_input_is_refused(data, sizes, words):
    with pytest.raises(PriorError, match=words):
        fit_prior(data, **sizes)


@pytest.mark.parametrize("components", [1, 4])
def test_a_file_holds_the_prior_to_the_last_bit(tmp_path, components):
    prior = replace(fit_prior(clustered(), components, 8, 2, data="clusters"), curve=CURVE)
    path = save_prior(prior, tmp_path / "prior.safetensors")
    back = load_prior(path)
    assert (back.facts, back.curve, back.shape) == (prior.facts, prior.curve, prior.shape)
    x = torch.randn(3, 40)
    assert torch.equal(back.denoise(x, 0.7), prior.denoise(x, 0.7))
    with pytest.raises(OutputError, match="exists already"):
        save_prior(prior, path)


def test_files_that_hold_no_prior_are_refused(tmp_path):
    (tmp_path / "text").write_text("no")
    for name in ("text", "nothing"):
        with pytest.raises(PriorError, match=name):
            load_prior(tmp_path / name)
    with pytest.raises(PriorError, match="DenoiserPrior is not kept in files"):
        save_prior(DenoiserPrior(GaussianMixture(torch.zeros(1, 2)), shape=(2,)), tmp_path / "x.safetensors")


def test_the_gain_of_the_exact_denoiser(generator):
    """On two far clusters the exact denoiser beats one Gaussian where they are told apart, and not far out."""
    means = torch.tensor([[-3.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    model = GaussianMixture(means, 0.2)
    x = means[torch.arange(4000) % 2] + 0.2 * torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    curve = gain(model, fit_prior(x, 1, 2), x[:1000], (0.3, 1.0, 3.0, 30.0))
    assert curve.gains[0] < 0.7
    assert curve.gains[-1] == pytest.approx(1.0, abs=0.01)
    assert start_for(curve, 1) < start_for(curve, 5)
    with pytest.raises(PriorError, match=r"\(0\)"):
        gain(model, fit_prior(x, 1, 2), x[:0])
    with pytest.raises(PriorError, match=r"\[\]"):
        gain(model, fit_prior(x, 1, 2), x, (1e9,))


@pytest.mark.parametrize("components, directions, rank", [(4, 64, 32), (4, 40, 16), (4, 20, 10), (30, 64, 16)])
def test_rank_follows_from_directions_and_pictures(components, directions, rank):
    """32 of 64 directions, but not where components have fewer than 100 pictures."""
    assert fit_prior(clustered(d=80), components, directions).rank == rank


def test_few_steps_start_low_where_the_prior_is_good():
    """N = 1 and 2 no higher than 0.75, or a gain of 0.6, N = 3 than 1.5, or 0.7; more by the gain alone."""
    ratios = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
    good = GainCurve(ratios, (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 1.0), 256, "")
    assert [start_for(good, n) for n in (1, 2)] == pytest.approx([3.2, 3.2])
    assert start_for(good, 3) == pytest.approx(3.2 * 2**0.25)
    better = replace(good, gains=(0.5, 0.6, 0.7, 0.75, 0.79, 0.85, 1.0))
    assert [start_for(better, n) for n in (1, 2, 3)] == pytest.approx([0.75, 0.75, 1.5])
    assert start_for(better, 4) == pytest.approx(better.crossing(0.92))
    low = replace(good, gains=(0.8, 0.87, 0.92, 0.95, 1.0, 1.0, 1.0))
    assert [start_for(low, n) for n in (1, 2, 3, 4, 9)] == pytest.approx([0.1, 0.1, 0.2, 0.4, 0.8])


def test_starts_are_where_the_running_maximum_crosses():
    assert CURVE.crossing(0.8) == pytest.approx(1.0)
    assert CURVE.crossing(0.7) == pytest.approx(math.sqrt(0.5))
    assert CURVE.crossing(0.9) == pytest.approx(2 * math.sqrt(2))
    assert CURVE.crossing(0.5) == 0.5
    assert CURVE.crossing(1.1) == 4.0


@pytest.mark.parametrize(
    "steps, last, rho", [(1, 0.12, 1.5), (2, 0.12, 1.5), (3, 0.1, 1.5), (5, 0.08, 1.5), (20, 0.08, 3)]
)
def test_grids_of_few_steps(steps, last, rho):
    grid = few_step_grid(VPSDE(), steps, 2.0)
    ratios = VPSDE().ratio(grid.times)
    assert (grid.steps, float(ratios[0]), grid.times[-1]) == (steps, pytest.approx(2.0), 0)
    assert steps == 1 or float(ratios[-2]) == pytest.approx(last)
    assert f"rho={rho}" in grid.name
