"""The Fréchet distance against closed forms and SciPy's matrix root; moments against NumPy's."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.linalg
import torch
from pytorch_fid import fid_score

from proxdm.errors import NonFiniteError
from proxdm.metrics.frechet import MomentAccumulator, fid_infinity, frechet_distance


def rows(seed: int, count: int, dim: int, shift: float = 0.0) -> np.ndarray:
    """Correlated features whose scales fall over three orders of magnitude."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dim, dim)) / np.sqrt(dim)
    return rng.standard_normal((count, dim)) * np.geomspace(1, 1e-3, dim) @ mixing + shift


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(0), np.cov(features, rowvar=False)


# The distance


def test_commuting_covariances_have_a_closed_form():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    a, b, mu1, mu2 = rng.random(6), rng.random(6), rng.standard_normal(6), rng.standard_normal(6)
    value = frechet_distance(mu1, basis * a @ basis.T, mu2, basis * b @ basis.T)
    assert value == pytest.approx(np.sum((mu1 - mu2) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-11)
    constant = frechet_distance(np.ones(3), np.zeros((3, 3)), np.zeros(3), np.diag([1.0, 2.0, 3.0]))
    assert constant == pytest.approx(3 + 6)


@pytest.mark.parametrize("count", [30, 500], ids=["fewer samples than dimensions", "full rank"])
def test_distance_to_itself_is_zero(count):
    mu, cov = moments(rows(3, count, 64))
    assert 0 <= frechet_distance(mu, cov, mu, cov) < 1e-12 * np.trace(cov)


def test_rank_deficient_equals_the_singular_values_of_the_samples():
    """With centred samples A, B as rows, the trace of the root is the nuclear norm of `A B^T`, without covariances."""
    x, y = rows(8, 40, 128), rows(9, 50, 128, shift=0.02)
    a, b = ((features - features.mean(0)) / np.sqrt(len(features) - 1) for features in (x, y))
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.sum(a**2) + np.sum(b**2) - 2 * overlap
    assert frechet_distance(*moments(x), *moments(y)) == pytest.approx(expected, rel=1e-10)


def test_ill_conditioned_covariances_fall_back_to_singular_values():
    """Scales over eight orders of magnitude: a diagonal closed form in a rotated basis."""
    rng = np.random.default_rng(10)
    basis = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    a, b = np.geomspace(1, 1e-8, 200), np.geomspace(1, 1e-8, 200)[::-1]
    value = frechet_distance(np.zeros(200), basis * a @ basis.T, np.zeros(200), basis * b @ basis.T)
    assert value == pytest.approx(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-7)


def test_equals_pytorch_fid_either_way_round_and_of_tensors():
    first, second = moments(rows(14, 400, 64)), moments(rows(15, 300, 64, shift=0.02))
    try:
        expected = float(fid_score.calculate_frechet_distance(*first, *second))
    except TypeError:  # SciPy (1.18) no longer has the call it makes: the formula it computes
        root = np.real(scipy.linalg.sqrtm(first[1] @ second[1]))
        expected = np.sum((first[0] - second[0]) ** 2) + np.trace(first[1] + second[1] - 2 * root)
    assert frechet_distance(*first, *second) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(*map(torch.from_numpy, (*second, *first))) == pytest.approx(expected, rel=1e-8)


# Errors of the distance


@pytest.mark.parametrize(
    "which, mean, covariance, error, message",
    [
        ("first", np.zeros(3), np.eye(2), ValueError, r"is \(3,\) and \(2, 2\)"),
        ("second", np.array([0, np.nan]), np.eye(2), NonFiniteError, "contains NaN"),
        ("first", np.zeros(2), np.array([[1.0, 1.0], [0.0, 1.0]]), ValueError, "differs from its transpose by 1"),
        ("first", np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), ValueError, "not positive semi-definite"),
        ("second", np.zeros(2), -np.eye(2), ValueError, "not positive semi-definite"),
    ],
)
def test_what_is_no_gaussian(which, mean, covariance, error, message):
    good, bad = (np.zeros(2), np.eye(2)), (mean, covariance)
    with pytest.raises(error, match=f"the {which} .*{message}"):
        frechet_distance(*bad, *good) if which == "first" else frechet_distance(*good, *bad)


# Moments


def moments_of(*batches):
    accumulator = MomentAccumulator(batches[0].shape[1])
    for batch in batches:
        accumulator.add(batch)
    return accumulator


