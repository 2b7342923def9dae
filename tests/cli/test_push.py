"""`proxdm push`, with the real client against a server on this machine."""

from __future__ import annotations

import torch

from proxdm.checkpoints.load import load
from proxdm.checkpoints.portable import save_model
from tiny_models import POINTS, random_model


def test_a_dry_run_shows_the_card_and_sends_nothing_and_then_a_model_is_put_on_the_hub(hub, tmp_path, succeeds):
    source = save_model(random_model(POINTS), tmp_path / "m.safetensors", weights="ema-0.9")
    out = succeeds(f"push {source} someone/tiny --dry-run").out
    assert 'proxdm.load("someone/tiny")' in out
    assert f"model.safetensors ({source.stat().st_size:,} bytes)" in out
    assert hub.requests == []
    out = succeeds(f"push {source} someone/tiny --license mit --message First").out
    assert f"{hub.address}/someone/tiny/commit/" in out
    assert "ema-0.9 of" in out
    assert torch.equal(load("someone/tiny").network.head.weight, load(source).network.head.weight)
    assert "license: mit" in (hub.folder / "someone" / "tiny" / "README.md").read_text()
