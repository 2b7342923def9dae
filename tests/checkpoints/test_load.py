"""From a name to a model: every kind of source, its default weights, and every way it can be wrong."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from proxdm.checkpoints import load as loading
from proxdm.checkpoints.load import find, load, load_official, open_source
from proxdm.checkpoints.portable import save_model
from proxdm.checkpoints.store import TrainingState, create_run, save_checkpoint
from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, ConfigError, ModelConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.errors import CheckpointError
from proxdm.models import ProxModel
from proxdm.networks import MLPConfig
from proxdm.runtime.device import choose_device

PROX = Config(
    preset="tiny",
    data=DataConfig("digits"),
    model=ModelConfig("prox", (2,), MLPConfig(dim=2, width=16, depth=1, conditioning="time-lam")),
    conditioning=ConditioningConfig("prox-backward", "knots", (20, 50)),
    training=TrainingConfig(steps=10, ema=(0.99, 0.9)),
)
SETS = ("raw", "ema-0.99", "ema-0.9")


def random_state(config, seed):
    torch.manual_seed(seed)
    return {key: 0.1 * torch.randn_like(value) for key, value in config.model.build().network.state_dict().items()}


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints after 5 and 10 steps, every weight set with numbers of its own: (folder, states)."""
    folder = tmp_path / "run"
    create_run(folder, PROX)
    for step in (5, 10):
        states = {name: random_state(PROX, 100 * step + i) for i, name in enumerate(SETS)}
        save_checkpoint(folder, PROX, TrainingState(step), states, {"exp_avg.x": torch.zeros(1)})
    return folder, states


def holds(model, state):
    return all(torch.equal(value, state[key]) for key, value in model.network.state_dict().items())


def test_a_run_gives_the_first_average_of_its_latest_checkpoint(run):
    folder, states = run
    model = load(folder)
    assert isinstance(model, ProxModel)
    assert holds(model, states["ema-0.99"])
    assert not model.training
    assert model.config == PROX
    assert model.config.training_range().config == PROX.conditioning


@pytest.mark.parametrize("weights", SETS)
def test_every_weight_set_of_a_run_can_be_chosen(run, weights):
    folder, states = run
    assert holds(load(str(folder), weights), states[weights])
    found = find(folder, weights)
    assert (found.kind, found.weights, found.weight_sets) == ("run", weights, ("ema-0.99", "ema-0.9", "raw"))
    assert found.file.step == 10


def test_an_unknown_weight_set_lists_those_there_are(run):
    with pytest.raises(CheckpointError, match=r"no weights named 'ema-0\.5'; it has ema-0\.99, ema-0\.9, raw"):
        load(run[0], "ema-0.5")


def test_an_incomplete_checkpoint_is_passed_over(run):
    folder, _ = run
    file = folder / "checkpoints" / "step-00000010" / "ema-0.9.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert find(folder).file.step == 5


def test_a_checkpoint_folder_and_its_files_load_by_themselves(run, tmp_path):
    folder, _ = run
    early = folder / "checkpoints" / "step-00000005"
    assert holds(load(early), random_state(PROX, 501))
    shutil.copytree(early, tmp_path / "copy")
    shutil.rmtree(folder)
    assert find(tmp_path / "copy").kind == "checkpoint"
    assert holds(load(tmp_path / "copy", "raw"), random_state(PROX, 500))
    alone = load(tmp_path / "copy" / "ema-0.9.safetensors")
    assert holds(alone, random_state(PROX, 502))
    assert alone.config == PROX


def test_without_averages_the_weights_themselves_are_taken(tmp_path):
    config = dataclasses.replace(PROX, training=TrainingConfig(ema=()))
    create_run(tmp_path / "run", config)
    state = random_state(config, 0)
    save_checkpoint(tmp_path / "run", config, TrainingState(3), {"raw": state}, {"m": torch.zeros(1)})
    assert find(tmp_path / "run").weights == "raw"
    assert holds(load(tmp_path / "run"), state)


