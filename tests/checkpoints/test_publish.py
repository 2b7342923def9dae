"""From a run to the hub and back, with the real client against a server on this machine."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fake_hub import FakeHub
from proxdm.checkpoints.hub import HubError
from proxdm.checkpoints.load import find, load
from proxdm.checkpoints.portable import save_model
from proxdm.checkpoints.publish import push
from proxdm.checkpoints.store import TrainingState, create_run, save_checkpoint
from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, ModelConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.errors import CheckpointError
from proxdm.networks import MLPConfig

CONFIG = Config(
    preset="tiny",
    data=DataConfig("/home/someone/secret/faces", root="/mnt/secret"),
    model=ModelConfig("prox", (2,), MLPConfig(dim=2, width=16, depth=1, conditioning="time-lam")),
    conditioning=ConditioningConfig("prox-hybrid", "knots", (5, 10)),
    training=TrainingConfig(steps=10, ema=(0.99,)),
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with FakeHub(tmp_path / "hub") as server:
        server.connect(monkeypatch, tmp_path / "cache")
        yield server


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    create_run(folder, CONFIG)
    torch.manual_seed(0)
    sets = {name: CONFIG.model.build().network.state_dict() for name in ("raw", "ema-0.99")}
    save_checkpoint(folder, CONFIG, TrainingState(7), sets, {"m": torch.zeros(1)})
    return folder


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_run_goes_to_the_hub_and_comes_back(hub, run):
    published = push(run, "someone/tiny", license="mit", private=True)
    assert published.weights == "ema-0.99"
    assert published.url.startswith(f"{hub.address}/someone/tiny/commit/")
    there = sorted(path.name for path in (hub.folder / "someone" / "tiny").iterdir())
    assert there == ["README.md", "config.json", "model.safetensors"] == sorted(published.files)
    (created,) = hub.created
    assert created.get("private") is True or created.get("visibility") == "private"
    back = load("someone/tiny")
    assert same(back, load(run))
    assert (find("someone/tiny").weights, find("someone/tiny").file.step) == ("ema-0.99", 7)
    assert "license: mit" in (hub.folder / "someone" / "tiny" / "README.md").read_text()


def test_another_weight_set_can_be_published(hub, run):
    push(run, "someone/tiny", "raw")
    assert find("someone/tiny").weights == "raw"
    assert same(load("someone/tiny"), load(run, "raw"))


def test_folders_of_this_machine_stay_here(hub, run):
    push(run, "someone/tiny")
    repo = hub.folder / "someone" / "tiny"
    assert not any(b"secret" in path.read_bytes() for path in repo.iterdir())
    assert load("someone/tiny").config == dataclasses.replace(CONFIG, data=DataConfig("faces"))


def test_a_card_edited_by_hand_is_kept(hub, run):
    push(run, "someone/tiny")
    card = hub.put("someone/tiny", "README.md", b"my own words")
    push(run, "someone/tiny")
    assert card.read_bytes() == b"my own words"
    push(run, "someone/tiny", replace_card=True)
    assert b"# tiny" in card.read_bytes()


def test_the_latest_preview_of_a_run_is_its_picture(hub, run):
    (run / "previews").mkdir()
    for name in ("step-00000003.png", "step-00000007.png"):
        (run / "previews" / name).write_bytes(name.encode())
    push(run, "someone/tiny")
    repo = hub.folder / "someone" / "tiny"
    assert (repo / "samples.png").read_bytes() == b"step-00000007.png"
    assert "![Samples](samples.png)" in (repo / "README.md").read_text()


def test_a_model_file_can_be_published_and_keeps_its_origin(hub, run, tmp_path):
    path = save_model(load(run), tmp_path / "m.safetensors", weights="ema0.9999", origin="x.pth")
    push(path, "someone/tiny")
    found = find("someone/tiny")
    assert (found.weights, found.file.origin) == ("ema0.9999", "x.pth")


def test_without_permission_nothing_is_written(hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HubError, match="does not let you write to someone/tiny: log in with `hf auth login`"):
        push(run, "someone/tiny")
    assert not (hub.folder / "someone").exists()


def test_without_connection_the_message_is_one_line(hub, run):
    hub.stop()
    with pytest.raises(HubError, match="nothing was written to someone/tiny; go online") as raised:
        push(run, "someone/tiny")
    assert "\n" not in str(raised.value)


def test_what_is_wrong_is_found_before_anything_is_sent(hub, run, tmp_path):
    with pytest.raises(CheckpointError, match="'tiny' is not the name of a repository"):
        push(run, "tiny")
    with pytest.raises(CheckpointError, match="there is no model"):
        push(tmp_path / "nowhere", "someone/tiny")
    file = run / "checkpoints" / "step-00000007" / "ema-0.99.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        push(run, "someone/tiny")
    assert hub.requests == []
