"""The model card says what the configuration says, and its example runs."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
import yaml

import proxdm
from proxdm.checkpoints.card import CardOptions, model_card
from proxdm.checkpoints.load import find, load
from proxdm.checkpoints.portable import model_config, save_model
from proxdm.config import Config, ModelConfig
from proxdm.data.load import DataConfig
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.presets import get_preset

TINY = UNetConfig(1, 8, (1, 2), (1,), 1, conditioning="time-lam")
PROX = dataclasses.replace(get_preset("mnist-prox-hybrid"), model=ModelConfig("prox", (1, 8, 8), TINY))


def card_of(config, folder, options=None, **facts):
    model = model_config(config).build()
    model.config = config
    save_model(model, folder, **facts)
    return model_card(find(folder), options or CardOptions("someone/tiny", "apache-2.0"))


def header(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


def test_the_header_is_what_the_hub_reads(tmp_path):
    from huggingface_hub import ModelCard

    card = card_of(PROX, tmp_path / "m")
    expected = {
        "library_name": "proxdm",
        "license": "apache-2.0",
        "pipeline_tag": "unconditional-image-generation",
        "datasets": ["ylecun/mnist"],
        "tags": ["diffusion", "prox-model", "proximal-operator", "arxiv:2507.08956"],
    }
    assert header(card) == expected
    assert ModelCard(card).data.to_dict() == expected


def test_the_card_names_model_and_training(tmp_path):
    card = card_of(PROX, tmp_path / "m", weights="ema-0.9999", step=1234)
    parameters = sum(p.numel() for p in PROX.model.build().parameters())
    for row in (
        f"| parameters | {parameters:,} |",
        "| weights | ema-0.9999 |",
        "| steps | 1,234 of 225,000 |",
        "| shape of a sample | 1 x 8 x 8 |",
        "| data | mnist |",
        "| objective | proximal-matching on noise; 75,000 steps of l1, then zeta = 1, 0.5 |",
        "| trained at | prox-hybrid steps of uniform grids of 5, 10, 20, 50, 100, 1000 steps, weights log10 |",
    ):
        assert row in card
    assert "2507.08956" in card
    assert '"l1_steps": 75000' in card


@pytest.mark.parametrize("kind", ["score", "prox"])
def test_the_example_runs_and_gives_samples(tmp_path, monkeypatch, kind):
    config = PROX if kind == "prox" else ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1))
    card = card_of(config, tmp_path / "m")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.setattr(proxdm, "load", lambda name: load({"someone/tiny": tmp_path / "m"}[name]), raising=False)
    names = {}
    exec(code, names)
    assert names["x"].shape == (16, *model_config(config).shape)
    assert torch.isfinite(names["x"]).all()


def test_a_model_without_training_configuration_has_a_shorter_card(tmp_path):
    config = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1))
    card = card_of(config, tmp_path / "m", CardOptions("someone/tiny"))
    assert "## Training" not in card
    assert header(card)["license"] == "unknown"
    assert "pipeline_tag" not in header(card)


def test_a_local_path_of_the_data_does_not_leak(tmp_path):
    config = dataclasses.replace(PROX, data=DataConfig("/home/someone/secret/faces"))
    card = card_of(config, tmp_path / "m")
    assert "| data | faces |" in card
    assert "secret" not in card


def test_converted_weights_say_where_they_come_from(tmp_path):
    card = card_of(PROX, tmp_path / "m", CardOptions("someone/tiny"), origin="mnist_prox_hybrid.pth")
    assert "converted from mnist_prox_hybrid.pth. Their authors state no licence" in card
    assert "## Training" not in card
    card = model_card(find(tmp_path / "m"), CardOptions("someone/tiny", "mit", "samples.png"))
    assert "state no licence" not in card
    assert "![Samples](samples.png)" in card


def test_latents_say_so(tmp_path):
    network = dataclasses.replace(TINY, channels=4)
    config: Config = dataclasses.replace(PROX, model=ModelConfig("prox", (4, 8, 8), network))
    assert "latents of an autoencoder" in card_of(config, tmp_path / "m")
    assert "latents of an autoencoder" not in card_of(PROX, tmp_path / "n")
