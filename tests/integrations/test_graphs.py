"""Models and samplers as graphs: the numbers of `sample`, by torch.export and by onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import proxdm
from proxdm.checkpoints.portable import save_model
from proxdm.config import ModelConfig
from proxdm.networks import UNetConfig
from proxdm.noise import GivenNoise
from tiny_models import SCORE, random_model, random_prior


@pytest.fixture
def model(request, tmp_path):
    """A random score model in a file, with a prior, `mixture` unless a test says."""
    made, kind = random_model(SCORE.model, std=0.1), getattr(request, "param", "mixture")
    if kind != "none":
        made.prior = random_prior(components=3 if kind == "mixture" else 1, schedule=made.schedule)
    save_model(made, tmp_path / "m.safetensors")
    return made


def noise(count):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def run(path, **inputs):
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(*inputs.values()).detach()
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {key: value.numpy() for key, value in inputs.items()})[0])


def assert_draws_alike(path, model, sampler, steps, **told):
    for count in (1, 5):  # the batch is open
        z = noise(count)
        expected = proxdm.sample(model, sampler, steps, noise=GivenNoise(z), **told)
        torch.testing.assert_close(run(path, noise=z), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "to", "sampler"),
    [
        ("mixture", "onnx", "multistep"),
        ("mixture", "torch-export", "multistep"),
        ("none", "torch-export", "unipc"),
        ("gaussian", "onnx", "ddim"),
    ],
    indirect=["model"],
)
def test_sampler_in_a_file_draws_what_sample_draws(model, tmp_path, to, sampler, succeeds, refused):
    if to == "onnx":
        pytest.importorskip("onnxscript")
    out = tmp_path / ("s.onnx" if to == "onnx" else "s.pt2")
    command = f"export {tmp_path}/m.safetensors --to {to} --out {out} --steps 3 --sampler {sampler}"
    succeeds(command)
    assert_draws_alike(out, model, sampler, 3)
    assert "exists already" in refused(command)


@pytest.mark.slow
def test_a_class_with_guidance_in_a_file(tmp_path, succeeds):
    out = tmp_path / "s.pt2"
    told = "--class 3 --guidance 2 --steps 2"
    network = UNetConfig(1, 12, (1, 2), (1,), 1, 0.0, classes=4)
    model = random_model(ModelConfig("score", (1, 8, 8), network, classes=tuple("0123")), std=0.1)
    model.prior = random_prior(components=4, schedule=model.schedule, labels=torch.arange(64) % 4)
    save_model(model, tmp_path / "m.safetensors")
    succeeds(f"export {tmp_path}/m.safetensors --to torch-export --out {out} {told}")
    assert_draws_alike(out, model, "multistep", 2, classes="3", guidance=2)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["none"], indirect=True)
def test_network_alone(model, tmp_path, succeeds):
    out = tmp_path / "m.pt2"
    succeeds(f"export {tmp_path}/m.safetensors --to torch-export --out {out} --batch 3")
    x, t = noise(3), torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        torch.testing.assert_close(run(out, x=x, t=t), model.denoise(x, t))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--to onnx --out a.bin", "must end in .onnx"),
        ("--to onnx --out a.onnx --steps 0", "--steps = 0"),
        ("--to onnx --out a.onnx --sampler ddim", "give --steps"),
        ("--to diffusers --out a --steps 3", "leave it out"),
        ("--to torch-export --out a.pt2 --steps 3 --sampler ddim(eta=1)", "draws noise"),
        ("--to onnx --out a.onnx --guidance 2", "--guidance is of a sampler: give --steps"),
        ("--to onnx --out a.onnx --class 3", "--class is of a sampler: give --steps"),
        ("--to onnx --out a.onnx --steps 3 --class 3", "the model knows no classes"),
    ],
)
def test_bad_input_is_one_line(model, tmp_path, monkeypatch, refused, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(f"export m.safetensors {options}")
    assert not list(tmp_path.glob("a*"))


def test_diffusers_folder(model, tmp_path, succeeds):
    pytest.importorskip("diffusers")
    succeeds(f"export {tmp_path}/m.safetensors --to diffusers --out {tmp_path}/pipe")
    again = proxdm.load(f"hf:{tmp_path}/pipe")
    assert again.prior is not None
    x = noise(2)
    with torch.no_grad():
        np.testing.assert_allclose(again.denoise(x, 0.5), model.denoise(x, 0.5), rtol=1e-3, atol=1e-4)
