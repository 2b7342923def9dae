"""From a name to a model: every kind of source, its default weights, and every way it can be wrong."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from proxdm.checkpoints import load as loading
from proxdm.checkpoints.load import find, load, load_official, open_source
from proxdm.checkpoints.portable import save_model
from proxdm.checkpoints.store import create_run
from proxdm.config import ConfigError, TrainingConfig
from proxdm.errors import CheckpointError
from proxdm.models import ProxModel
from runs import exactly
from tiny_models import POINTS, make_run, random_state


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints after 5 and 10 steps, every weight set with numbers of its own: (folder, states)."""
    return tmp_path / "run", make_run(tmp_path / "run")


def test_a_run_gives_the_first_average_of_its_latest_whole_checkpoint(run):
    folder, states = run
    model = load(folder)
    assert isinstance(model, ProxModel)
    exactly(model.network, states["ema-0.99"])
    assert not model.training
    assert model.config == POINTS
    assert model.config.training_range.config == POINTS.conditioning
    file = folder / "checkpoints" / "step-00000010" / "ema-0.9.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert find(folder).file.step == 5


def test_every_weight_set_of_a_run_can_be_chosen(run):
    folder, states = run
    for weights, state in states.items():
        exactly(load(str(folder), weights).network, state)
        found = find(folder, weights)
        assert (found.kind, found.weights, found.weight_sets) == ("run", weights, ("ema-0.99", "ema-0.9", "raw"))
        assert found.file.step == 10
    with pytest.raises(CheckpointError, match=r"no weights named 'ema-0\.5'; it has ema-0\.99, ema-0\.9, raw"):
        load(folder, "ema-0.5")


def test_a_checkpoint_folder_and_its_files_load_by_themselves(run, tmp_path):
    folder, _ = run
    early = folder / "checkpoints" / "step-00000005"
    exactly(load(early).network, random_state(POINTS, 501))
    shutil.copytree(early, tmp_path / "copy")
    shutil.rmtree(folder)
    assert find(tmp_path / "copy").kind == "checkpoint"
    exactly(load(tmp_path / "copy", "raw").network, random_state(POINTS, 500))
    alone = load(tmp_path / "copy" / "ema-0.9.safetensors")
    exactly(alone.network, random_state(POINTS, 502))
    assert alone.config == POINTS


def test_without_averages_the_weights_themselves_are_taken(tmp_path):
    config = dataclasses.replace(POINTS, training=TrainingConfig(ema=()))
    states = make_run(tmp_path / "run", config)
    assert find(tmp_path / "run").weights == "raw"
    exactly(load(tmp_path / "run").network, states["raw"])


def test_a_model_folder_and_its_file(run, tmp_path):
    folder, states = run
    save_model(load(folder, "ema-0.9"), tmp_path / "model", weights="ema-0.9", step=10)
    for source in (tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        assert find(source).weights == "ema-0.9"
        exactly(load(source).network, states["ema-0.9"])


def test_a_file_without_configuration_takes_the_one_beside_it(run, tmp_path):
    from safetensors.torch import save_file

    folder, states = run
    (tmp_path / "bare").mkdir()
    save_file(states["raw"], tmp_path / "bare" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"does not say what network it holds.*config\.json"):
        load(tmp_path / "bare")
    shutil.copy(folder / "config.json", tmp_path / "bare")
    exactly(load(tmp_path / "bare").network, states["raw"])
    (tmp_path / "bare" / "config.json").write_text('{"model": 3}')
    with pytest.raises(CheckpointError, match=r"configuration .*config\.json cannot be read"):
        load(tmp_path / "bare")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, r"there is no model '.*/x': looked for a run folder"),
        (lambda folder: folder.mkdir(), r"holds no model: looked for checkpoints/ .*, and found nothing"),
        (lambda folder: (folder / "notes").mkdir(parents=True), "and found notes"),
        (lambda folder: create_run(folder, POINTS), "no complete checkpoint yet"),
        (lambda folder: (folder.mkdir(), (folder / "state.json").touch()), r"holds no weights: looked for raw"),
    ],
)
def test_nothing_there_says_what_was_looked_for(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "x")


@pytest.mark.parametrize("name", ["model.pth", "model.ckpt"])
def test_pickled_files_are_sent_to_the_official_loader(tmp_path, name):
    with pytest.raises(CheckpointError, match="load_official"):
        load(tmp_path / name)


def test_official_files_need_a_preset_that_fits(shared):
    path = shared / "golden" / "official_small_score.pth"
    with pytest.raises(CheckpointError, match=r"say which with preset=.*--preset"):
        open_source(path)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_official(path, "mnist-score")
    with pytest.raises(CheckpointError, match=r"no weights named 'ema-0\.9999'; it has model, ema0\.9999"):
        open_source(path, "ema-0.9999", "mnist-score")
    with pytest.raises(ConfigError, match=r"'mnist-scor' \(did you mean 'mnist-score'\?\); the presets are"):
        load_official(path, "mnist-scor")


def test_the_authors_file_name_stands_for_its_preset(monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(loading, "build_official", lambda path, config, weights: built.append(config) or config.build())
    file = tmp_path / "mnist_prox_hybrid.pth"
    assert load_official(file).config.preset == "mnist-prox-hybrid"
    assert load_official(file, "mnist-score").config.preset == "mnist-score"
    assert built == [loading.get_preset(name).model for name in ("mnist-prox-hybrid", "mnist-score")]


def test_a_preset_is_for_official_files_only(run):
    with pytest.raises(CheckpointError, match="leave it out"):
        open_source(run[0], preset="mnist-score")
    assert open_source(run[0]).weights == "ema-0.99"
