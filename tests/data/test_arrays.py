"""Arrays as images: the rules of layout and range, and every refusal."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from proxdm.data import images
from proxdm.data.arrays import read_array
from proxdm.errors import DataError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def saved(path, array):
    (np.save if path.suffix == ".npy" else np.savez)(path, array)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    "shape, to_first",
    [
        ((4, 5, 6), lambda x: x[:, None]),
        ((4, 5, 6, 3), lambda x: x.transpose(0, 3, 1, 2)),
        ((4, 5, 6, 1), lambda x: x.transpose(0, 3, 1, 2)),
        ((4, 3, 5, 6), lambda x: x),
        ((4, 1, 5, 6), lambda x: x),
    ],
)
def test_bytes_in_every_layout(tmp_path, rng, suffix, shape, to_first):
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    data = read_array(saved(tmp_path / f"x{suffix}", array))
    assert data.images.dtype == torch.uint8
    np.testing.assert_array_equal(data.images.numpy(), to_first(array))
    assert data.memory_mapped == (suffix == ".npy")
    assert data.name == "x"
    assert "x".join(map(str, shape)) in data.preprocessing


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_ranges_of_floating_point(tmp_path, rng, dtype, suffix):
    signed = (rng.random((4, 5, 6)) * 2 - 1).astype(dtype)
    got = read_array(saved(tmp_path / f"signed{suffix}", signed))
    np.testing.assert_array_equal(got.images[:, 0].numpy(), signed.astype(np.float32))
    assert got.memory_mapped == (suffix == ".npy" and dtype is np.float32)
    unit = rng.random((4, 5, 6)).astype(dtype)
    got = read_array(saved(tmp_path / f"unit{suffix}", unit))
    np.testing.assert_allclose(got.images[:, 0].numpy(), unit.astype(np.float64) * 2 - 1, atol=2e-7)
    assert not got.memory_mapped
    assert "scaled from [0, 1]" in got.preprocessing


def test_range_said_outright(tmp_path):
    path = saved(tmp_path / "x.npy", np.full((2, 3, 3), 0.5, np.float32))
    assert (read_array(path, values="signed").images == 0.5).all()
    assert (read_array(path, values="unit").images == 0).all()
    assert read_array(path, values="raw").latent
    assert not read_array(path).latent


def test_the_file_is_never_written_to(tmp_path):
    path = saved(tmp_path / "x.npy", np.zeros((2, 3, 3), np.uint8))
    before = path.read_bytes()
    read_array(path).images.fill_(7)
    assert path.read_bytes() == before


def test_layout_said_outright(tmp_path, rng):
    array = rng.integers(0, 256, (2, 3, 5, 3), dtype=np.uint8)
    path = saved(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=r"has shape 2x3x5x3: where are its channels"):
        read_array(path)
    np.testing.assert_array_equal(read_array(path, layout="channels-first").images.numpy(), array)
    last = read_array(path, layout="channels-last").images.numpy()
    np.testing.assert_array_equal(last, array.transpose(0, 3, 1, 2))


def test_named_array_of_an_archive(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, labels=np.arange(2), images=np.zeros((2, 3, 3), np.uint8))
    assert len(read_array(path)) == 2
    np.savez(path, labels=np.arange(2), pictures=np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(DataError, match=r"holds the arrays labels, pictures; keep one, or call it images or samples"):
        read_array(path)


@pytest.mark.parametrize(
    "array, options, message",
    [
        (np.zeros((3, 3), np.uint8), {}, "has shape 3x3; images are (n, H, W)"),
        (np.uint8(3), {}, "has shape (); images are"),
        (np.zeros((0, 3, 3), np.uint8), {}, "holds no samples: its shape is 0x3x3"),
        (np.zeros((2, 5, 6, 7), np.uint8), {}, "where are its channels? Give layout=channels-first or -last"),
        (np.zeros((2, 5, 6), np.int32), {}, "is of type int32; images are uint8"),
        (np.full((2, 5, 6), 200.0), {}, "is floating point from 200 to 200; images are in [0, 1] or [-1, 1]"),
        (np.full((2, 5, 6), -0.5), {"values": "unit"}, "reaches from -0.5 to -0.5, beyond values = 'unit': [0, 1]"),
        (np.full((2, 5, 6), 1.5), {"values": "signed"}, "reaches from 1.5 to 1.5, beyond values = 'signed'"),
        (np.zeros((2, 5, 6), np.uint8), {"values": "signed"}, "is uint8, in [0, 255]; values = 'signed' is for"),
        (np.array([[[0.1]], [[np.nan]]]), {}, "holds NaN or infinite values in images 0 to 1"),
        (np.array([[[0.1]], [[np.inf]]]), {"values": "raw"}, "holds NaN or infinite values"),
        (np.array([["a"]], object), {}, "it holds Python objects, not numbers; statistics for a distance are an .npz"),
        (np.zeros((16, 16, 3), np.uint8), {}, "has shape 16x16x3: one colour picture, or grey ones that are 3 wide?"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_refusals(tmp_path, array, options, message, suffix):
    path = saved(tmp_path / f"x{suffix}", array)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read_array(path, **options)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_nan_in_a_later_chunk_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("proxdm.data.arrays._CHUNK_BYTES", 8)
    array = np.full((5, 1, 2), 0.5, np.float32)
    array[3, 0, 1] = np.nan
    with pytest.raises(DataError, match="in images 3 to 3"):
        read_array(saved(tmp_path / "x.npy", array))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_broken_files(tmp_path, suffix):
    path = saved(tmp_path / f"x{suffix}", np.zeros((9, 30, 30), np.uint8))
    for content in (path.read_bytes()[:400], b"", b"junk" * 50):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as an array"):
            read_array(path)
    path.unlink()
    with pytest.raises(DataError, match="there is no file"):
        read_array(path)


def test_memory_limit_applies_only_to_what_is_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MEMORY_LIMIT", 100)
    big = np.full((9, 4, 4), -0.5, np.float32)
    assert len(read_array(saved(tmp_path / "mapped.npy", big))) == 9
    with pytest.raises(DataError, match="9 samples of 1x4x4 need"):
        read_array(saved(tmp_path / "wide.npy", big.astype(np.float64)))
    with pytest.raises(DataError, match="9 samples of 1x4x4 need"):
        read_array(saved(tmp_path / "unit.npy", -big))
