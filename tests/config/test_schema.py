"""Configurations: every contradiction is an error that names the field, and models come out as described."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from proxdm import config as configs
from proxdm.conditioning import ConditioningConfig
from proxdm.config import Config, ConfigError, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.data.load import DataConfig
from proxdm.errors import StepError
from proxdm.losses import ObjectiveConfig
from proxdm.models import ProxModel, ScoreModel
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.schedules import VE, VPSDE, Cosine, Discrete, Flow
from runs import changed

SCORE = Config("mine", DataConfig("digits"), ModelConfig("score", (2,), MLPConfig(2, 8, 1)))
PROX = Config(
    "mine",
    DataConfig("digits"),
    ModelConfig("prox", (2,), MLPConfig(2, 8, 1, conditioning="time-lam"), schedule=VPSDE(beta_max=10.0)),
    ObjectiveConfig("proximal-matching", "prox", 3, (2.0, 1.0)),
    ConditioningConfig("prox-backward", "knots", (10, 20), (1.0, 2.5)),
    OptimiserConfig(1e-3, 1e-4, 10, 1.0),
    TrainingConfig(10, 4, 2, ema=(0.9, 0.99)),
)


@pytest.mark.parametrize("schedule", [VPSDE(0.2, 15.0), Discrete((0.1, 0.2)), Cosine(), VE(), Flow()])
@pytest.mark.parametrize("parametrisation", ["epsilon", "v", "x0", "flow", "edm"])
def test_every_schedule_and_parametrisation_is_stored(schedule, parametrisation):
    config = replace(SCORE.model, schedule=schedule, parametrisation=parametrisation)
    assert configs.from_json(configs.to_json(config), ModelConfig) == config
    model = config.build()
    assert (model.schedule, model.parametrisation.name) == (schedule, parametrisation)
    assert ("beta_min" in json.loads(configs.to_json(config))) == isinstance(schedule, VPSDE)


def test_the_schedule_can_be_changed_in_the_old_and_in_the_new_form():
    other = configs.overlay(SCORE, {"model": {"schedule": {"type": "cosine"}}})
    assert other.model.schedule == Cosine()
    assert configs.overlay(other, {"model": {"beta_max": 12}}).model.schedule == VPSDE(beta_max=12.0)
    assert configs.overlay(PROX, {"model": {"beta_min": 0.2}}).model.schedule == VPSDE(0.2, 10.0)
    with pytest.raises(ConfigError, match=r"model.schedule.beta_min = '1' must be a number"):
        configs.overlay(PROX, {"model": {"beta_min": "1"}})


def test_build_gives_the_model_that_is_described():
    torch.manual_seed(0)
    score, prox = SCORE.model.build(), PROX.model.build()
    assert isinstance(score, ScoreModel)
    assert isinstance(prox, ProxModel)
    assert prox.schedule == VPSDE(0.1, 10.0)
    assert prox.config == PROX.model
    x, t = torch.zeros(3, 2), torch.full((3,), 0.5)
    assert score(x, t).shape == prox(x, t, t).shape == (3, 2)
    assert PROX.model.parameter_count() == sum(p.numel() for p in prox.parameters())
    assert ModelConfig("prox", (2,), PROX.model.network, "prox").build().parametrisation.name == "prox"


UNET, FEW = UNetConfig(1, 8, (1, 2)), ConditioningConfig("prox-backward", "knots", (5,))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ModelConfig("prior"), "model.kind = 'prior' must be one of 'score', 'prox'"),
        (lambda: ModelConfig("prox", (3, 32, 32)), "does not fit the prox model: conditioning = 'time'.*'time-lam'"),
        (lambda: ModelConfig(parametrisation="prox"), "unknown score parametrisation 'prox'"),
        (lambda: replace(PROX.model, parametrisation="edm"), "unknown prox parametrisation 'edm'"),
        (lambda: ModelConfig(shape=()), "must hold positive sizes"),
        (lambda: ModelConfig("score", (3,), MLPConfig(2)), "dim = 2, .*3 numbers"),
        (lambda: ModelConfig("score", (3, 8, 8), UNET), r"must have shape \(1, height, width\)"),
        (lambda: ModelConfig("score", (1, 8, 9), UNET), "multiples of 2"),
        (lambda: ModelConfig("score", (1, 8, 8), replace(UNET, out_channels=2)), "out_channels = 2 must be"),
        (lambda: configs.overlay(SCORE, {"model": {"beta_min": 50.0}}), "beta_min = 50.0 and beta_max = 20.0"),
        (lambda: OptimiserConfig(lr=0.0), "optimiser.lr = 0.0 must be positive"),
        (lambda: OptimiserConfig(clip=-1.0), "optimiser.clip = -1.0 must be positive"),
        (lambda: OptimiserConfig(warmup=-1), "optimiser.warmup = -1"),
        (lambda: OptimiserConfig(betas=(0.9, 1.0)), "optimiser.betas"),
        (lambda: TrainingConfig(steps=0), "training.steps = 0 must be at least 1"),
        (lambda: TrainingConfig(micro_batch=0), "training.micro_batch = 0 must be at least 1"),
        (lambda: TrainingConfig(seed=-1), "training.seed = -1"),
        (lambda: TrainingConfig(ema=(1.0,)), "training.ema"),
        (lambda: TrainingConfig(ema=(0.9, 0.9)), "different decays"),
        (lambda: LoggingConfig(every=0), "logging.every = 0 must be at least 1"),
        (lambda: LoggingConfig(keep=-1), "logging.keep = -1 must be at least 0"),
        (lambda: replace(SCORE, conditioning=PROX.conditioning), "score models none"),
        (lambda: replace(PROX, conditioning=SCORE.conditioning), "prox models need a proximal rule"),
        (lambda: replace(SCORE, objective=PROX.objective), "does not fit a score model"),
        (lambda: replace(PROX, training=TrainingConfig(3)), "l1_steps = 3 leaves nothing of training.steps = 3"),
        (lambda: replace(SCORE, optimiser=OptimiserConfig(l1_lr=1.0)), "l1_lr = 1.0 needs an l1 phase"),
        (lambda: replace(PROX, conditioning=FEW, model=replace(PROX.model, schedule=VPSDE())), "gamma < 2"),
    ],
)
def test_contradictions_are_errors(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_previews_must_be_possible():
    """A preview that cannot be sampled would stop a run when it is due, hours later."""
    with pytest.raises(StepError, match="gamma < 2 only; use N = 5 steps or more"):
        replace(PROX, logging=LoggingConfig(preview_steps=3))
    replace(PROX, logging=LoggingConfig(preview_steps=3, preview_every=0))
    assert (repr(SCORE.preview_sampler), repr(PROX.preview_sampler)) == ("ode-euler", "prox-backward")


def test_round_trips_are_exact_and_overlay_changes_what_is_named_only():
    assert configs.overlay(SCORE, {}) == SCORE
    assert configs.from_json(configs.to_json(PROX)) == PROX
    found = configs.overlay(PROX, {"training": {"steps": 7}, "model": {"network": {"width": 16}}})
    wider = replace(PROX.model.network, width=16)
    assert found == changed(PROX, training={"steps": 7}, model={"network": wider})
    with pytest.raises(ConfigError, match=r"unknown key 'training.step'.*'steps'"):
        configs.overlay(PROX, {"training": {"step": 7}})
