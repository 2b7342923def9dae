"""Extractors: what reaches the network, equality with pytorch-fid's pipeline on real pictures, every refusal."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score as score
from torch import nn

from proxdm.data import DataError, to_model_range
from proxdm.metrics.features import FeatureError, InputForm, load_extractor, load_module, save_module
from proxdm.runtime.files import sha256_of


class Mean(nn.Module):
    """Mean and largest value of every channel: a network whose input can be read off its output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)


FORM = {"name": "mean", "input_range": [0, 255], "channels": 3}


def script(path, form=FORM, module=None):
    """A TorchScript file that carries its metadata."""
    extra = {} if form is None else {"proxdm.json": json.dumps(form)}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch recommends exported programs
        torch.jit.save(torch.jit.script(module or Mean()), path, _extra_files=extra)
    return path


@pytest.fixture
def pictures(generator):
    """Random uint8 images `(5, 3, 8, 8)`."""
    return torch.randint(0, 256, (5, 3, 8, 8), generator=generator, dtype=torch.uint8)


# Pixels


def test_pixels_are_the_models_range_flattened_rounded_and_clipped_as_if_saved(pictures):
    extractor = load_extractor("pixels", (3, 8, 8))
    assert (extractor.name, extractor.dim, extractor.weights, extractor.resize) == ("pixels", 192, "", "none")
    assert torch.equal(extractor(pictures), (pictures / 127.5 - 1).flatten(1))
    noisy = to_model_range(pictures) + 0.4 / 127.5
    noisy[pictures == 255] = 7.0
    assert torch.equal(extractor(noisy), extractor(pictures))
    with pytest.raises(FeatureError, match="set up for images 3x8x8, got a batch 5x1x8x8"):
        extractor(pictures[:, :1])
    with pytest.raises(DataError, match="NaN among the images"):
        extractor(torch.full((1, 3, 8, 8), torch.nan))


# Module files


