"""Wasserstein distances: closed forms, an independent solver, metric axioms, every documented error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from proxdm.errors import NonFiniteError
from proxdm.metrics import wasserstein as module
from proxdm.metrics.wasserstein import TransportError, sliced_wasserstein, w1, w2, wasserstein


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_small_distances_keep_their_digits(rng):
    """The cost is taken from differences: 1e-9 beside coordinates of 1e3 would drown in |x|^2 + |y|^2 - 2 x.y."""
    x = 1e3 + rng.normal(size=(20, 2))
    y = x.copy()
    y[:, 0] += 1e-9
    assert w2(x, y) == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_one_dimension_is_a_sort(rng, order):
    x, y = rng.normal(size=70), rng.exponential(size=70)
    expected = (np.abs(np.sort(x) - np.sort(y)) ** order).mean() ** (1 / order)
    assert wasserstein(x[:, None], y[:, None], order) == pytest.approx(expected, rel=1e-12)
    assert sliced_wasserstein(x[:, None], y[:, None], order, projections=3) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
def test_agrees_with_the_assignment_problem(rng, order):
    x, y = rng.normal(size=(90, 4)), rng.normal(size=(90, 4)) * 0.5 + 1
    cost = np.linalg.norm(x[:, None] - y[None], axis=-1) ** order
    rows, columns = linear_sum_assignment(cost)
    assert wasserstein(x, y, order) == pytest.approx(cost[rows, columns].mean() ** (1 / order), rel=1e-12)


def test_weights_are_scipys_in_one_dimension_and_duplicated_points_in_two(rng):
    x, y, a, b = rng.normal(size=30), rng.normal(size=17), rng.random(30), rng.random(17)
    expected = wasserstein_distance(x, y, a, b)
    assert w1(x[:, None], y[:, None], x_weights=a, y_weights=b) == pytest.approx(expected, rel=1e-10)
    x, y, counts = rng.normal(size=(12, 2)), rng.normal(size=(9, 2)), rng.integers(0, 4, 12)
    assert w2(x, y, x_weights=counts) == pytest.approx(w2(np.repeat(x, counts, axis=0), y), rel=1e-10)


@pytest.mark.parametrize("distance", [w1, w2, sliced_wasserstein])
def test_metric_axioms(rng, distance):
    x, y, z = (rng.normal(size=(n, 2)) for n in (25, 31, 18))
    assert distance(x, x) == pytest.approx(0, abs=1e-7)
    assert distance(x, y) > 0
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-10)
    assert distance(x, z) <= distance(x, y) + distance(y, z)
    assert distance(x, y) == pytest.approx(distance(rng.permutation(x), rng.permutation(y)), rel=1e-10)
    assert distance(3 * x, 3 * y) == pytest.approx(3 * distance(x, y), rel=1e-10)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("projected", [module.PROJECTED, 200, 1])
def test_sliced_is_the_mean_over_its_directions_in_any_chunks(rng, monkeypatch, projected, order):
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    theta = np.random.default_rng(5).standard_normal((11, 3, 1))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    expected = np.mean([wasserstein(x @ t, y @ t, order) ** order for t in theta]) ** (1 / order)
    monkeypatch.setattr(module, "PROJECTED", projected)
    assert sliced_wasserstein(x, y, order, projections=11, seed=5) == pytest.approx(expected, rel=1e-10)
    assert sliced_wasserstein(x, y, order, projections=11, seed=4) != pytest.approx(expected, rel=1e-3)


def test_tensors_arrays_lists_and_shapes_are_the_same(generator):
    x, y = torch.randn(10, 1, 2, 3, generator=generator), torch.randn(8, 1, 2, 3, generator=generator)
    expected = w2(x.double().numpy().reshape(10, 6), y.double().numpy().reshape(8, 6))
    assert w2(x, y) == expected
    assert w2(x.requires_grad_(), y.tolist(), y_weights=torch.ones(8)) == pytest.approx(expected, rel=1e-12)
    assert w2(torch.randn(3, 2).bfloat16(), torch.randn(3, 2)) > 0


@pytest.mark.parametrize("distance", [w1, w2, sliced_wasserstein])
@pytest.mark.parametrize(
    "x, y, error, message",
    [
        (np.zeros((4, 2)), np.zeros((4, 3)), ValueError, "dimension 2 and y of dimension 3"),
        (np.zeros((0, 2)), np.zeros((4, 2)), ValueError, r"x has shape \(0, 2\)"),
        (np.zeros((4, 2)), 3.0, ValueError, r"y has shape \(\)"),
        (np.zeros((3, 1)), [[np.nan], [0], [np.inf]], NonFiniteError, "2 of the 3 points of y"),
    ],
)
def test_errors_of_points(distance, x, y, error, message):
    with pytest.raises(error, match=message):
        distance(x, y)


@pytest.mark.parametrize(
    "weights, error, message",
    [
        ([1, 1, 1], ValueError, r"x of shape \(3,\) do not fit 4 points"),
        ([1, 1, np.nan, 1], NonFiniteError, "1 of the 4 weights of x"),
        ([1, 1, 1, -1], ValueError, "x from -1 on"),
        ([0, 0, 0, 0], ValueError, "not all 0"),
    ],
)
def test_errors_of_weights(weights, error, message):
    with pytest.raises(error, match=message):
        w2(np.zeros((4, 2)), np.zeros((4, 2)), x_weights=weights)


def test_settings_out_of_range():
    x = np.zeros((10_001, 1))
    for distance in (wasserstein, sliced_wasserstein):
        with pytest.raises(ValueError, match="order = 3 must be 1 or 2"):
            distance(x, x, 3)
    with pytest.raises(ValueError, match="projections = 0 must be at least 1"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(ValueError, match=r"10001 and 10001 points needs 100,020,001 costs.*sliced_wasserstein"):
        w2(x, x)
    assert sliced_wasserstein(x, x + 1, projections=2) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:numItermax")
def test_an_unfinished_solver_is_an_error(rng, monkeypatch):
    monkeypatch.setattr(module, "ITERATIONS", 5)
    with pytest.raises(TransportError, match=r"not optimal after 5 pivots"):
        w2(rng.normal(size=(80, 2)), rng.normal(size=(70, 2)))
