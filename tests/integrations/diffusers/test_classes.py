"""Models of classes, in and out: a DiT, a UNet2DModel with class embeddings, our own."""

import json

import pytest
import torch

from proxdm import sample
from proxdm.config import ModelConfig
from proxdm.networks import UNetConfig

diffusers = pytest.importorskip("diffusers")
from proxdm.integrations.diffusers import load, to_pipeline  # noqa: E402
from proxdm.integrations.diffusers.meaning import DiffusersError  # noqa: E402
from small_diffusers import unet  # noqa: E402
from tiny_models import random_model, shaken  # noqa: E402

TABLE = {"num_train_timesteps": 100, "beta_schedule": "linear"}


@pytest.fixture
def dit(tmp_path):
    torch.manual_seed(1)
    network = shaken(
        diffusers.DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=4, in_channels=3, out_channels=6, num_layers=1, sample_size=8,
            num_embeds_ada_norm=4, norm_num_groups=1,
        )
    )  # fmt: skip
    network.save_pretrained(tmp_path / "dit" / "transformer")
    diffusers.DDIMScheduler(**TABLE).save_pretrained(tmp_path / "dit" / "scheduler")
    index = {
        "_class_name": "DiTPipeline",
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "id2label": {"0": "tench", "1": "shark", "2": "hen", "3": "owl"},
    }
    (tmp_path / "dit" / "model_index.json").write_text(json.dumps(index))
    return tmp_path / "dit", network


def test_a_dit_is_a_model_of_classes(dit, tmp_path, succeeds):
    folder, network = dit
    model = load(folder)
    assert model.classes == ("tench", "shark", "hen", "owl")
    x, t, labels = torch.randn(3, 3, 8, 8), torch.tensor([0.1, 0.5, 0.9]), torch.tensor([2, 0, 4])
    index = (t * 100 - 1).round()
    expected = network(x, index, class_labels=labels).sample[:, :3]
    torch.testing.assert_close(model(x, t, labels), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(x, t), network(x, index, class_labels=torch.full((3,), 4)).sample[:, :3])
    owls = sample(model, "ddim", 2, (2, 3, 8, 8), classes="owl", guidance=1.5, seed=0)
    assert not torch.allclose(owls, sample(model, "ddim", 2, (2, 3, 8, 8), classes="hen", guidance=1.5, seed=0))
    out = str(tmp_path / "owls.npz")
    told = ["--class", "owl", "--guidance", "1.5", "--sampler", "ddim", "--steps", "2", "-n", "2", "--out", out]
    assert "4 evaluations each" in succeeds("sample", f"hf:{folder}", *told).out


def test_a_unet_of_classes_knows_of_no_absence(tmp_path):
    unet(num_class_embeds=3).save_pretrained(tmp_path)
    model = load(tmp_path, scheduler=diffusers.DDPMScheduler(**TABLE))
    assert model.classes == ("0", "1", "2")
    x = sample(model, "ddim", 2, (3, 1, 8, 8), seed=0)
    assert x.isfinite().all()
    for more in ({"guidance": 2.0}, {"classes": "any"}):
        with pytest.raises(DiffusersError, match="was not trained without a class"):
            sample(model, "ddim", 2, (3, 1, 8, 8), seed=0, **more)


@pytest.mark.parametrize("kind", ["score", "prox"])
def test_ours_goes_out_and_comes_back(kind, tmp_path):
    config = UNetConfig(1, 12, (1,), (), 1, 0.0, "time" if kind == "score" else "time-lam", classes=2)
    model = random_model(ModelConfig(kind, (1, 8, 8), config, classes=("cat", "dog")))
    pipeline = to_pipeline(model)
    pipeline.save_pretrained(tmp_path)
    if kind == "score":
        again = load(tmp_path)
        assert again.classes == ("cat", "dog")
        x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.6]), torch.tensor([1, 2])
        torch.testing.assert_close(again.denoise(x, t, labels), model.denoise(x, t, labels), atol=1e-4, rtol=1e-4)
        return
    told = {"batch_size": 2, "num_inference_steps": 5, "output_type": "pt"}
    drawn = pipeline(**told, classes="dog", guidance_scale=2.0, generator=torch.Generator().manual_seed(0)).images
    expected = sample(
        model, "prox-hybrid", 5, (2, 1, 8, 8), classes="dog", guidance=2.0, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(drawn, (expected / 2 + 0.5).clamp(0, 1))
