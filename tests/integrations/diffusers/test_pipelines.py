"""Models of diffusers as ours: schedules, predictions, conditions, files, and the verbs."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

import proxdm
from proxdm.integrations.diffusers import from_denoiser, load
from proxdm.integrations.diffusers.meaning import DiffusersError, schedule_of
from proxdm.priors import save_prior
from small_diffusers import conditional_unet, pipeline, unet
from tiny_models import random_prior


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_denoiser_is_that_of_the_scheduler(beta_schedule, prediction, generator):
    theirs = DDPMScheduler(beta_schedule=beta_schedule, prediction_type=prediction, clip_sample=False)
    network = unet()
    model = from_denoiser(network, theirs, (1, 8, 8))
    x = torch.randn(3, 1, 8, 8, generator=generator)
    for index in (0, 321, 999):
        with torch.no_grad():
            said = theirs.step(network(x, index).sample, index, x).pred_original_sample
            ours = model.denoise(x, (index + 1) / 1000)
        torch.testing.assert_close(ours, said, rtol=2e-5, atol=2e-5 * said.abs().max().item())


@pytest.mark.parametrize("kind", [DDIMScheduler, DPMSolverMultistepScheduler])
def test_our_sampler_on_a_loaded_model_equals_their_pipeline(kind, tmp_path):
    pipe = pipeline()
    pipe.scheduler = kind.from_config(pipe.scheduler.config, clip_sample=False, timestep_spacing="trailing")
    pipe.save_pretrained(tmp_path)
    theirs = pipe(batch_size=2, num_inference_steps=5, generator=torch.Generator().manual_seed(3), output_type="np")
    images = torch.as_tensor(theirs.images).permute(0, 3, 1, 2)
    x = proxdm.sample(
        load(tmp_path), f"diffusers:{kind.__name__}(timestep_spacing='trailing')", 5, (2, 1, 8, 8),
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    torch.testing.assert_close((x / 2 + 0.5).clamp(0, 1), images, rtol=0, atol=1e-5)


def test_zero_terminal_snr_ends_where_their_solvers_do():
    config = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction").config
    schedule = schedule_of(config)
    theirs = EulerDiscreteScheduler.from_config(config).alphas_cumprod
    found = schedule.alpha_bar(torch.tensor([0.001, 0.5, 0.999, 1.0])).float()
    torch.testing.assert_close(found[:3], theirs[[0, 499, 998]], rtol=1e-5, atol=0)
    assert 0 < found[3] < found[2]


def test_flow_is_rectified_flow(generator):
    model = from_denoiser(lambda x, i: x * 0 + i.reshape(-1, 1, 1, 1), FlowMatchEulerDiscreteScheduler(), (1, 8, 8))
    x = torch.randn(2, 1, 8, 8, generator=generator)
    # x_t = (1 - t) x_0 + t eps and v = eps - x_0, so x_0 = x - t v; the timestep is 1000 t.
    torch.testing.assert_close(model.denoise(x, 0.25), x - 0.25 * 250)
    assert str(model.schedule) == "Flow()"


def test_learned_variances_are_left_out(generator):
    x = torch.randn(2, 3, 4, 4, generator=generator)
    model = from_denoiser(lambda x, i: torch.cat([x, x * 9], 1), DDPMScheduler(), (3, 4, 4))
    torch.testing.assert_close(model.epsilon(x, 0.5), x)


def test_guidance_leads_away_from_the_unconditional(generator):
    def denoiser(x, timestep, c):
        return x * c.reshape(-1, 1, 1, 1)

    conditions = {"condition": {"c": torch.tensor([2.0])}, "unconditional": {"c": torch.tensor([0.5])}}
    model = from_denoiser(denoiser, DDPMScheduler(), (1, 4, 4), **conditions, guidance=3.0)
    x = torch.randn(5, 1, 4, 4, generator=generator)
    torch.testing.assert_close(model.epsilon(x, 0.5), x * (0.5 + 3 * 1.5))
    with pytest.raises(DiffusersError, match="unconditional"):
        from_denoiser(denoiser, DDPMScheduler(), (1, 4, 4), {"c": torch.ones(1)}, guidance=3.0)


def test_class_conditional_network_may_be_told_one_class_for_all(tmp_path, generator):
    network = unet(num_class_embeds=4)
    network.save_pretrained(tmp_path)
    model = load(tmp_path, scheduler=DDPMScheduler(), condition={"class_labels": torch.tensor([3])})
    x = torch.randn(2, 1, 8, 8, generator=generator)
    with torch.no_grad():
        said = network(x, 499, class_labels=torch.tensor([3, 3])).sample
    torch.testing.assert_close(model.epsilon(x, 0.5), said)


def test_what_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(DiffusersError, match="no network of diffusers"):
        load(tmp_path)
    with pytest.raises(DiffusersError, match="no folder"):
        load(tmp_path / "nothing here")
    unet().save_pretrained(tmp_path)
    with pytest.raises(DiffusersError, match="scheduler="):
        load(tmp_path)
    with pytest.raises(DiffusersError, match="EDMEulerScheduler has no table of betas"):
        load(tmp_path, scheduler=EDMEulerScheduler())
    conditional_unet().save_pretrained(tmp_path / "told")
    with pytest.raises(DiffusersError, match="'encoder_hidden_states': tensor"):
        load(tmp_path / "told", scheduler=DDPMScheduler())
    (tmp_path / "scheduler_config.json").write_text("{")
    with pytest.raises(DiffusersError, match="cannot be read"):
        load(tmp_path)


def test_from_the_hub(hub, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    pipeline().save_pretrained(tmp_path / "pipe")
    save_prior(random_prior(), tmp_path / "pipe" / "prior.safetensors")
    asked = []

    def snapshot_download(name, revision=None, **patterns):
        asked.append((name, revision, patterns))
        return str(tmp_path / "pipe")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load("someone/model@v2").config.shape == (1, 8, 8)
    ((name, revision, patterns),) = asked
    assert (name, revision) == ("someone/model", "v2")
    pipe = tmp_path / "pipe"
    there = [path.relative_to(pipe).as_posix() for path in pipe.rglob("*") if path.is_file()]
    rest = ["text_encoder/model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "sd-v1-5.safetensors"]
    assert sorted(filter_repo_objects([*there, *rest], **patterns)) == sorted(there)


def test_prior_in_the_folder_is_the_models_own(tmp_path):
    pipeline().save_pretrained(tmp_path)
    save_prior(random_prior(), tmp_path / "prior.safetensors")
    model = proxdm.load(f"hf:{tmp_path}")
    assert model.prior.curve.schedule == str(model.schedule)  # gains are in ratios
    assert proxdm.sample(model, "multistep", 2, (2, 1, 8, 8), seed=0).isfinite().all()


@pytest.mark.slow
def test_every_verb_takes_a_pipeline(tmp_path, monkeypatch, succeeds, refused):
    monkeypatch.chdir(tmp_path)
    pipeline().save_pretrained("pipe")
    real = "--reference real --metrics sliced-w2 --samples 32 --features pixels --grey"
    for command in (
        "sample hf:pipe --steps 3 -n 4 -o a.png",
        "prior fit hf:pipe --samples 300 --components 1",
        "prior show hf:pipe",
        "sample hf:pipe --steps 2 -n 4 -o b.npz",
        "sample hf:pipe -n 64 --steps 4 --prior none -o real",
        f"tune hf:pipe {real} --sampler dpm++2m --steps 2 --budget 3",
        f"evaluate hf:pipe {real} --sampler dpm++2m multistep --steps 2 --out ev",
        f"compare hf:pipe {real} --sampler ddim --steps 2 --out cmp",
    ):
        succeeds(command)
    model = proxdm.load("hf:pipe")
    assert model.prior.facts.count == 300
    assert "dpm++2m" in model.grids
    assert "another library" in refused("info hf:pipe")
    assert "no folder nowhere" in refused("sample hf:nowhere")


def test_stored_curve_of_another_network_is_not_mistaken(tmp_path):
    model = from_denoiser(unet(), DDPMScheduler(), (1, 8, 8))
    with pytest.raises(proxdm.priors.PriorError, match="VE"):
        proxdm.sample(model, "multistep", 2, (1, 1, 8, 8), prior=random_prior(schedule="VE()"))