def test_a_model_folder_and_its_file(run, tmp_path):
    folder, states = run
    save_model(load(folder, "ema-0.9"), tmp_path / "model", weights="ema-0.9", step=10)
    for source in (tmp_path / "model", tmp_path / "model" / "model.safetensors"):
        assert find(source).weights == "ema-0.9"
        assert holds(load(source), states["ema-0.9"])
    with pytest.raises(CheckpointError, match=r"no weights named 'raw'; it has ema-0\.9"):
        load(tmp_path / "model", "raw")


def test_a_file_without_configuration_takes_the_one_beside_it(run, tmp_path):
    from safetensors.torch import save_file

    folder, states = run
    (tmp_path / "bare").mkdir()
    save_file(states["raw"], tmp_path / "bare" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"does not say what network it holds.*config\.json"):
        load(tmp_path / "bare")
    shutil.copy(folder / "config.json", tmp_path / "bare")
    assert holds(load(tmp_path / "bare"), states["raw"])
    (tmp_path / "bare" / "config.json").write_text('{"model": 3}')
    with pytest.raises(CheckpointError, match=r"configuration .*config\.json cannot be read"):
        load(tmp_path / "bare")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, r"there is no model '.*/x': looked for a run folder"),
        (lambda folder: folder.mkdir(), r"holds no model: looked for checkpoints/ .*, and found nothing"),
        (lambda folder: (folder / "notes").mkdir(parents=True), "and found notes"),
        (lambda folder: create_run(folder, PROX), "no complete checkpoint yet"),
    ],
)
def test_nothing_there_says_what_was_looked_for(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "x")


@pytest.mark.parametrize("name", ["there.pth", "not_there.pth", "there.ckpt"])
def test_pickled_files_are_sent_to_the_official_loader(tmp_path, name):
    if name.startswith("there"):
        torch.save({"model_state_dict": {}}, tmp_path / name)
    with pytest.raises(CheckpointError, match="load_official"):
        load(tmp_path / name)


def test_the_device_is_checked():
    with pytest.raises(ValueError, match="device = quantum cannot be used"):
        choose_device("quantum")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device = cuda cannot be used"):
            choose_device("cuda")


# The official files of ../shared have a small network, which is no preset of ours.


@pytest.fixture
def small_presets(monkeypatch):
    """Presets for the golden checkpoints: small-score and small-prox."""
    from proxdm.networks import UNetConfig

    def preset(name):
        if name not in ("small-score", "small-prox"):
            raise ConfigError(f"unknown preset {name!r}")
        prox = name == "small-prox"
        network = UNetConfig(1, 32, (1, 2), (1,), 1, conditioning="time-lam" if prox else "time")
        model = ModelConfig("prox" if prox else "score", (1, 16, 16), network)
        draws = ConditioningConfig() if prox else ConditioningConfig(None, "continuous", ())
        return Config(preset=name, data=DataConfig("mnist"), model=model, conditioning=draws)

    monkeypatch.setattr(loading, "get_preset", preset)


def test_official_weights_give_the_official_numbers(shared, small_presets):
    golden = np.load(shared / "golden" / "official_small_prox.npz")
    model = load_official(shared / "golden" / "official_small_prox.pth", "small-prox")
    x, t, lam = (torch.from_numpy(golden[key]) for key in ("x", "t", "lam"))
    with torch.no_grad():
        np.testing.assert_allclose(model.prox(x, t, lam).numpy(), golden["prox"], rtol=1e-4, atol=1e-5)
    assert model.config.preset == "small-prox"
    assert not model.training


def test_official_files_need_a_preset_that_fits(shared, small_presets):
    path = shared / "golden" / "official_small_score.pth"
    with pytest.raises(CheckpointError, match=r"say which with preset=.*--preset"):
        open_source(path)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_official(path, "small-prox")
    with pytest.raises(CheckpointError, match=r"no weights named 'ema-0\.9999'"):
        open_source(path, "ema-0.9999", "small-score")
    assert open_source(path, None, "small-score").model.config.preset == "small-score"


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
