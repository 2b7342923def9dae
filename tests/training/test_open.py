"""Training of networks and data that are nobody's configuration: saved, resumed to the last bit, described."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archives import png_metadata
from proxdm.checkpoints import store
from proxdm.conditioning import ConditioningConfig, UniformTimes, make_draws
from proxdm.config import ConfigError, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.losses import ObjectiveConfig
from proxdm.models import ProxModel, ScoreModel
from proxdm.networks import MLPConfig
from proxdm.schedules import VPSDE
from proxdm.training import Settings, train
from runs import assert_same, changed

MATCHING = ObjectiveConfig("proximal-matching", l1_steps=3, zetas=(1.0,))
SETTINGS = Settings(
    OptimiserConfig(1e-3),
    TrainingConfig(8, 16, ema=(0.9,), device="cpu"),
    LoggingConfig(every=4, checkpoint_every=3, preview_every=8, preview_samples=16, preview_steps=5),
)


class Net(nn.Module):
    """A network of somebody else's, with a frozen parameter, a shared one and a buffer."""

    def __init__(self, seed=0, conditions=1, shape=(2,)):
        super().__init__()
        torch.manual_seed(seed)
        size = torch.Size(shape).numel()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.body = nn.Sequential(nn.Linear(size + conditions, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, size))
        self.again = self.body[0]

    def forward(self, x, *conditions):
        h = torch.cat([x.flatten(1), *(c[:, None].to(x) for c in conditions)], 1)
        return self.scale * self.body(h).reshape(x.shape)


def score(seed=0, **options):
    return ScoreModel(Net(seed, **options), config={"own": 1}), UniformTimes(), ObjectiveConfig()


def prox(seed=0, **options):
    draws = make_draws(ConditioningConfig("prox-hybrid", "knots", (5, 10)), VPSDE())
    return ProxModel(Net(seed, 2, **options)), draws, MATCHING


@pytest.fixture
def points():
    return torch.randn(21, 2, generator=torch.Generator().manual_seed(0))


def run(parts, data, out, settings=SETTINGS, **options):
    model, draws, objective = parts
    return train(model, data, draws, objective, settings, out, progress=False, **options)


@pytest.mark.parametrize("parts", [score, prox])
def test_any_network_resumes_to_the_last_bit(parts, points, tmp_path):
    whole = run(parts(), points, tmp_path / "whole")
    run(parts(), points, tmp_path / "run", changed(SETTINGS, training={"steps": 5}))
    resumed = parts(seed=9)
    second = run(resumed, points, tmp_path / "run", resume=True)
    assert second.step == 8
    # The phases of a longer run are those of the longer run: l1 until step 3 in both, one zeta after it.
    assert_same(second.checkpoint, whole.checkpoint)
    network = Net(5, conditions=1 if parts is score else 2)
    network.load_state_dict(store.latest(tmp_path / "run").read("ema-0.9"))
    assert torch.equal(network.state_dict()["body.1.running_mean"], resumed[0].network.body[1].running_mean)
    assert not any(path.suffix in (".pt", ".pth", ".pkl", ".bin") for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 4, 4), (2, 3, 2, 2)])
def test_samples_of_any_shape_and_datasets_with_labels(shape, tmp_path):
    x = torch.randn(9, *shape, generator=torch.Generator().manual_seed(1))
    pairs = torch.utils.data.TensorDataset(x, torch.arange(9))
    first = run(score(shape=shape), x, tmp_path / "tensor")
    second = run(score(shape=shape), pairs, tmp_path / "dataset")
    third = run(score(shape=shape), x.double().numpy(), tmp_path / "array")
    assert_same(first.checkpoint, second.checkpoint)
    assert_same(first.checkpoint, third.checkpoint)


def test_a_data_set_by_name_makes_a_preview_of_points(tmp_path):
    run(prox(), "datasaurus-star", tmp_path / "run")
    metadata = png_metadata(tmp_path / "run" / "previews" / "step-00000008.png")
    assert (metadata["sampler"], metadata["nfe"]) == ("prox-hybrid", 5)
    assert "datasaurus-star: 142 of 2" in (tmp_path / "run" / "config.json").read_text()


@pytest.mark.parametrize(
    "changed, message",
    [
        (lambda p: (score(shape=(3,)), torch.zeros(21, 3), SETTINGS), "model.*data"),
        (lambda p: (prox(), p, SETTINGS), "model.*draws.*objective"),
        (lambda p: (score(), p, changed(SETTINGS, optimiser={"lr": 1e-2})), r"optimiser\.lr"),
        (lambda p: (score(), p, changed(SETTINGS, training={"steps": 4})), "steps = 4"),
    ],
)
def test_a_run_goes_on_only_as_what_it_was(changed, message, points, tmp_path):
    run(score(), points, tmp_path / "run")
    parts, data, settings = changed(points)
    with pytest.raises(ConfigError, match=message):
        run(parts, data, tmp_path / "run", settings, resume=True)


def test_draws_must_fit_the_model(points, tmp_path):
    (model, draws, objective), (other, times, matching) = score(), prox()
    for parts in ((model, times, objective), (other, draws, matching)):
        with pytest.raises(ConfigError, match=f"fit a {parts[0].kind} model"):
            run(parts, points, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_with_a_description_stores_it_with_its_weights(points, tmp_path):
    described = ModelConfig("score", (2,), MLPConfig(2, 8, 1))
    result = run((described.build(), UniformTimes(), ObjectiveConfig()), points, tmp_path / "run")
    import proxdm

    model = proxdm.load(result.checkpoint / "ema-0.9.safetensors")
    assert model.config == described
    with pytest.raises(ConfigError, match=r"\(3,\).*\(2,\)"):
        run((described.build(), UniformTimes(), ObjectiveConfig()), torch.zeros(4, 3), tmp_path / "other")
