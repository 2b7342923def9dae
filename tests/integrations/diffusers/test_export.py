"""Our models as models and pipelines of diffusers."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel

import proxdm
from proxdm.config import ModelConfig
from proxdm.integrations.diffusers import NetworkModel, ProxPipeline, load, to_diffusers, to_pipeline
from proxdm.integrations.diffusers.meaning import DiffusersError
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.schedules import VE, Cosine, Discrete, Flow
from tiny_models import random_model, random_prior


def made(kind="score", network=None, meaning="epsilon", schedule=None, shape=(3, 16, 16)):
    conditioning = "time" if kind == "score" else "time-lam"
    network = network or UNetConfig(shape[0], 8, (1, 2), (1,), 1, 0.0, conditioning)
    return random_model(ModelConfig(kind, shape, network, meaning, schedule or proxdm.VPSDE()), std=0.1)


@pytest.mark.parametrize("meaning", ["epsilon", "v", "x0"])
@pytest.mark.parametrize(
    "network",
    [
        UNetConfig(3, 32, (1, 2), (1,), 1, 0.1),
        UNetConfig(3, 32, (1, 2, 2), (0, 2), 2, 0.0),
        UNetConfig(3, 32, (1, 2, 2, 2), (1,), 2, 0.1),  # the paper's
    ],
)
def test_unet_becomes_a_unet2d(network, meaning, generator):
    model = made(network=network, meaning=meaning)
    theirs = to_diffusers(model)
    assert isinstance(theirs, UNet2DModel)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    for index in (0, 417, 999):
        with torch.no_grad():
            ours, said = model(x, (index + 1) / 1000), theirs(x, index).sample
        torch.testing.assert_close(said, ours, rtol=1e-5, atol=1e-5 * ours.abs().max().item())


SCHEDULES = [None, Cosine(), Discrete.scaled_linear()]
MEANINGS = ["epsilon", "v", "x0", "edm", "flow"]


@pytest.mark.parametrize(
    ("schedule", "meaning"), [*((one, meaning) for one in SCHEDULES for meaning in MEANINGS), (Flow(), "flow")]
)
def test_any_score_model_goes_out_and_comes_back(tmp_path, meaning, schedule):
    model = made(meaning=meaning, schedule=schedule)
    assert isinstance(to_diffusers(model), NetworkModel)
    to_pipeline(model).save_pretrained(tmp_path)
    again = load(tmp_path)
    for t in (0.001, 0.3, 0.9):
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(again.denoise(x, t), model.denoise(x, t), rtol=1e-3, atol=1e-4)


def test_out_and_back_with_its_prior_draws_the_same(tmp_path):
    model = made(shape=(1, 8, 8))
    model.prior = random_prior(schedule=model.schedule)
    to_pipeline(model).save_pretrained(tmp_path)
    again = load(tmp_path)
    first, second = (proxdm.sample(one, "multistep", 2, (3, 1, 8, 8), seed=0) for one in (model, again))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_score_model_draws_in_a_plain_pipeline(tmp_path):
    to_pipeline(made()).save_pretrained(tmp_path)
    pipe = DDPMPipeline.from_pretrained(tmp_path)
    assert isinstance(pipe.scheduler, DDPMScheduler)
    assert pipe(batch_size=2, num_inference_steps=3, output_type="np").images.shape == (2, 16, 16, 3)


def test_prox_model_is_a_pipeline_of_ours(tmp_path):
    model = made("prox")
    to_pipeline(model).save_pretrained(tmp_path)
    pipe = DiffusionPipeline.from_pretrained(tmp_path)
    assert isinstance(pipe, ProxPipeline)
    images = pipe(2, torch.Generator().manual_seed(3), 4, output_type="pt").images
    x = proxdm.sample(model, "prox-hybrid", 4, (2, 3, 16, 16), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(images, (x / 2 + 0.5).clamp(0, 1))
    assert pipe(1, num_inference_steps=2).images[0].size == (16, 16)


def test_what_diffusers_has_no_place_for_is_refused():
    with pytest.raises(DiffusersError, match="variance-preserving"):
        to_pipeline(made(schedule=VE()))
    with pytest.raises(DiffusersError, match="predictions of v is neither"):
        to_pipeline(made(meaning="v", schedule=Flow()))
    with pytest.raises(DiffusersError, match="pictures"):
        to_diffusers(made(network=MLPConfig(2), shape=(2,)))
