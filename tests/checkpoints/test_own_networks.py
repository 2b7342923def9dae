"""Networks of users: registered ones are stored, loaded and resumed like ours, others are given to `load`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from proxdm.checkpoints import store
from proxdm.checkpoints.load import find, load
from proxdm.checkpoints.portable import save_model
from proxdm.cli import main
from proxdm.cli.train import parse_request
from proxdm.conditioning import ConditioningConfig, UniformTimes, make_draws
from proxdm.config import Config, ModelConfig, TrainingConfig, from_json, overlay, to_json
from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig
from proxdm.errors import CheckpointError
from proxdm.losses import ObjectiveConfig
from proxdm.models import ProxModel, ScoreModel
from proxdm.networks import MLP, NETWORKS, ExternalNetwork, MLPConfig
from proxdm.runtime.registry import IMPORTED
from proxdm.schedules import VPSDE, Cosine
from proxdm.training import Settings
from proxdm.training import train as train_any
from proxdm.training import train_config as train
from runs import exactly


class Linear(nn.Module):
    """`A x + b t (+ c lam)`, scaled by a buffer that files do not hold; its names look like those of a wrapper."""

    def __init__(self, size: int, conditions: int) -> None:
        super().__init__()
        self.module = nn.Linear(size + conditions, size)
        self.register_buffer("scale", torch.full((), 2.0), persistent=False)

    def forward(self, x, *conditions):
        columns = [condition[:, None].to(x) for condition in conditions]
        return self.scale * self.module(torch.cat([x.flatten(1), *columns], 1)).reshape(x.shape)


@dataclass(frozen=True)
class LinearConfig:
    """Settings of :class:`Linear`."""

    gain: float = 1.0

    def build(self, shape: tuple[int, ...], conditions: int) -> nn.Module:
        network = Linear(torch.Size(shape).numel(), conditions)
        nn.init.normal_(network.module.weight, std=self.gain)
        return network


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The network `linear` in the table, for one test."""
    monkeypatch.setattr(NETWORKS, "_entries", {**NETWORKS._entries, "linear": LinearConfig})


CONFIG = Config(
    "own",
    DataConfig("digits"),
    ModelConfig("prox", (1, 2, 2), LinearConfig(0.5)),
    conditioning=ConditioningConfig("prox-hybrid", "knots", (5, 10)),
    training=TrainingConfig(2, 4, ema=(0.9,), device="cpu"),
    imports=("my_networks",),
)


def test_the_configuration_holds_name_settings_and_imports():
    data = json.loads(to_json(CONFIG))
    assert data["model"]["network"] == {"type": "linear", "gain": 0.5}
    assert data["imports"] == ["my_networks"]
    assert "imports" not in json.loads(to_json(replace(CONFIG, imports=())))
    assert from_json(to_json(CONFIG)) == CONFIG
    assert overlay(CONFIG, {"model": {"network": {"gain": 2}}}).model.network == LinearConfig(2.0)
    assert CONFIG.model.parameter_count() == 4 * 6 + 4


def test_a_run_trains_resumes_and_loads_like_ours(tmp_path, monkeypatch):
    images = torch.rand((8, 1, 2, 2), generator=torch.Generator().manual_seed(0)) * 2 - 1
    data = ImageData(images, "noise")
    logging = replace(CONFIG.logging, preview_every=0)
    train(replace(CONFIG, logging=logging), tmp_path / "run", data=data, progress=False)
    longer = replace(CONFIG, logging=logging, training=replace(CONFIG.training, steps=4), imports=("elsewhere",))
    assert train(longer, tmp_path / "run", resume=True, data=data, progress=False).step == 4
    model = load(tmp_path / "run")
    assert model.config == longer
    path = save_model(model, tmp_path / "m.safetensors")
    exactly(load(path), model)
    assert float(load(path).network.scale) == 2.0
    monkeypatch.delitem(NETWORKS._entries, "linear")  # as in another process, which did not import the module
    for read, source in ((load, path), (find, tmp_path / "run"), (store.read_config, tmp_path / "run")):
        with pytest.raises(CheckpointError, match=r"^[^\n]*'linear' .*--import elsewhere$"):
            read(source)
    exactly(load(tmp_path / "run", network=Linear(4, 2)), model)
    exactly(load(path, network=Linear(4, 2)), model)


