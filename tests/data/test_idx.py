"""The IDX reader: equality with torchvision's, and every way in which a file can be broken."""

from __future__ import annotations

import gzip
import re
import struct

import numpy as np
import pytest
import torch

from proxdm.data.errors import DataError
from proxdm.data.known import read_idx


def write_idx(path, array, *, kind=8, compress=False):
    content = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)
    return path


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("compress", [False, True])
def test_round_trip(tmp_path, pixels, compress):
    array = read_idx(write_idx(tmp_path / "images", pixels, compress=compress), 3)
    np.testing.assert_array_equal(array, pixels)
    array += 1  # a private, writable copy


def test_equals_torchvision_on_mnist(shared, tmp_path):
    from torchvision.datasets.mnist import read_image_file, read_label_file

    for name, reader in (("t10k-images-idx3-ubyte", read_image_file), ("t10k-labels-idx1-ubyte", read_label_file)):
        packed = shared / "data" / "mnist-t10k" / f"{name}.gz"
        plain = tmp_path / name
        plain.write_bytes(gzip.decompress(packed.read_bytes()))
        theirs = reader(str(plain)).to(torch.uint8).numpy()
        np.testing.assert_array_equal(read_idx(packed, theirs.ndim), theirs)
        np.testing.assert_array_equal(read_idx(plain, theirs.ndim), theirs)
        assert len(theirs) == 10_000


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda good: good[:-1], "should hold 60 bytes of shape 5x4x3 by its header, but holds 59"),
        (lambda good: good + b"x", "but holds 61"),
        (lambda good: b"", "it starts with nothing"),
        (lambda good: b"\x89PNG" + good[4:], "it starts with 89 50 4e 47"),
        (lambda good: good[:3] + b"\0", "it starts with 00 00 08 00, not 00 00 08 03"),
        (lambda good: good[:2] + b"\x0d" + good[3:], "it starts with 00 00 0d 03"),
        (lambda good: good[:9], "but holds -7"),
        (lambda good: gzip.compress(good)[:-12], "is a broken gzip file"),
        (lambda good: gzip.compress(good)[:20] + b"junk" * 9, "is a broken gzip file"),
    ],
)
def test_broken_files(tmp_path, pixels, damage, message):
    path = write_idx(tmp_path / "images", pixels)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
