"""`proxdm push`, with the real client against a server on this machine."""

from __future__ import annotations

import pytest
import torch

from proxdm.checkpoints.load import load
from proxdm.checkpoints.portable import save_model
from proxdm.config import ModelConfig
from proxdm.networks import MLPConfig


@pytest.fixture
def source(tmp_path):
    torch.manual_seed(0)
    model = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1)).build()
    return save_model(model, tmp_path / "m.safetensors", weights="ema-0.9")


def test_a_model_is_put_on_the_hub_and_its_place_is_said(hub, source, succeeds):
    out = succeeds("push", str(source), "someone/tiny", "--license", "mit", "--message", "First").out
    assert f"{hub.address}/someone/tiny/commit/" in out
    assert "ema-0.9 of" in out
    assert torch.equal(load("someone/tiny").network.head.weight, load(source).network.head.weight)
    assert "license: mit" in (hub.folder / "someone" / "tiny" / "README.md").read_text()


def test_a_dry_run_shows_the_card_and_sends_nothing(hub, source, succeeds):
    out = succeeds("push", str(source), "someone/tiny", "--dry-run").out
    assert 'proxdm.load("someone/tiny")' in out
    assert f"model.safetensors ({source.stat().st_size:,} bytes)" in out
    assert hub.requests == []
