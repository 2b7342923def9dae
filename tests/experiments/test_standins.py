"""Stand-ins for data sets: read by the code that reads the real ones, always the same, never made twice."""

from __future__ import annotations

import sys

import pytest
import torch

from proxdm.data import DataConfig, load_data
from proxdm.data.latents import read_stamp
from proxdm.data.vae import load_vae
from proxdm.errors import DataError
from proxdm.experiments.standins import FEATURES_FILE, IMAGES, VAE_FOLDER, make_standins
from proxdm.metrics.features import load_extractor


@pytest.mark.parametrize("name, shape", [("mnist", (1, 32, 32)), ("cifar10", (3, 32, 32))])
def test_pictures(name, shape, tmp_path):
    for folder in ("a", "b"):
        make_standins(name, tmp_path / folder)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    make_standins(name, tmp_path / "a")  # nothing is made twice
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    data, again = (load_data(DataConfig(name, root=str(tmp_path / folder))) for folder in ("a", "b"))
    assert (data.shape, len(data), data.name) == (shape, IMAGES, name)
    assert torch.equal(data.images, again.images)
    features = load_extractor(tmp_path / "a" / FEATURES_FILE, shape)
    taken = features(data.images)
    assert taken.shape == (IMAGES, 3)
    expected = (data.images.float() / 127.5 - 1).mean((2, 3)).expand(-1, 3)
    torch.testing.assert_close(taken, expected)


@pytest.mark.slow
def test_latents_go_through_an_autoencoder(tmp_path):
    pytest.importorskip("diffusers", exc_type=ImportError)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    make_standins("celebahq-latents", tmp_path)
    assert torch.equal(torch.rand(3), expected)
    data = load_data(DataConfig("celebahq-latents", root=str(tmp_path)))
    assert (data.shape, len(data), data.latent) == ((4, 32, 32), IMAGES, True)
    coder = load_vae(str(tmp_path / VAE_FOLDER))
    assert read_stamp(tmp_path / "celebahq-latents.npy").weights == coder.weights_digest()
    assert coder.decode(data.images[:2].clone()).shape == (2, 3, 64, 64)


def test_latents_need_diffusers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(DataError, match="VAE latents need diffusers"):
        make_standins("celebahq-latents", tmp_path)
    assert not (tmp_path / "celebahq-latents.npy").exists()