def test_its_settings_are_flags_of_the_command_line_and_imports_are_noted(tmp_path, monkeypatch):
    monkeypatch.setitem(IMPORTED, "more.py", None)
    file = tmp_path / "own.json"
    file.write_text('{"model": {"network": {"type": "linear"}}, "imports": ["my_networks"]}')
    arguments = ["digits-score", "--config", str(file), "--model.network.gain", "3", "--model.schedule.beta-max", "9"]
    config = parse_request(arguments, "proxdm train").config
    assert (config.model.network, config.model.schedule) == (LinearConfig(3.0), VPSDE(beta_max=9.0))
    assert config.imports == ("my_networks", "more.py")
    assert config.model.build().network.module.in_features == 65


@pytest.mark.parametrize("kind", [ScoreModel, ProxModel])
def test_a_module_without_settings_is_stored_by_its_weights(tmp_path, kind, generator):
    model = kind(Linear(2, 1 if kind is ScoreModel else 2)).eval()
    with pytest.raises(CheckpointError, match="shape="):
        save_model(model, tmp_path / "m.safetensors")
    path = save_model(model, tmp_path / "m.safetensors", shape=(2,))
    config = find(path).config
    assert (config.kind, config.shape) == ("score" if kind is ScoreModel else "prox", (2,))
    assert isinstance(config.network, ExternalNetwork)
    with pytest.raises(CheckpointError, match=r"test_own_networks\.Linear .*network="):
        load(path)
    loaded = load(path, network=Linear(2, model.network.module.in_features - 2))
    x = torch.randn(3, 2, generator=generator)
    conditions = (torch.full((3,), 0.5),) * config.conditions
    with torch.no_grad():
        assert torch.equal(loaded(x, *conditions), model(x, *conditions))
    exactly(load(save_model(loaded, tmp_path / "again"), network=Linear(2, config.conditions)), model)
    with pytest.raises(CheckpointError, match=r"module\.weight is .* in the file"):
        load(path, network=Linear(3, 1))


def test_a_given_network_may_take_the_place_of_ours(tmp_path):
    config = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1))
    mine = config.network.build((2,), 1).double()
    loaded = load(save_model(config.build(), tmp_path / "m.safetensors"), network=mine)
    assert loaded.network is mine
    assert loaded.dtype == torch.float64


def trained(model, folder, **changes):
    """A run of `train()` with a model that is nobody's configuration, and its averages."""
    draws = UniformTimes() if model.kind == "score" else make_draws(CONFIG.conditioning, model.schedule)
    objective = ObjectiveConfig() if model.kind == "score" else ObjectiveConfig("proximal-matching", zetas=(1.0,))
    logging = replace(CONFIG.logging, preview_every=0)
    settings = Settings(training=TrainingConfig(2, 4, ema=(0.9, 0.5), device="cpu"), logging=logging)
    train_any(model, torch.rand(9, 2), draws, objective, settings, folder, progress=False)
    model.network.load_state_dict(store.latest(folder).read("ema-0.9"))
    return model


@pytest.mark.parametrize(
    "make", [lambda: ScoreModel(Linear(2, 1), Cosine(), "v"), lambda: ProxModel(Linear(2, 2), VPSDE(0.2, 9.0), "prox")]
)
def test_a_run_without_a_configuration_is_loaded_with_its_network(tmp_path, capsys, make):
    model = trained(make(), tmp_path / "run")
    loaded = load(tmp_path / "run", network=make().network)
    exactly(loaded, model)
    assert type(loaded) is type(model)
    assert (loaded.schedule, loaded.parametrisation) == (model.schedule, model.parametrisation)
    assert find(tmp_path / "run").weight_sets == ("ema-0.9", "ema-0.5", "raw")
    with pytest.raises(CheckpointError, match=r"test_own_networks\.Linear .*network="):
        load(tmp_path / "run")
    assert main(["info", str(tmp_path / "run"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["network"].endswith("test_own_networks.Linear")
    assert (facts["model"], facts["shape"], facts["schedule"]) == (model.kind, [2], str(model.schedule))
    assert (facts["training_steps"], facts["step"], facts["batch_size"]) == (2, 2, 4)
    assert facts["data"].endswith("9 of 2")


def test_a_run_with_a_network_of_ours_needs_no_network_one_with_a_schedule_of_nobody_is_in_words(tmp_path):
    class Mine(VPSDE):
        pass

    model = trained(ScoreModel(MLP(MLPConfig(2, 8, 1))), tmp_path / "run")
    exactly(load(tmp_path / "run"), model)
    assert load(tmp_path / "run").config.network == MLPConfig(2, 8, 1)
    trained(ScoreModel(Linear(2, 1), Mine()), tmp_path / "mine")
    with pytest.raises(CheckpointError, match=r"^[^\n]*in words only.*load_state_dict[^\n]*$"):
        load(tmp_path / "mine", network=Linear(2, 1))
