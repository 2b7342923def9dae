"""The sampler in pipelines of diffusers: equal to our own, whatever the pipeline does with a scheduler."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LDMPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    VQModel,
)
from diffusers.image_processor import VaeImageProcessor

import proxdm
from proxdm.grids import TimeGrid
from proxdm.integrations.diffusers import ProxMultistepScheduler, from_denoiser
from proxdm.integrations.diffusers.meaning import schedule_of
from proxdm.noise import GivenNoise
from small_diffusers import conditional_unet, pipeline, unet
from tiny_models import random_prior

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ours(network, config, shape, steps, wanted, **condition):
    model = from_denoiser(network, config, shape[1:], **condition)
    return proxdm.sample(model, "multistep", steps, shape, prior=wanted or False, generator=seeded(), start=None)


def close(images, x, atol=1e-5):
    found = torch.as_tensor(images.images).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=atol)


def prior_for(scheduler, shape=(1, 8, 8)):
    return random_prior(shape, schedule=schedule_of(scheduler.config))


def drawn(pipe, count, steps):
    return pipe(batch_size=count, num_inference_steps=steps, generator=seeded(), output_type="np")


@pytest.fixture
def pipe():
    return pipeline()


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_ddpm_pipeline(steps, attached, prediction):
    pipe = pipeline(prediction_type=prediction)
    prior = prior_for(pipe.scheduler)
    x = ours(pipe.unet, pipe.scheduler, (3, 1, 8, 8), steps, prior)
    scheduler = ProxMultistepScheduler.from_config(pipe.scheduler.config, prior=prior)
    calls = []
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    if attached:
        scheduler.attach(pipe)
    else:
        pipe.scheduler = scheduler
    for _ in range(2):  # a pipeline is used more than once
        calls.clear()
        with nullcontext() if attached else pytest.warns(UserWarning, match="attach"):
            images = drawn(pipe, 3, steps)
        close(images, x)
        assert len(calls) == steps + (not attached)


def test_attached_twice_it_warms_up_once(pipe):
    prior = prior_for(pipe.scheduler)
    x = ours(pipe.unet, pipe.scheduler, (3, 1, 8, 8), 3, prior)
    scheduler, other = (ProxMultistepScheduler.from_config(pipe.scheduler.config, prior=prior) for _ in range(2))
    for one in (scheduler, other, scheduler, scheduler):
        one.attach(pipe)
    close(drawn(pipe, 3, 3), x)
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)  # another scheduler is not disturbed
    pipe(batch_size=1, num_inference_steps=2, output_type="np")


def test_without_a_prior_it_is_the_usual_multistep(pipe):
    x = ours(pipe.unet, pipe.scheduler, (3, 1, 8, 8), 6, None)
    pipe.scheduler = ProxMultistepScheduler.from_config(pipe.scheduler.config)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        close(drawn(pipe, 3, 6), x)


def test_unconditional_latent_pipeline():
    torch.manual_seed(1)
    vqvae = VQModel(3, 3, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=1, num_vq_embeddings=8,
                    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip
    network, scheduler = unet(), DDIMScheduler(beta_schedule="scaled_linear")
    prior = prior_for(scheduler)
    pipe = LDMPipeline(vqvae=vqvae, unet=network, scheduler=scheduler)
    pipe.scheduler = ProxMultistepScheduler.from_config(scheduler.config, prior=prior)
    latents = ours(network, scheduler, (2, 1, 8, 8), 3, prior)
    with torch.no_grad():
        x = vqvae.decode(latents / vqvae.config.scaling_factor).sample
    close(drawn(pipe, 2, 3), x, atol=1e-4)


def stable_diffusion(kind=StableDiffusionPipeline):
    network = conditional_unet()
    vae = AutoencoderKL(3, 3, latent_channels=4, block_out_channels=(8,), norm_num_groups=4)
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return kind(
        vae=vae, text_encoder=None, tokenizer=None, unet=network, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_stable_diffusion_with_guidance(guidance):
    pipe = stable_diffusion()
    told, untold = torch.randn(2, 1, 4, 8, generator=seeded(9))
    conditions = ({"encoder_hidden_states": one} for one in (told, untold))
    model = from_denoiser(pipe.unet, pipe.scheduler, (4, 8, 8), *conditions, guidance)
    begin = {"prior": prior_for(pipe.scheduler, (4, 8, 8)), "start": 2.0}
    x = proxdm.sample(model, "multistep", 3, (2, 4, 8, 8), **begin, generator=seeded())
    pipe.scheduler = ProxMultistepScheduler.from_config(pipe.scheduler.config, **begin)
    found = pipe(
        prompt_embeds=told.repeat(2, 1, 1), negative_prompt_embeds=untold.repeat(2, 1, 1), guidance_scale=guidance,
        num_inference_steps=3, generator=seeded(), output_type="latent", height=8, width=8,
    ).images  # fmt: skip
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-5 * x.abs().max().item())


def test_image_to_image_starts_at_the_noised_picture():
    pipe = stable_diffusion(StableDiffusionImg2ImgPipeline)
    told = torch.randn(1, 4, 8, generator=seeded(9))
    picture = torch.rand(1, 3, 8, 8, generator=seeded(1))
    pipe.scheduler = scheduler = ProxMultistepScheduler.from_config(pipe.scheduler.config)
    seen = []
    found = pipe(
        prompt_embeds=told, image=picture, strength=0.5, guidance_scale=1.0, num_inference_steps=6,
        generator=seeded(), output_type="latent",
        callback_on_step_end=lambda pipe, i, t, given: (seen.append(t), given)[1],
    ).images  # fmt: skip
    assert len(seen) == 3
    # The same by hand: the encoder's draw, noise, and the second half of the grid.
    generator = seeded()
    shown = VaeImageProcessor(vae_scale_factor=1).preprocess(picture)
    with torch.no_grad():
        latent = pipe.vae.encode(shown).latent_dist.sample(generator) * pipe.vae.config.scaling_factor
    noise = torch.randn(latent.shape, generator=generator)
    model = from_denoiser(pipe.unet, scheduler.config, (4, 8, 8), {"encoder_hidden_states": told})
    times = scheduler.grid.times[3:]
    start = model.schedule.perturb(latent, times[0], noise)
    x = proxdm.solve("multistep", model, TimeGrid(times, "the rest"), GivenNoise(start)).x
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5 * x.abs().max().item())


def test_img2img_and_inpainting_are_not_warmed_up():
    scheduler = ProxMultistepScheduler(prior=random_prior())
    scheduler.set_timesteps(4)
    x = torch.randn(2, 1, 8, 8, generator=seeded())
    noised = scheduler.add_noise(x, x, scheduler.timesteps[:1].repeat(2))
    assert scheduler.scale_model_input(noised) is noised
    scheduler.set_timesteps(4)
    scheduler.set_begin_index(1)
    assert scheduler.scale_model_input(x) is x
    scheduler.set_timesteps(4)
    scheduler.set_begin_index(0)  # what some pipelines say at full strength: noise it is
    assert scheduler.scale_model_input(x) is not x


def test_half_precision_is_computed_in_float32(pipe):
    ProxMultistepScheduler.from_config(pipe.scheduler.config, prior=random_prior()).attach(pipe)
    pipe.unet.to(torch.float16)
    assert torch.as_tensor(drawn(pipe, 2, 3).images).isfinite().all()


def test_saved_with_its_prior_and_read_back(pipe, tmp_path):
    ProxMultistepScheduler.from_config(pipe.scheduler.config, prior=random_prior()).attach(pipe)
    pipe.save_pretrained(tmp_path)
    again = DDPMPipeline.from_pretrained(tmp_path)
    assert isinstance(again.scheduler, ProxMultistepScheduler)
    again.scheduler.attach(again)
    assert (drawn(pipe, 2, 2).images == drawn(again, 2, 2).images).all()
    other = random_prior((4, 8, 8))
    assert ProxMultistepScheduler.from_pretrained(tmp_path, subfolder="scheduler").prior.shape == (1, 8, 8)
    assert ProxMultistepScheduler.from_pretrained(tmp_path, subfolder="scheduler", prior=other).prior is other


def test_flow_configuration_is_understood():
    config = FlowMatchEulerDiscreteScheduler(shift=3.0).config
    scheduler = ProxMultistepScheduler.from_config(config, prior=random_prior())
    assert str(scheduler.schedule) == "Flow()"
    scheduler.set_timesteps(2)
    assert scheduler.timesteps[0].item() == pytest.approx(1000 * float(scheduler.grid.times[0]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ProxMultistepScheduler(prediction_type="noise"), "prediction_type = 'noise'"),
        (lambda: ProxMultistepScheduler().set_timesteps(3, timesteps=[9, 5, 1]), "leave timesteps out"),
        (lambda: ProxMultistepScheduler(prior=None, start=1.0).set_timesteps(3), "needs a prior"),
        (lambda: ProxMultistepScheduler(prior=replace(random_prior(), curve=None)).set_timesteps(2), "start="),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
