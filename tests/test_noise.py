from __future__ import annotations

import itertools

import pytest
import torch

from proxdm.noise import GeneratorNoise, GivenNoise, SeededNoise, sample_generator


def test_generator_noise_draws_in_order():
    noise = GeneratorNoise((3, 2), torch.Generator().manual_seed(5))
    reference = torch.Generator().manual_seed(5)
    for drawn in (noise.initial(), noise.step(1.0, 0.5), noise.step(0.5, 0.0)):
        assert torch.equal(drawn, torch.randn(3, 2, generator=reference))


def test_generator_noise_uses_the_global_generator_by_default():
    torch.manual_seed(3)
    drawn = GeneratorNoise((4,)).initial()
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.randn(4))


def test_seeded_noise_does_not_depend_on_the_batch():
    whole = SeededNoise(7, range(10), (3, 4))
    parts = [SeededNoise(7, part, (3, 4)) for part in (range(0, 1), range(1, 7), range(7, 10))]
    for _ in range(3):
        assert torch.equal(whole.initial(), torch.cat([part.initial() for part in parts]))
        assert torch.equal(whole.step(1.0, 0.5), torch.cat([part.step(1.0, 0.5) for part in parts]))


def test_seeded_noise_is_standard_normal_and_uncorrelated_across_samples_and_steps():
    noise = SeededNoise(0, range(2000), (8,), dtype=torch.float64)
    columns = torch.cat([noise.initial(), noise.step(1.0, 0.5)], dim=1)
    assert columns.mean().abs() < 4 / 32000**0.5
    correlation = torch.corrcoef(columns.T) - torch.eye(16, dtype=torch.float64)
    assert correlation.abs().max() < 5 / 2000**0.5
    neighbours = (columns[1:] * columns[:-1]).mean()
    assert neighbours.abs() < 4 / 32000**0.5


def test_distinct_seeds_and_indices_give_distinct_numbers():
    pairs = itertools.product(range(20), range(20))
    assert len({float(torch.randn((), generator=sample_generator(*pair))) for pair in pairs}) == 400


@pytest.mark.parametrize("seed, index", [(-1, 0), (0, -1)])
def test_negative_seeds(seed, index):
    with pytest.raises(ValueError, match="must both be at least 0"):
        sample_generator(seed, index)


def test_given_noise():
    tensors = [torch.full((2, 3), float(i)) for i in range(3)]
    noise = GivenNoise(tensors[0], tensors[1:])
    assert noise.initial() is tensors[0]
    assert noise.step(1.0, 0.5) is tensors[1]
    assert noise.step(0.5, 0.2) is tensors[2]
    with pytest.raises(ValueError, match=r"no noise tensor is left for the step from t = 0.2 to s = 0"):
        noise.step(0.2, 0.0)
    with pytest.raises(ValueError, match=r"has shape \(3, 2\), x_T has \(2, 3\)"):
        GivenNoise(tensors[0], [torch.zeros(3, 2)]).step(1.0, 0.5)
