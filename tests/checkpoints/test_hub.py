"""The hub, with the real client against a server on this machine."""

from __future__ import annotations

import pytest
import torch

from proxdm.checkpoints import hub as hubs
from proxdm.checkpoints.hub import HubError, RepoId, fetch, parse_repo_id
from proxdm.checkpoints.load import find, load
from proxdm.checkpoints.portable import save_model
from proxdm.config import ModelConfig
from proxdm.errors import CheckpointError
from proxdm.networks import MLPConfig
from proxdm.presets import PRESETS
from runs import exactly

MODEL = RepoId("someone/tiny")


@pytest.fixture
def model(hub):
    """A model in the repository someone/tiny."""
    torch.manual_seed(0)
    model = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1)).build()
    save_model(model, hub.folder / "someone" / "tiny", weights="ema-0.9")
    return model


@pytest.mark.parametrize("preset", hubs.OFFICIAL_MODELS)
def test_every_official_file_belongs_to_a_preset_and_is_downloaded_once(hub, preset):
    assert preset in PRESETS
    hub.put(hubs.OFFICIAL_REPO, hubs.OFFICIAL_MODELS[preset], preset.encode())
    paths = {fetch(RepoId(hubs.OFFICIAL_REPO), hubs.OFFICIAL_MODELS[preset]) for _ in range(2)}
    assert [path.read_bytes() for path in paths] == [preset.encode()]
    assert hub.downloads == 1


def test_a_model_repository_is_a_source(hub, model):
    for source in ("someone/tiny", "someone/tiny@v1"):
        found = find(source)
        assert (found.kind, found.weights, found.source) == ("hub", "ema-0.9", source)
        exactly(load(source), model)
    with pytest.raises(CheckpointError, match=r"no weights named 'raw'; it has ema-0\.9"):
        load("someone/tiny", "raw")


def test_a_local_folder_wins_over_the_hub(hub, model, tmp_path, monkeypatch):
    save_model(model, tmp_path / "someone" / "tiny", weights="local")
    monkeypatch.chdir(tmp_path)
    assert find("someone/tiny").weights == "local"
    assert hub.requests == []


def test_without_a_connection_the_cache_serves(hub, model):
    load("someone/tiny")
    hub.stop()
    assert load("someone/tiny").config == model.config
    with pytest.raises(HubError, match=r"cannot be reached, and x\.npz of someone/tiny is not in the cache; go online"):
        fetch(MODEL, "x.npz")


def test_offline_mode_uses_the_cache_and_asks_nobody(hub, model, monkeypatch):
    load("someone/tiny")
    before = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load("someone/tiny").config == model.config
    with pytest.raises(HubError, match="HF_HUB_OFFLINE unset"):
        load("someone/other")
    assert len(hub.requests) == before


@pytest.mark.parametrize("name", ["large.npz", "small.json"])
def test_damage_on_the_way_and_in_the_cache_is_noticed(hub, name):
    hub.put("a/b", name, b"numbers")
    hub.damaged.add(name)
    with pytest.raises(HubError, match=rf"{name} is damaged \(checksum .*removed from the cache; try again"):
        fetch(RepoId("a/b"), name)
    hub.damaged.clear()
    path = fetch(RepoId("a/b"), name)
    assert path.read_bytes() == b"numbers"
    path.write_bytes(b"NUMBERS")
    hub.stop()
    with pytest.raises(HubError, match="damaged"):
        fetch(RepoId("a/b"), name)


@pytest.mark.parametrize(
    ("repo", "name", "message"),
    [
        ("someone/missing", "x", r"no repository someone/missing, or it is private.*hf auth login"),
        ("someone/tiny", "x", r"someone/tiny has no file x on the hub"),
        ("someone/tiny@v9", "model.safetensors", r"no such revision of someone/tiny@v9"),
    ],
)
def test_what_is_not_there_is_named(hub, model, repo, name, message):
    with pytest.raises(HubError, match=message) as raised:
        fetch(parse_repo_id(repo), name)
    assert "\n" not in str(raised.value)


def test_a_refusal_is_named_and_the_official_repository_is_no_model(hub, model):
    hub.status = 418
    with pytest.raises(HubError, match="HTTP status 418"):
        load("someone/tiny")
    with pytest.raises(CheckpointError, match="proxdm download models"):
        load(hubs.OFFICIAL_REPO)


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("owner/name", RepoId("owner/name")),
        ("owner/na.me-2@v1.0", RepoId("owner/na.me-2", "v1.0")),
        ("owner/name@refs/pr/3", RepoId("owner/name", "refs/pr/3")),
    ],
)
def test_names_of_repositories(text, repo):
    assert parse_repo_id(text) == repo
    assert str(repo) == text


OTHERS = ["name", "a/b/c", "./a/b", "/a/b", "../a", "a/..", "a/model.safetensors", "a/model.pth", "a/", "a/b@"]


@pytest.mark.parametrize("text", OTHERS)
def test_other_text_names_no_repository(text):
    assert parse_repo_id(text) is None