def program(path):
    """An exported program that carries its metadata."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(Mean(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes={"x": {0: batch}})
    torch.export.save(exported, path, extra_files={"proxdm.json": json.dumps(FORM)})
    return path


@pytest.mark.parametrize("write, name", [(script, "mean.pt"), (program, "mean.pt2")])
def test_modules_get_their_range_and_channels(write, name, pictures, tmp_path):
    path = write(tmp_path / name)
    extractor = load_extractor(path, (3, 8, 8))
    assert (extractor.name, extractor.dim, extractor.resize) == ("mean", 6, "none")
    assert extractor.weights == sha256_of(path)
    torch.testing.assert_close(extractor(pictures), Mean()(pictures.float()))
    expected = Mean()(pictures[:1, :1].expand(-1, 3, -1, -1).float())
    torch.testing.assert_close(load_extractor(path, (1, 8, 8))(pictures[:1, :1]), expected)


def test_metadata_beside_the_file(pictures, tmp_path):
    path = script(tmp_path / "mean.pt", form=None)
    beside = tmp_path / "mean.pt.json"
    beside.write_text(json.dumps({"input_range": [-1, 1], "channels": 3, "size": 4, "sha256": sha256_of(path)}))
    extractor = load_extractor(str(path), (3, 8, 8))
    assert extractor.name == "mean"
    assert extractor.resize == "bilinear to 4x4, half-pixel centres, no antialiasing"
    # half the size: the middle of two pixels on either axis, so the mean is kept
    torch.testing.assert_close(extractor(pictures)[:, :3], (pictures / 127.5 - 1).mean((2, 3)), rtol=1e-5, atol=1e-6)
    beside.write_text(json.dumps({"input_range": [-1, 1], "channels": 3, "sha256": "0" * 64}))
    with pytest.raises(FeatureError, match=r"has the SHA-256 .* says 000000000000"):
        load_extractor(path, (3, 8, 8))


def test_a_module_is_used_in_eval_mode_and_full_precision(pictures, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten())
    extractor = load_extractor(script(tmp_path / "d.pt", module=module), (3, 8, 8))
    features = extractor(pictures)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extractor(pictures), features)
    assert features.dtype == torch.float32
    assert not features.requires_grad


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"input_range": None}, "input_range = None must be a list of 2: a number, a number"),
        ({"input_range": [1, 0]}, r"input_range = \(1.0, 0.0\) must be \[low, high\]"),
        ({"channels": 2}, "channels = 2 must be 1 or 3"),
        ({"channels": True}, "channels = True must be a whole number"),
        ({"size": 0}, "size = 0 must be at least 1"),
        ({"name": "inception"}, "name = 'inception' must be a name of its own"),
        ({"resize": 5}, "unknown key 'resize'"),
        ({"about": "mine"}, "about = 'mine' must be an object"),
    ],
)
def test_errors_of_metadata(wrong, message, tmp_path):
    with pytest.raises(FeatureError, match=f"x.pt.*{message}"):
        load_module(script(tmp_path / "x.pt", {**FORM, **wrong}))


def test_a_saved_module_says_what_it_takes(pictures, tmp_path):
    path, form = tmp_path / "mean.pt", InputForm("means", (0.0, 255.0), 3, 4, {"dataset": "x"})
    save_module(Mean().eval(), path, form)
    assert load_module(path)[1] == replace(form, sha256=sha256_of(path))
    extractor = load_extractor(path, (3, 8, 8))
    assert (extractor.name, extractor.weights) == ("means", sha256_of(path))
    torch.testing.assert_close(extractor(pictures)[:, :3], pictures.float().mean((2, 3)), rtol=1e-5, atol=1e-4)
    content = path.read_bytes()
    with pytest.raises(ValueError):
        save_module(Mean().eval(), path, replace(form, about={"test_accuracy": float("nan")}))
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name, content, beside, message",
    [
        ("no.pt", None, None, "there is no file .*no.pt"),
        ("dino", None, None, "unknown features .*dino'; they are inception, pixels"),
        ("bad.pt", b"nothing", None, "bad.pt cannot be loaded as a module"),
        ("bad.pt2", b"nothing", None, "bad.pt2 cannot be loaded as a module"),
        ("mean.pt", Mean(), None, "does not say what it takes; put .* into mean.pt.json beside it"),
        ("mean.pt", Mean(), "{", "mean.pt.json does not say what"),
        ("mean.pt", Mean(), "[]", "mean.pt.json does not say what"),
    ],
)
def test_errors_of_files(name, content, beside, message, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        script(path, None, content)
    if beside is not None:
        path.with_name(f"{name}.json").write_text(beside)
    with pytest.raises(FeatureError, match=message) as caught:
        load_extractor(path, (3, 8, 8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "module, shape, message",
    [
        (Mean(), (2, 8, 8), "mean takes images of 3 channels, these are 2x8x8"),
        (Mean(), (2,), r"pictures \(C, H, W\), not of samples of shape \(2,\): .*, with the features pixels"),
        (nn.Flatten(0), (3, 8, 8), r"must return a tensor \(B, D\) for 1 images"),
        (nn.Conv2d(3, 1, 5), (3, 2, 2), "mean fails on a batch 1x3x2x2"),
    ],
)
def test_errors_of_shapes_and_networks(module, shape, message, tmp_path):
    with pytest.raises(FeatureError, match=message) as caught:
        load_extractor(script(tmp_path / "m.pt", module=module), shape)
    assert "\n" not in str(caught.value)
    with pytest.raises(FeatureError, match="Inception weights were given, but the features are pixels"):
        load_extractor("pixels", (1, 8, 8), inception_weights=tmp_path / "m.pt")


# Inception on real pictures


@pytest.mark.parametrize("grey", [False, True])
def test_inception_features_of_real_pictures_equal_pytorch_fids(
    grey, inception_file, pytorch_fid_network, cifar_pictures, tmp_path
):
    """Through PNG files and pytorch-fid's own reader on their side, from samples in [-1, 1] on ours.

    PIL's conversion of a grey picture to RGB repeats it. Our batch norms are folded into the convolutions.
    """
    chosen = cifar_pictures[:2, :1] if grey else cifar_pictures[:4]
    for index, picture in enumerate(chosen):
        Image.fromarray(picture.permute(1, 2, 0).numpy().squeeze()).save(tmp_path / f"{index}.png")
    theirs = score.get_activations(sorted(tmp_path.glob("*.png")), pytorch_fid_network, batch_size=4, num_workers=0)
    with pytest.warns(UserWarning, match="other weights"):
        extractor = load_extractor("inception", tuple(chosen.shape[1:]), inception_weights=inception_file)
    ours = extractor(to_model_range(chosen) + 0.3 / 127.5)
    assert extractor.dim == 2048
    assert extractor.resize == "bilinear to 299x299, half-pixel centres, no antialiasing"
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-5 * theirs.std())
