"""What is kept, saved and put together again."""

from __future__ import annotations

import pytest
import torch

from proxdm.evaluation.collected import Collected, Savings, Wanted, share
from proxdm.runtime.processes import Place

WANTED = Wanted(chunk=4, dim=3, features=10, pixels=6)
ALONE = Place(torch.device("cpu"))


def chunk_of(number, count=4):
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (count, 1, 2, 2), dtype=torch.uint8, generator=generator)
    return pixels, torch.randn(count, 3, generator=generator)


def collect(numbers, wanted=WANTED):
    found = Collected(wanted)
    for number in numbers:
        found.add(number, *chunk_of(number), nfe=5)
    found.seconds = float(len(found.chunks))
    return found


def equal(first, second):
    torch.testing.assert_close(first.moments.mean, second.moments.mean, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(first.moments.cov, second.moments.cov, rtol=1e-13, atol=1e-13)
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.pixels, second.pixels)
    assert first.nfe == second.nfe


def test_the_first_samples_are_kept_in_order():
    total = collect([2, 0, 3, 1]).total(ALONE)
    features = torch.cat([chunk_of(number)[1] for number in range(4)])
    pixels = torch.cat([chunk_of(number)[0] for number in range(4)])
    assert torch.equal(total.features, features[:10])
    assert torch.equal(total.pixels, pixels[:6])
    assert total.moments.count == 16
    torch.testing.assert_close(total.moments.mean, features.double().mean(0))


def test_parts_merge_to_the_whole():
    a, b = collect([0, 3]), collect([1, 2])
    a.merge(b)
    equal(a.total(ALONE), collect(range(4)).total(ALONE))
    assert (a.chunks, a.seconds) == ([0, 3, 1, 2], 4.0)


@pytest.mark.parametrize("wanted", [WANTED, Wanted(4, 0, 0, 6), Wanted(4, 3, 0, 0)])
def test_saved_in_batches_by_two_and_loaded_by_one(tmp_path, wanted):
    for rank, numbers in enumerate([[0, 2, 4], [1, 3]]):
        part, savings = Collected(wanted), Savings(tmp_path / "row", wanted)
        for number in numbers:
            part.add(number, *chunk_of(number), nfe=5)
            savings.save(part, rank)
    found = Savings(tmp_path / "row", wanted).load()
    assert sorted(found.chunks) == [0, 1, 2, 3, 4]
    again = Savings(tmp_path / "row", wanted).load()  # now the part of one process
    assert [path.name for path in (tmp_path / "row").glob("moments*")] == ["moments-0.safetensors"]
    expected = collect(range(5), wanted).total(ALONE)
    for total in (found.total(ALONE), again.total(ALONE)):
        if wanted.dim:
            equal(total, expected)
        assert torch.equal(total.pixels, expected.pixels)
    Savings(tmp_path / "row", wanted).remove()
    assert not any(tmp_path.parent.glob("row"))


def test_a_sum_beside_its_parts_counts_once(tmp_path):
    """As an interruption leaves it that came between writing the sum and removing the parts."""
    for rank, numbers in enumerate([[0, 1, 2], [2], [1]]):
        Savings(tmp_path, WANTED).save(collect(numbers), rank)
    found = Savings(tmp_path, WANTED).load()
    assert sorted(found.chunks) == [0, 1, 2]
    equal(found.total(ALONE), collect(range(3)).total(ALONE))


def test_what_was_kept_without_its_moments_does_not_count(tmp_path):
    Savings(tmp_path, WANTED).save(collect([0, 1]), 0)
    lonely = collect([2])
    Savings(tmp_path, WANTED).save(lonely, 1)
    (tmp_path / "moments-1.safetensors").unlink()
    found = Savings(tmp_path, WANTED).load()
    assert found.chunks == [0, 1]
    assert set(found.kept["features"]) == {0, 1}


def test_moments_without_what_was_kept_are_dropped(tmp_path):
    Savings(tmp_path, WANTED).save(collect([0, 1]), 0)
    for path in tmp_path.glob("kept-*"):
        path.write_bytes(b"torn")
    assert Savings(tmp_path, WANTED).load().chunks == []
    assert not any(tmp_path.iterdir())


def test_an_empty_folder_is_an_empty_start(tmp_path):
    assert Savings(tmp_path / "none", WANTED).load().chunks == []
    assert Savings(tmp_path, WANTED).load().chunks == []


def test_shares_are_disjoint_and_even():
    parts = [share(range(11), rank, 3) for rank in range(3)]
    assert sorted(number for part in parts for number in part) == list(range(11))
    assert [len(part) for part in parts] == [4, 4, 3]
