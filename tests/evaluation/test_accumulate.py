"""What is kept, saved and put together again."""

from __future__ import annotations

import pytest
import torch

from proxdm.evaluation.accumulate import KINDS, Accumulator, Limits

LIMITS = Limits(size=4, dim=3, features=10, pixels=6)


def chunk_of(number, count=4):
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (count, 1, 2, 2), dtype=torch.uint8, generator=generator)
    return pixels, torch.randn(count, 3, generator=generator)


def collect(numbers, limits=LIMITS, *, folder=None):
    found = Accumulator(limits)
    for number in numbers:
        found.add(number, *chunk_of(number), nfe=5)
        found.seconds += 1.0
        if folder is not None:
            found.save(folder)
    return found


def assert_equal(first, second):
    assert sorted(first.chunks) == sorted(second.chunks)
    assert (first.nfe, first.seconds) == (second.nfe, second.seconds)
    if second.moments is not None and second.chunks:
        torch.testing.assert_close(first.moments.mean, second.moments.mean, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(first.moments.cov, second.moments.cov, rtol=1e-13, atol=1e-13)
    assert all(torch.equal(first.kept(kind), second.kept(kind)) for kind in KINDS)


def test_the_first_samples_are_kept_in_order_and_no_more():
    found = collect([2, 0, 3, 1, *range(4, 20)])
    features, pixels = (torch.cat([chunk_of(number)[i] for number in range(20)]) for i in (1, 0))
    assert torch.equal(found.kept("features"), features[:10])
    assert torch.equal(found.kept("pixels"), pixels[:6])
    assert sum(len(rows) for rows in found.rows["pixels"].values()) == 6, "memory does not grow with the samples"
    assert found.moments.count == 80
    torch.testing.assert_close(found.moments.mean, features.double().mean(0))


def test_parts_merge_to_the_whole():
    found = collect([0, 3])
    found.merge(collect([1, 2]))
    assert_equal(found, collect(range(4)))


@pytest.mark.parametrize("limits", [LIMITS, Limits(4, 0, 0, 6), Limits(4, 3, 0, 0)])
def test_saved_by_two_processes_in_two_runs_and_loaded_by_one(tmp_path, limits):
    for numbers in ([0, 2], [1]):
        collect(numbers, limits, folder=tmp_path)
    found = Accumulator.load(tmp_path, limits)
    assert_equal(found, collect(range(3), limits))
    collect([4, 6], limits, folder=tmp_path)
    for number in (3, 5):  # a sum beside its parts counts once
        found.add(number, *chunk_of(number), nfe=5)
        found.seconds += 1.0
        found.save(tmp_path)
    assert_equal(Accumulator.load(tmp_path, limits), collect(range(7), limits))


@pytest.mark.parametrize("torn, left", [("moments-2.safetensors", [0, 1]), ("kept-*", [])])
def test_moments_and_what_was_kept_count_together_only_and_the_rest_is_dropped(tmp_path, torn, left):
    assert_equal(Accumulator.load(tmp_path / "none", LIMITS), collect([]))
    for numbers in ([0, 1], [2]):
        collect(numbers, folder=tmp_path)
    for path in tmp_path.glob(torn):
        path.write_bytes(b"torn")
    assert_equal(Accumulator.load(tmp_path, LIMITS), collect(left))
    assert any(tmp_path.iterdir()) == bool(left)
