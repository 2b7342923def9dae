"""Classifiers for features: what they learn, that the file holds the network, and what their distances see."""

from __future__ import annotations

import dataclasses
import itertools
import struct

import numpy as np
import pytest
import torch
from torch import nn

from proxdm.data import ImageData, load_data, to_model_range
from proxdm.data.load import DataConfig
from proxdm.metrics import classifier
from proxdm.metrics.classifier import ClassifierConfig, ImageClassifier, feature_module, load_labelled, train_classifier
from proxdm.metrics.features import FeatureError, InputForm, load_extractor, save_module
from proxdm.metrics.frechet import frechet_distance

FORM = InputForm("digits-classifier", (-1.0, 1.0), 1, 8)


def stripes(seed=0):
    """Noise with a bright left or right half: two classes that anybody can tell apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (64,), generator=generator)
    images = torch.randint(0, 100, (64, 1, 8, 8), generator=generator, dtype=torch.uint8)
    images[labels == 0, :, :, :4] += 120
    images[labels == 1, :, :, 4:] += 120
    return ImageData(images, "stripes", labels=labels, classes=("left", "right"))


def random_classifier(channels=1, side=8):
    """Weights and batch statistics away from where they start."""
    torch.manual_seed(0)
    network = ImageClassifier(channels, side, 3).eval()
    for tensor in network.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 2)
    return network


# The network


@pytest.mark.parametrize("channels, side", [(1, 4), (1, 28), (3, 50), (1, 64)])
def test_features_have_one_size_for_all_images(channels, side):
    network = random_classifier(channels, side)
    x = torch.randn(2, channels, side, side)
    assert network.features(x).shape == (2, 128)
    assert network(x).shape == (2, 3)
    assert 2 < network.features[:-2](x).shape[-1] <= 4


def test_the_file_holds_the_network_without_its_normalisation(tmp_path, generator):
    network = random_classifier()
    module = feature_module(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    save_module(module, tmp_path / "f.pt", FORM)
    extractor = load_extractor(tmp_path / "f.pt", (1, 8, 8))
    assert (extractor.name, extractor.dim, extractor.resize) == ("digits-classifier", 128, "none")
    images = torch.randint(0, 256, (70, 1, 8, 8), generator=generator, dtype=torch.uint8)
    torch.testing.assert_close(extractor(images), network.features(to_model_range(images)), rtol=1e-4, atol=1e-5)


# Training


def test_the_seed_decides_every_byte_of_the_file_whatever_its_name(tmp_path):
    state, contents = torch.get_rng_state(), []
    for name, seed in (("a.pt", 3), ("b.pt", 3), ("c.pt", 4)):
        network = train_classifier(stripes(), ClassifierConfig(steps=4, batch_size=16, flip="random", seed=seed))
        save_module(feature_module(network), tmp_path / name, FORM)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone


@pytest.mark.parametrize("bf16", [False, True])
def test_two_halves_are_told_apart(bf16):
    network = train_classifier(stripes(), ClassifierConfig(steps=30, batch_size=32, bf16=bf16))
    assert not network.training
    other = stripes(seed=1)
    assert classifier.accuracy(network, other) > 0.95
    assert classifier.accuracy(network, dataclasses.replace(other, labels=1 - other.labels)) < 0.05


def test_shifts_are_whole_pixels_with_repeated_borders(generator):
    image = torch.rand(1, 3, 8, 8, generator=generator)
    wide = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    expected = {(dy, dx): wide[0, :, dy : dy + 8, dx : dx + 8] for dy, dx in itertools.product(range(3), repeat=2)}
    moved = classifier._shifted(image.expand(200, -1, -1, -1), generator)
    found = [next(key for key, value in expected.items() if torch.equal(value, one)) for one in moved]
    assert set(found) == set(expected)


@pytest.mark.parametrize(
    "name, count, steps, flip",
    [
        ("digits", 1438, 562, "none"),  # 50 epochs
        ("cifar10", 50_000, 3000, "random"),
        ("pictures", 100, 40, "none"),
    ],
)
def test_steps_follow_the_number_of_images_and_flips_the_data(name, count, steps, flip):
    found = ClassifierConfig().resolved(name, count)
    assert (found.steps, found.flip) == (steps, flip)
    given = ClassifierConfig(steps=7, flip="frozen")
    assert given.resolved(name, count) == given


# Data


def test_a_fifth_of_the_digits_is_held_out_always_the_same():
    train, test = load_labelled(DataConfig("digits"))
    assert (len(train), len(test)) == (1438, 359)
    whole = load_data("digits").images
    both = torch.cat([train.images, test.images]).flatten(1)
    assert sorted(map(bytes, both.numpy())) == sorted(map(bytes, whole.flatten(1).numpy()))
    assert "without a random 1/5" in train.preprocessing
    torch.manual_seed(1)
    assert torch.equal(load_labelled(DataConfig("digits"))[1].labels, test.labels)


def test_known_data_are_tested_on_their_own_split(tmp_path):
    for prefix, count in (("train", 40), ("t10k", 6)):
        for name, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            values = np.arange(np.prod(shape), dtype=np.uint8) % 2
            head = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
            (tmp_path / f"{prefix}-{name}-ubyte").write_bytes(head + values.tobytes())
    train, test = load_labelled(DataConfig("mnist", root=str(tmp_path)))
    assert (len(train), len(test), train.shape) == (40, 6, (1, 32, 32))
    assert (train.split, test.split) == ("train", "test")
    assert train.classes == ("0", "1")


@pytest.mark.parametrize(
    "shape, names, latent, message",
    [
        ((4, 1, 8, 8), (), False, "x has no labels"),
        ((4, 1, 8, 9), ("a", "b"), False, "x has images 9x8; .* 4 at least"),
        ((4, 1, 3, 3), ("a", "b"), False, "x has images 3x3"),
        ((4, 4, 8, 8), ("a", "b"), True, "x holds arrays of 4 channels"),
        ((4, 1, 8, 8), ("a",), False, "x has one class, 'a'; .* 2 at least"),
        ((1, 1, 8, 8), ("a", "b"), False, "x has 0 images of the class 'b', .* 1 of each"),
    ],
)
def test_what_cannot_be_classified(shape, names, latent, message):
    labels = torch.arange(shape[0]) % len(names) if names else None
    images = ImageData(torch.zeros(shape), "x", latent=latent, labels=labels, classes=names)
    with pytest.raises(FeatureError, match=message) as caught:
        train_classifier(images, ClassifierConfig())
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite():
    with pytest.raises(FeatureError, match=r"the loss is nan at step \d+; lower lr = 1e\+30"):
        train_classifier(stripes(), ClassifierConfig(steps=60, batch_size=8, lr=1e30))


@pytest.mark.parametrize(
    "setting, value",
    [("steps", 0), ("batch_size", 1), ("seed", -1), ("lr", 0.0), ("lr", np.inf), ("weight_decay", -1)],
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(ValueError, match=f"{setting} = {value} (must be|at least)"):
        ClassifierConfig(**{setting: value})


# What the distances see: a tenth of the usual training on digits is enough for it


def test_digits_are_recognised_and_their_distance_sees_noise_blur_and_missing_classes(tmp_path, generator):
    """Between two halves of the digits, through the file as the command line writes it."""
    train, test = load_labelled(DataConfig("digits"))
    network = train_classifier(train, ClassifierConfig(steps=150))
    assert classifier.accuracy(network, test) > 0.96
    save_module(feature_module(network), tmp_path / "digits.pt", FORM)
    extractor = load_extractor(tmp_path / "digits.pt", (1, 8, 8))
    digits, order = load_data(DataConfig("digits", labels=True)), torch.randperm(1797, generator=generator)
    first = extractor(digits.images[order[:898]])
    second, labels = to_model_range(digits.images[order[898:]]), digits.labels[order[898:]]

    def distance(images):
        features = extractor(images)
        return frechet_distance(features.mean(0), features.T.cov(), first.mean(0), first.T.cov())

    noise = torch.randn(second.shape, generator=generator)
    found = [distance(second + std * noise) for std in (0, 0.1, 0.2, 0.4, 0.8)]
    assert found == sorted(found)
    assert found[0] < 1.2
    assert found[-1] > 15 * found[0]
    assert distance(second[labels < 5]) > 15 * found[0]
    assert distance(nn.functional.avg_pool2d(second, 3, 1, 1)) > 15 * found[0]
