"""The maps between bytes and the model's range, and sets of samples."""

from __future__ import annotations

import math

import pytest
import torch

from proxdm.data import images
from proxdm.data.images import ImageData, check_memory, iterate
from proxdm.errors import DataError
from proxdm.pixels import to_model_range, to_uint8


def test_range_maps_are_exact_inverses():
    every = torch.arange(256, dtype=torch.uint8)
    x = to_model_range(every)
    assert x.dtype == torch.float32
    assert x[0] == -1
    assert x[255] == 1
    torch.testing.assert_close(x.double(), torch.arange(256).double() / 127.5 - 1, rtol=0, atol=1e-7)
    assert torch.equal(to_uint8(x), every)
    assert torch.equal(to_uint8(every), every)


def test_to_uint8_rounds_and_clips():
    levels = torch.tensor([0.0, 0.49, 0.51, 254.49, 254.51, 300.0, -7.0])
    assert to_uint8(levels / 127.5 - 1).tolist() == [0, 0, 1, 254, 255, 255, 0]
    assert to_uint8(torch.tensor([math.inf, -math.inf])).tolist() == [255, 0]


def test_conversions_leave_their_argument_alone():
    floats = torch.full((3,), 0.5)
    assert to_uint8(floats).tolist() == [191, 191, 191]
    assert to_model_range(floats).tolist() == [0.5, 0.5, 0.5]
    assert floats.tolist() == [0.5, 0.5, 0.5]


def test_conversion_errors():
    with pytest.raises(DataError, match=r"NaN among the images"):
        to_uint8(torch.tensor([0.0, math.nan]))
    with pytest.raises(DataError, match=r"torch.int64 have no known range"):
        to_model_range(torch.zeros(3, dtype=torch.int64))


def test_iterate_visits_all_in_order(generator):
    data = ImageData(torch.randint(0, 256, (10, 3, 4, 5), dtype=torch.uint8, generator=generator), "random")
    batches = list(iterate(data, 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.equal(to_uint8(torch.cat(batches)), data.images)
    with pytest.raises(DataError, match="batch_size = 0"):
        list(iterate(data, 0))


def test_image_data_checks_and_head():
    pixels = torch.zeros(5, 1, 2, 3, dtype=torch.uint8)
    data = ImageData(pixels, "five", preprocessing="none")
    assert (len(data), data.shape) == (5, (1, 2, 3))
    assert len(data.head(2)) == 2
    assert data.head(2).preprocessing == "none; first 2 of 5"
    assert data.head(None) is data.head(9) is data
    assert ImageData(torch.zeros(5, 7), "vectors").shape == (7,)
    with pytest.raises(DataError, match=r"bad: .*\(5, 2, 3\)"):
        ImageData(pixels[:, 0], "bad")
    with pytest.raises(DataError, match=r"\(0, 1, 2, 3\)"):
        ImageData(pixels[:0], "empty")
    with pytest.raises(DataError, match=r"must be uint8 or float32, got torch.float64"):
        ImageData(pixels.double(), "wide")


def test_memory_limit_names_size_and_remedy(monkeypatch):
    check_memory("big", (1000, 3, 32, 32))
    with pytest.raises(DataError, match=r"big: 1000000 samples of 3x128x256 need 91.6 GiB, the limit is 8 GiB; take a"):
        check_memory("big", (1_000_000, 3, 128, 256))
    monkeypatch.setattr(images, "MEMORY_LIMIT", 100)
    with pytest.raises(DataError, match="need"):
        check_memory("small", (1, 1, 10, 3), 4)
