"""The portable model file: what is loaded is what was saved, and every kind of damage is named."""

from __future__ import annotations

import dataclasses
import os
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tiny_models
from proxdm._version import __version__
from proxdm.checkpoints import portable
from proxdm.checkpoints.load import load
from proxdm.checkpoints.portable import build_model, read_model_file, save_model
from proxdm.config import from_json, to_json
from proxdm.errors import CheckpointError, OutputError
from proxdm.losses import ObjectiveConfig
from proxdm.models import ProxModel, ScoreModel
from proxdm.schedules import VPSDE
from runs import exactly, full_disk
from tiny_models import POINTS, random_model

SCORE = tiny_models.SCORE.model
VP = dataclasses.replace(POINTS.model, schedule=VPSDE(beta_max=12.0))
PROX = dataclasses.replace(POINTS, model=VP, objective=ObjectiveConfig(target="noise"))
OTHER = to_json(SCORE).replace('"beta_min"', '"beta_least"')


def rewrite(path, tensors=None, **metadata):
    """Write the file again with other tensors, or with entries of its metadata changed (None: removed)."""
    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    entries = {key: value for key, value in {**old, **metadata}.items() if value is not None}
    save_file(load_file(path) if tensors is None else tensors, path, metadata=entries)


@pytest.mark.parametrize("config, kind", [(SCORE, ScoreModel), (PROX, ProxModel)])
def test_a_model_comes_back_exactly(tmp_path, generator, config, kind):
    model = random_model(config)
    found = read_model_file(save_model(model, tmp_path / "m.safetensors", weights="ema-0.9", step=70, origin="here"))
    assert (found.weights, found.step, found.origin, found.version) == ("ema-0.9", 70, "here", __version__)
    assert found.config == config
    assert found.parameters == sum(p.numel() for p in model.parameters())
    before = torch.random.get_rng_state()
    loaded = build_model(found, found.config)
    assert torch.equal(torch.random.get_rng_state(), before), "random numbers were drawn"
    assert isinstance(loaded, kind)
    assert not loaded.training
    assert loaded.config == config
    described = portable.model_config(config)
    assert loaded.schedule == described.schedule
    x = torch.randn(3, *described.shape, generator=generator)
    with torch.no_grad():
        conditions = (torch.full((3,), 0.3),) * described.conditions
        assert torch.equal(loaded(x, *conditions), model(x, *conditions))


def test_a_folder_holds_model_and_readable_configuration(tmp_path):
    path = save_model(random_model(PROX), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "model.safetensors"
    assert from_json((path.parent / "config.json").read_text()) == PROX
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["m.safetensors", "folder"])
def test_nothing_is_overwritten_unless_allowed_nor_by_half(tmp_path, name, monkeypatch):
    first, second = random_model(SCORE, 0), random_model(SCORE, 1)
    path = save_model(first, tmp_path / name)
    content, there = path.read_bytes(), sorted(path.parent.iterdir())
    with pytest.raises(OutputError, match="exists already"):
        save_model(second, tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full_disk)
        with pytest.raises(OutputError, match="No space left"):
            save_model(second, tmp_path / name, overwrite=True)
    assert path.read_bytes() == content
    assert sorted(path.parent.iterdir()) == there
    save_model(second, tmp_path / name, overwrite=True)
    assert path.read_bytes() != content
    with pytest.raises(OutputError, match="cannot be written"):
        save_model(second, path / "below")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_file_is_as_readable_as_any_other(tmp_path):
    path = save_model(random_model(SCORE), tmp_path / "m.safetensors")
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_half_precision_weights_are_widened_and_those_of_another_network_refused(tmp_path):
    model = random_model(SCORE)
    path = save_model(model, tmp_path / "m.safetensors")
    half = {key: value.half() for key, value in model.network.state_dict().items()}
    rewrite(path, half, sha256=None)
    exactly(load(path).network, {key: value.float() for key, value in half.items()})
    rewrite(path, {key: value for key, value in half.items() if key != "head.bias"})
    with pytest.raises(CheckpointError, match=r"head\.bias .* is not in the file"):
        load(path)


def test_tied_parameters_can_be_saved(tmp_path):
    model = random_model(PROX)
    model.network.embedding.lam.hidden.weight = model.network.embedding.time.hidden.weight
    loaded = load(save_model(model, tmp_path / "m.safetensors")).network.embedding
    assert torch.equal(loaded.lam.hidden.weight, loaded.time.hidden.weight)


def test_a_model_without_configuration_is_refused(tmp_path):
    model = random_model(SCORE)
    model.config = None
    with pytest.raises(CheckpointError, match="no configuration to store"):
        save_model(model, tmp_path / "m.safetensors")
    model.config = dataclasses.replace(SCORE, network=dataclasses.replace(SCORE.network, width=16))
    with pytest.raises(CheckpointError, match=r"is \(32, 8\) in the model and \(64, 16\) in the configuration"):
        save_model(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_cut_short_and_a_changed_byte_are_noticed(tmp_path):
    path = save_model(random_model(SCORE), tmp_path / "m.safetensors")
    content = bytearray(path.read_bytes())
    for keep in (0, 5, 200, len(content) // 2, -1):
        path.write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match=r"m\.safetensors .* bytes\) is cut short, damaged"):
            read_model_file(path)
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged: .* checksum"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer.*git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "pickled PyTorch file under another name"),
        (b"\x80\x02" + bytes(100), "pickled PyTorch file under another name"),
        (b"<!DOCTYPE html>" + bytes(100), "not a safetensors file"),
    ],
)
def test_files_of_other_kinds_are_recognised(tmp_path, content, message):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_model_file(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"proxdm_format": "2", "proxdm_version": "9.1"}, r"format 2, written by proxdm 9\.1; .* upgrade"),
        ({"config": OTHER, "proxdm_version": "9.1"}, r"'beta_least'.*written by proxdm 9\.1, and this is"),
        ({"config": "[]"}, "configuration .* cannot be read"),
        ({"step": "many"}, r"metadata .* are damaged"),
    ],
)
def test_files_of_other_versions_and_strange_metadata_are_named(tmp_path, metadata, message):
    path = save_model(random_model(SCORE), tmp_path / "m.safetensors")
    rewrite(path, **metadata)
    with pytest.raises(CheckpointError, match=message):
        read_model_file(path)
    with pytest.raises(CheckpointError, match=r"there is no file .*n\.safetensors"):
        read_model_file(tmp_path / "n.safetensors")
