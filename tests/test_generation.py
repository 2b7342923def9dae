"""From settings to sampler, grid and decoder: what would be ignored is an error, and the model decides what fits."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from proxdm.conditioning import ConditioningConfig
from proxdm.config import ModelConfig
from proxdm.errors import OperatorError
from proxdm.generation import (
    GridChoice,
    choose_rule,
    default_rule,
    default_steps,
    fitting_rules,
    has_latents,
    make_decoder,
)
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.presets import get_preset
from proxdm.rules import RULES


@pytest.fixture(scope="module")
def score():
    return get_preset("digits-score").model.build()


@pytest.fixture(scope="module")
def prox():
    return get_preset("digits-prox-hybrid").model.build()


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (GridChoice(), "denoising(4, eps=0.001)"),
        (GridChoice(eps=0.01), "denoising(4, eps=0.01)"),
        (GridChoice("log-snr", eps=0.01), "log-snr(4, eps=0.01)"),
        (GridChoice("power"), "power(4, rho=2)"),
        (GridChoice("power", rho=3.0), "power(4, rho=3)"),
        (GridChoice("uniform"), "uniform(4)"),
    ],
)
def test_grids(score, choice, name):
    assert choice.make(RULES["euler-maruyama"], 4, score).name == name


def test_settings_that_would_be_ignored_are_errors(prox):
    assert GridChoice().make(RULES["prox-hybrid"], 4, prox).name == "uniform(4)"
    with pytest.raises(ValueError, match=r"eps = 0.01 has an effect on .* prox-hybrid takes the uniform grid"):
        GridChoice(eps=0.01).make(RULES["prox-hybrid"], 4, prox)
    with pytest.raises(ValueError, match="rho = 2 has an effect on the power grid only"):
        GridChoice("uniform", rho=2.0)
    with pytest.raises(ValueError, match=r"eps = 0.01 has an effect on the denoising and log-snr grids only"):
        GridChoice("power", eps=0.01)


def test_the_model_decides_which_sampler_fits(score):
    assert choose_rule("ode-euler", score) is RULES["ode-euler"]
    assert choose_rule("euler-maruyama", score) is RULES["euler-maruyama"]
    with pytest.raises(OperatorError, match="prox"):
        choose_rule("prox-hybrid", score)
    with pytest.raises(ValueError, match="did you mean 'prox-hybrid'"):
        choose_rule("prox-hybird", score)


def test_pictures_are_decoded_by_doing_nothing(prox):
    shape, decode = make_decoder(prox, "none")
    assert shape == (1, 8, 8)
    assert not has_latents(prox)
    x = torch.ones(1)
    assert decode(x) is x


def test_samples_that_are_no_pictures():
    vector = ModelConfig("score", (2,), MLPConfig(2, 8, 1)).build()
    assert not has_latents(vector)
    with pytest.raises(ValueError, match=r"samples of shape \(2,\) are no pictures of 1 or 3 channels"):
        make_decoder(vector, "none")
    assert has_latents(ModelConfig("score", (4, 8, 8), UNetConfig(4, 8, (1,), (), 1, 0.0)).build())


PROX = get_preset("digits-prox-backward")


def test_the_default_sampler_is_the_rule_that_was_trained_for():
    assert default_rule(ModelConfig("score", (2,), MLPConfig(dim=2))).name == "euler-maruyama"
    assert default_rule(PROX).name == "prox-backward"
    assert default_rule(PROX.model).name == "prox-hybrid"


def test_the_default_steps_are_20_or_the_nearest_that_was_trained():
    def steps(*counts):
        return default_steps(dataclasses.replace(PROX, conditioning=ConditioningConfig("prox-hybrid", "knots", counts)))

    assert steps(5, 10, 20) == 20
    assert steps(50, 100) == 50
    assert default_steps(PROX.model) == 20


def test_samplers_fit_one_kind_of_model():
    assert "euler-maruyama" in fitting_rules("score")
    assert "prox-hybrid" in fitting_rules("prox")
    assert not set(fitting_rules("score")) & set(fitting_rules("prox"))
