"""`proxdm convert`: the same numbers without the pickle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from proxdm.checkpoints import load as loading
from proxdm.checkpoints.load import find, load
from proxdm.config import ModelConfig
from proxdm.networks import UNetConfig
from proxdm.presets import get_preset


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A preset `small-score` for the golden checkpoint."""
    model = ModelConfig("score", (1, 16, 16), UNetConfig(1, 32, (1, 2), (1,), 1))
    config = dataclasses.replace(get_preset("mnist-score"), preset="small-score", model=model)
    monkeypatch.setattr(loading, "get_preset", {"small-score": config}.__getitem__)


@pytest.mark.parametrize("out", ["model.safetensors", "folder"])
def test_the_converted_model_gives_official_numbers_and_is_not_overwritten(shared, tmp_path, out, succeeds, refused):
    source = shared / "golden" / "official_small_score.pth"
    command = ["convert", source, "--preset", "small-score", "--out", tmp_path / out]
    assert "small-score, ema0.9999" in succeeds(*command).out
    model = load(tmp_path / out)
    golden = np.load(shared / "golden" / "official_small_score.npz")
    x, t = (torch.from_numpy(golden[key]) for key in ("x", "t"))
    with torch.no_grad():
        np.testing.assert_allclose(model.score(x, t).numpy(), golden["score"], rtol=1e-4, atol=1e-4)
    found = find(tmp_path / out)
    assert (found.weights, found.file.origin) == ("ema0.9999", "the paper's official_small_score.pth (ema0.9999)")
    assert model.config.preset == "small-score"
    assert "already; overwrite it (--overwrite)" in refused(*command)
    succeeds(*command, "--overwrite")