@pytest.mark.parametrize("size", [1, 7, 300])
def test_moments_are_numpys_and_do_not_depend_on_the_batches_however_large_the_mean(size, generator):
    """A mean 1e6 times the spread: sums of squares would keep four digits."""
    features = torch.randn(300, 5, generator=generator, dtype=torch.float64) + 1e6
    accumulator = moments_of(*features.split(size))
    np.testing.assert_allclose(accumulator.mean, features.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(accumulator.cov, np.cov(features.numpy() - 1e6, rowvar=False), atol=1e-10)


def test_moments_merge_across_processes(generator):
    """Three parts, one of them empty, sent as tensors: the moments of the whole."""
    features = torch.randn(100, 4, generator=generator)
    parts = [moments_of(features[:30]), MomentAccumulator(4), moments_of(features[30:])]
    merged = MomentAccumulator.from_state(parts[0].state())
    for part in parts[1:]:
        merged.merge(MomentAccumulator.from_state(part.state()))
    whole = moments_of(features)
    assert whole.mean.dtype == whole.cov.dtype == torch.float64
    assert torch.equal(whole.cov, whole.cov.T)
    assert merged.count == 100
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(merged.cov, whole.cov, rtol=1e-12, atol=1e-14)
    assert parts[0].count == 30


def test_errors_of_moments():
    accumulator = moments_of(torch.ones(1, 2))
    with pytest.raises(ValueError, match="needs 2 samples at least, there are 1"):
        _ = accumulator.cov
    for wrong in (lambda: accumulator.add(torch.ones(1, 3)), lambda: accumulator.merge(MomentAccumulator(3))):
        with pytest.raises(ValueError, match="dimension 3 do not fit moments of dimension 2"):
            wrong()
    for bad in (torch.ones(2), torch.ones(2, 2, dtype=torch.uint8), torch.ones(0, 2)):
        with pytest.raises(ValueError, match=re.escape(f"{bad.dtype} of shape {tuple(bad.shape)}")):
            accumulator.add(bad)
    with pytest.raises(NonFiniteError, match="1 of 2 feature vectors contain NaN"):
        accumulator.add(torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]))
    assert accumulator.count == 1  # nothing of these


# Extrapolation


def test_extrapolation_removes_the_bias(generator):
    """Both sets are N(0, I) in 20 dimensions: the true distance is 0, and about 20/n at n samples."""
    features = torch.randn(2000, 20, generator=generator, dtype=torch.float64)
    result = fid_infinity(features, torch.zeros(20), torch.eye(20), points=8, smallest=200)
    assert (result.sizes[0], result.sizes[-1]) == (200, 2000)
    assert result.slope > 0
    assert abs(result.value) < 0.25 * result.distances[-1]
    # the last distance uses all samples
    expected = frechet_distance(*moments(features.numpy()), np.zeros(20), np.eye(20))
    assert result.distances[-1] == pytest.approx(expected, rel=1e-9)


def test_extrapolation_is_the_least_squares_line(generator):
    result = fid_infinity(torch.randn(100, 3, generator=generator), torch.zeros(3), torch.eye(3), points=5, smallest=20)
    n = np.array(result.sizes, dtype=float)
    fit, covariance = np.polyfit(1 / n, result.distances, 1, cov=True)
    assert (result.slope, result.value) == pytest.approx(tuple(fit), rel=1e-8)
    assert result.standard_error == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-8)
    features = torch.randn(60, 3, generator=generator)
    same, again, other = (
        fid_infinity(features, np.zeros(3), np.eye(3), points=2, smallest=20, seed=s) for s in (0, 0, 1)
    )
    assert same == again
    assert same.distances[0] != other.distances[0]
    assert same.standard_error == 0


def test_errors_of_the_extrapolation(generator):
    features = torch.randn(60, 3, generator=generator)
    for points, smallest in ((1, 20), (5, 1), (5, 60)):
        with pytest.raises(ValueError, match=f"points = {points} must .* smallest = {smallest} from 2 to below the 60"):
            fid_infinity(features, torch.zeros(3), torch.eye(3), points=points, smallest=smallest)
    with pytest.raises(ValueError, match="dimension 3 and 2 "):
        fid_infinity(features, torch.zeros(2), torch.eye(2), smallest=20)
