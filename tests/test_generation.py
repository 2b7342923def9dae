"""From a model and a plan to samples: the model decides what fits, and nothing depends on batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from proxdm import sample
from proxdm.checkpoints.load import Opened, load
from proxdm.config import ModelConfig
from proxdm.errors import OperatorError, StepError
from proxdm.generation import (
    SamplePlan,
    choose_method,
    default_sampler,
    default_steps,
    fitting_samplers,
    generate,
    has_latents,
    make_decoder,
    operand,
)
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.operators import ProxFromDenoiser
from proxdm.pixels import to_uint8
from proxdm.presets import get_preset
from proxdm.priors import DenoiserPrior
from proxdm.samplers import SAMPLERS, find_sampler
from tiny_models import random_model


@pytest.fixture(scope="module")
def score():
    return random_model(get_preset("digits-score"))


@pytest.fixture(scope="module")
def prox():
    return random_model(get_preset("digits-prox-hybrid"))


@pytest.mark.parametrize("preset, name", [("digits-score", "multistep"), ("digits-prox-backward", "prox-backward")])
def test_the_training_decides_sampler_and_steps(preset, name):
    config = get_preset(preset)
    assert (repr(default_sampler(config)), default_steps(config)) == (name, 20)
    assert repr(default_sampler(config.model)) == {"score": "multistep", "prox": "prox-hybrid"}[config.model.kind]


def test_every_sampler_fits_one_kind_of_model():
    kinds = fitting_samplers("score"), fitting_samplers("prox")
    assert sorted([*kinds[0], *kinds[1]]) == sorted(SAMPLERS)
    assert all(SAMPLERS[name].operator == "prox" for name in kinds[1])


def test_a_sampler_gets_what_it_asks_for_or_is_refused(score, prox):
    assert operand(score, find_sampler("heun")) is score
    assert operand(prox, find_sampler("prox-ode")) is prox
    model = operand(score, find_sampler("prox-ode"))
    assert isinstance(model, ProxFromDenoiser)
    assert model.model is score
    assert choose_method(score, "ddim(eta=0.5)", "power").name == "ddim(eta=0.5)"
    with pytest.raises(OperatorError, match="score"):
        choose_method(prox, "ode-euler")


def test_samples_are_the_same_in_batches_and_handed_on(prox):
    plan, got = SamplePlan(steps=5, samples=5), []
    kept = generate(Opened(prox, "raw"), plan, frames=3)
    opened, batched = Opened(prox, "raw"), dataclasses.replace(plan, batch_size=2)
    handed = generate(opened, batched, frames=3, each=lambda start, batch: got.append((start, batch)))
    assert [start for start, _ in got] == [0, 2, 4]
    assert handed.samples.numel() == 0
    assert (torch.cat([batch for _, batch in got]).int() - kept.samples.int()).abs().max() <= 1
    assert kept.samples.dtype == torch.uint8
    assert [len(frame) for frame in handed.frames] == [3] * 6
    assert torch.equal(kept.frames[-1], kept.samples[:3])
    assert (kept.record["nfe"], kept.record["sampler"], kept.record["weights"]) == (5, "prox-hybrid", "raw")
    with pytest.raises(StepError):
        generate(opened, dataclasses.replace(plan, sampler="prox-backward", steps=3))


def test_what_is_unusual_is_issued_as_a_warning(score):
    with pytest.warns(UserWarning, match="posterior mean"):
        found = generate(Opened(score, "raw"), SamplePlan("prox-hybrid", 4, 1))
    assert found.record["operator"] == "posterior-mean"


def test_samples_are_decoded_by_doing_nothing_unless_they_are_latents(prox):
    shape, decode = make_decoder(prox, "none")
    assert shape == (1, 8, 8)
    assert not has_latents(prox)
    x = torch.ones(1)
    assert decode(x) is x
    vector = ModelConfig("score", (2,), MLPConfig(2, 8, 1)).build()
    assert not has_latents(vector)
    shape, decode = make_decoder(vector, "none")
    assert shape == (2,)
    assert decode(x) is x
    assert has_latents(ModelConfig("score", (4, 8, 8), UNetConfig(4, 8, (1,), (), 1, 0.0)).build())


def test_a_cheaper_network_as_prior(tmp_path, monkeypatch, succeeds, refused):
    monkeypatch.chdir(tmp_path)
    plan = "sample digits --sampler multistep --steps 2 -n 3 --out"
    assert "2 evaluations each" in succeeds(f"{plan} a.npz --prior denoiser:digits --start 1.5").out
    model = load("digits")
    prior = DenoiserPrior(model, shape=(1, 8, 8))
    expected = sample(model, "multistep", 2, (3, 1, 8, 8), prior=prior, start=1.5, seed=0)
    with np.load("a.npz") as file:
        np.testing.assert_array_equal(file["samples"], to_uint8(expected).numpy())
    for name, said in (("denoiser:digits", "start from (start=, --start 1.5)"), ("denoiser:nothing", "no model")):
        assert said in refused(f"{plan} b.npz --prior {name}")
