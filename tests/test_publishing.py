"""From a run to the hub and back, with the real client against a server on this machine; what the card says."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from huggingface_hub import ModelCard

import proxdm
from proxdm.checkpoints.hub import HubError
from proxdm.checkpoints.load import find, load
from proxdm.checkpoints.portable import model_config, save_model
from proxdm.config import ModelConfig
from proxdm.data.load import DataConfig
from proxdm.errors import CheckpointError, OutputError
from proxdm.networks import MLPConfig
from proxdm.presets import get_preset
from proxdm.publishing import model_card, push
from runs import exactly
from tiny_models import NETWORK, POINTS, make_run, random_model

CONFIG = dataclasses.replace(
    POINTS,
    data=DataConfig("/home/someone/secret/faces", root="/mnt/secret"),
    imports=("/home/someone/secret/my_networks.py",),
)


@pytest.fixture
def run(tmp_path):
    make_run(tmp_path / "run", CONFIG, steps=(7,))
    return tmp_path / "run"


def test_a_run_goes_to_the_hub_and_comes_back(hub, run):
    published = push(run, "someone/tiny", license="mit", private=True)
    assert published.weights == "ema-0.99"
    assert published.url.startswith(f"{hub.address}/someone/tiny/commit/")
    there = sorted(path.name for path in (hub.folder / "someone" / "tiny").iterdir())
    assert there == ["README.md", "config.json", "model.safetensors"] == sorted(published.sizes)
    (created,) = hub.created
    assert created.get("private") is True or created.get("visibility") == "private"
    exactly(load("someone/tiny"), load(run))
    assert (find("someone/tiny").weights, find("someone/tiny").file.step) == ("ema-0.99", 7)
    assert "license: mit" in (hub.folder / "someone" / "tiny" / "README.md").read_text()
    # Folders of this machine stay here.
    assert not any(b"secret" in path.read_bytes() for path in (hub.folder / "someone" / "tiny").iterdir())
    public = dataclasses.replace(CONFIG, data=DataConfig("faces"), imports=("my_networks.py",))
    assert load("someone/tiny").config == public


def test_models_have_the_hubs_habits(hub, run, tmp_path):
    model = load(run)
    assert model.push_to_hub("someone/tiny", license="mit").startswith(f"{hub.address}/someone/tiny/commit/")
    back = type(model).from_pretrained("someone/tiny")
    exactly(back, model)
    back.save_pretrained(tmp_path / "saved")
    exactly(type(model).from_pretrained(tmp_path / "saved"), model)
    with pytest.raises(OutputError, match="exists already"):
        back.save_pretrained(tmp_path / "saved")
    other = proxdm.ProxModel if isinstance(model, proxdm.ScoreModel) else proxdm.ScoreModel
    with pytest.raises(TypeError, match=f"not a {other.__name__}"):
        other.from_pretrained("someone/tiny")


def test_a_prior_goes_with_its_model_and_the_card_says_few_steps(hub):
    push("digits", "someone/digits")
    assert load("someone/digits").prior.facts.data == "digits"
    assert "--sampler multistep --steps 5" in (hub.folder / "someone" / "digits" / "README.md").read_text()


def test_a_card_edited_by_hand_is_kept_and_the_latest_preview_is_its_picture(hub, run):
    (run / "previews").mkdir()
    for name in ("step-00000003.png", "step-00000007.png"):
        (run / "previews" / name).write_bytes(name.encode())
    card = hub.put("someone/tiny", "README.md", b"my own words")
    push(run, "someone/tiny")
    assert card.read_bytes() == b"my own words"
    assert card.with_name("samples.png").read_bytes() == b"step-00000007.png"
    push(run, "someone/tiny", replace_card=True)
    assert "# tiny" in card.read_text()
    assert "![Samples](samples.png)" in card.read_text()


def test_a_model_file_can_be_published_and_keeps_its_origin(hub, run, tmp_path):
    path = save_model(load(run, "raw"), tmp_path / "m.safetensors", weights="ema0.9999", origin="x.pth")
    push(path, "someone/tiny")
    found = find("someone/tiny")
    assert (found.weights, found.file.origin) == ("ema0.9999", "x.pth")
    push(run, "someone/other", "raw")
    assert find("someone/other").weights == "raw"
    exactly(load("someone/other"), load(path))


def test_without_permission_or_connection_nothing_is_written(hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HubError, match="does not let you write to someone/tiny: log in with `hf auth login`"):
        push(run, "someone/tiny")
    assert not (hub.folder / "someone").exists()
    hub.stop()
    with pytest.raises(HubError, match=r"^[^\n]*nothing was written to someone/tiny; go online[^\n]*$"):
        push(run, "someone/tiny")


def test_what_is_wrong_is_found_before_anything_is_sent(hub, run, tmp_path):
    with pytest.raises(CheckpointError, match="'tiny' is not the name of a repository"):
        push(run, "tiny")
    with pytest.raises(CheckpointError, match="there is no model"):
        push(tmp_path / "nowhere", "someone/tiny")
    file = run / "checkpoints" / "step-00000007" / "ema-0.99.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged"):
        push(run, "someone/tiny")
    assert hub.requests == []


PROX = dataclasses.replace(get_preset("mnist-prox-hybrid"), model=ModelConfig("prox", (1, 8, 8), NETWORK))
SCORE = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1))


def card_of(config, folder, licence=None, **facts):
    save_model(random_model(config), folder, **facts)
    return model_card(find(folder), "someone/tiny", licence)


def header(card):
    return ModelCard(card).data.to_dict()


def test_the_header_is_what_the_hub_reads_and_the_card_names_model_and_training(tmp_path):
    card = card_of(PROX, tmp_path / "m", "apache-2.0", weights="ema-0.9999", step=1234)
    assert header(card) == {
        "library_name": "proxdm",
        "license": "apache-2.0",
        "pipeline_tag": "unconditional-image-generation",
        "datasets": ["ylecun/mnist"],
        "tags": ["diffusion", "prox-model", "proximal-operator", "arxiv:2507.08956"],
    }
    parameters = sum(p.numel() for p in PROX.model.build().parameters())
    for row in (
        f"| parameters | {parameters:,} |",
        "| weights | ema-0.9999 |",
        "| step | 1,234 |",
        "| training steps | 225,000 |",
        "| shape | 1, 8, 8 |",
        "| data | mnist |",
        "| objective | proximal-matching on noise; 75,000 steps of l1, then zeta = 1, 0.5 |",
        "| trained at | prox-hybrid steps of uniform grids of 5, 10, 20, 50, 100, 1000 steps, weights log10, lam from",
        '"l1_steps": 75000',
    ):
        assert row in card


@pytest.mark.parametrize("config", [SCORE, PROX])
def test_the_example_runs_and_gives_samples(tmp_path, monkeypatch, config):
    (code,) = re.findall(r"```python\n(.*?)```", card_of(config, tmp_path / "m"), re.DOTALL)
    monkeypatch.setattr(proxdm, "load", lambda name: load({"someone/tiny": tmp_path / "m"}[name]), raising=False)
    names = {}
    exec(code, names)
    assert names["x"].shape == (16, *model_config(config).shape)
    assert torch.isfinite(names["x"]).all()


def test_cards_of_points_of_converted_weights_and_of_latents(tmp_path):
    card = card_of(SCORE, tmp_path / "points")
    assert "## Training" not in card
    assert header(card)["license"] == "unknown"
    assert "pipeline_tag" not in header(card)
    card = card_of(PROX, tmp_path / "converted", origin="mnist_prox_hybrid.pth")
    assert "converted from mnist_prox_hybrid.pth. Their authors state no licence" in card
    assert "## Training" not in card
    assert "latents of an autoencoder" not in card
    latents = dataclasses.replace(PROX, model=ModelConfig("prox", (4, 8, 8), dataclasses.replace(NETWORK, channels=4)))
    card = card_of(latents, tmp_path / "latents", "mit", origin="celeba_hq_prox_hybrid.pth")
    assert "state no licence" not in card
    assert "latents of an autoencoder" in card
