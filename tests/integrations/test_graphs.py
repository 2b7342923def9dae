"""Models and samplers as graphs: the numbers of `sample`, by torch.export and by onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import proxdm
from proxdm.checkpoints.portable import save_model
from proxdm.cli import main
from proxdm.config import ModelConfig
from proxdm.networks import UNetConfig
from proxdm.priors import GainCurve, fit_prior


@pytest.fixture
def model(request):
    """A random score model with a prior, `mixture` unless a test says."""
    return random_model(getattr(request, "param", "mixture"))


def random_model(kind):
    torch.manual_seed(0)
    config = ModelConfig("score", (1, 8, 8), UNetConfig(1, 8, (1, 2), (1,), 1, 0.0))
    made = config.build().eval()
    made.config = config
    for parameter in made.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    if kind != "none":
        images = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
        prior = fit_prior(images, components=3 if kind == "mixture" else 1)
        made.prior = replace(prior, curve=GainCurve((1.0, 3.0), (0.5, 1.0), 8, str(made.schedule)))
    return made


def noise(count):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def run(path, **inputs):
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(*inputs.values()).detach()
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {key: value.numpy() for key, value in inputs.items()})[0])


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
def test_sampler_in_a_file_draws_what_sample_draws(model, tmp_path, to, sampler, capsys):
    if to == "onnx":
        pytest.importorskip("onnxscript")
    save_model(model, tmp_path / "m.safetensors")
    out = tmp_path / ("s.onnx" if to == "onnx" else "s.pt2")
    command = f"export {tmp_path}/m.safetensors --to {to} --out {out} --steps 3 --sampler {sampler}"
    assert main(command.split()) == 0, capsys.readouterr().err
    for count in (1, 5):  # the batch is open
        z = noise(count)
        expected = proxdm.sample(model, sampler, 3, noise=SimpleNamespace(initial=lambda z=z: z, step=None))
        torch.testing.assert_close(run(out, noise=z), expected, rtol=1e-4, atol=1e-4)
    assert main(command.split()) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.slow
def test_a_class_with_guidance_in_a_file(tmp_path):
    out = tmp_path / "s.pt2"
    told = "--class 3 --guidance 2 --steps 2"
    torch.manual_seed(0)
    model = ModelConfig("score", (1, 8, 8), UNetConfig(1, 12, (1, 2), (1,), 1, 0.0, classes=4), classes=tuple("0123"))
    model = model.build().eval()
    for parameter in model.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    labels = torch.arange(300) % 4
    images = (torch.randn(300, 1, 8, 8) / 3 + labels[:, None, None, None] / 2 - 0.75).clamp(-1, 1)
    prior = fit_prior(images, components=4, labels=labels)
    model.prior = replace(prior, curve=GainCurve((1.0, 3.0), (0.5, 1.0), 8, str(model.schedule)))
    save_model(model, tmp_path / "m.safetensors")
    assert main(f"export {tmp_path}/m.safetensors --to torch-export --out {out} {told}".split()) == 0
    for count in (1, 5):
        z = noise(count)
        given = SimpleNamespace(initial=lambda z=z: z, step=None)
        expected = proxdm.sample(model, "multistep", 2, noise=given, classes="3", guidance=2)
        torch.testing.assert_close(run(out, noise=z), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["none"], indirect=True)
def test_network_alone(model, tmp_path):
    save_model(model, tmp_path / "m.safetensors")
    out = tmp_path / "m.pt2"
    assert main(f"export {tmp_path}/m.safetensors --to torch-export --out {out} --batch 3".split()) == 0
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
def test_bad_input_is_one_line(model, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    save_model(model, tmp_path / "m.safetensors")
    assert main(["export", "m.safetensors", *options.split()]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("a*"))


@pytest.mark.parametrize("model", ["mixture", "none"], indirect=True)
def test_diffusers_folder(model, tmp_path):
    pytest.importorskip("diffusers")
    save_model(model, tmp_path / "m.safetensors")
    assert main(f"export {tmp_path}/m.safetensors --to diffusers --out {tmp_path}/pipe".split()) == 0
    again = proxdm.load(f"hf:{tmp_path}/pipe")
    assert (again.prior is None) == (model.prior is None)
    x = noise(2)
    with torch.no_grad():
        np.testing.assert_allclose(again.denoise(x, 0.5), model.denoise(x, 0.5), rtol=1e-3, atol=1e-4)
