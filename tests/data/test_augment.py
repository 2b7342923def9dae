"""Augmentations: a function of seed and place in the stream, of torchvision's transforms, which keep the shape."""

import dataclasses

import pytest
import torch
from torchvision.transforms import v2

from proxdm.data.augment import augmented, make_augmentation
from proxdm.data.batches import DataStream
from proxdm.data.images import ImageData
from proxdm.errors import DataError
from proxdm.training import train_config

PICTURES = torch.randint(0, 256, (12, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def stream(**more):
    return DataStream(ImageData(PICTURES, "noise"), seed=3, augment=("RandomAffine(degrees=90)",), **more)


def test_is_torchvisions_transform():
    chain = make_augmentation(["RandomInvert(p=1)", "RandomVerticalFlip(p=1)"], (1, 6, 6))
    torch.testing.assert_close(augmented(PICTURES, chain, 0, 0), v2.functional.vertical_flip(255 - PICTURES))


def test_depends_on_seed_and_place_alone():
    whole = stream().batch(0, 12)
    parts = [stream().batch(step, 4) for step in range(3)]
    assert torch.equal(whole, torch.cat(parts))
    shared = [stream().batch(0, 12, rank=rank, world_size=2) for rank in (0, 1)]
    assert torch.equal(whole, torch.cat(shared))
    again = stream().batch(1, 12)  # the next epoch has the same pictures in another order, turned otherwise
    assert not torch.equal(whole.sort(0).values, again.sort(0).values)
    state = torch.get_rng_state()
    stream().batch(0, 2)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RandomAfine(degrees=3)", r"no transform 'RandomAfine' \(did you mean 'RandomAffine'\?\)"),
        ("RandomAffine(degree=3)", "degree"),
        ("RandomAffine(degrees=", "is not of the form"),
        ("CenterCrop(size=3)", r"makes torch.uint8 \(1, 3, 3\)"),
        ("ToPILImage", "makes Image"),
    ],
)
def test_what_is_none_is_refused(text, said):
    with pytest.raises(DataError, match=said):
        make_augmentation([text], (1, 6, 6))


def test_numbers_are_not_augmented():
    with pytest.raises(DataError, match="augment is for uint8 pictures"):
        DataStream(ImageData(torch.zeros(3, 2), "points"), seed=0, augment=("RandomInvert",))


def test_a_resumed_run_is_the_same(score_config_of_pictures, tmp_path):
    config, pictures = score_config_of_pictures
    one = dataclasses.replace(config, data=dataclasses.replace(config.data, augment=("RandomAffine(degrees=20)",)))
    train_config(one, tmp_path / "whole", data=pictures, progress=False)
    short = dataclasses.replace(one, training=dataclasses.replace(one.training, steps=2))
    train_config(short, tmp_path / "parts", data=pictures, progress=False)
    train_config(one, tmp_path / "parts", data=pictures, progress=False, resume=True)
    from proxdm.checkpoints import store

    first, second = (store.latest(tmp_path / name).read("raw") for name in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def score_config_of_pictures():
    from proxdm.presets import get_preset

    config = get_preset("digits-score")
    small = dataclasses.replace(config.training, steps=4, batch_size=8, ema=(0.9,))
    quiet = dataclasses.replace(config.logging, preview_every=0, prior=False, checkpoint_every=100)
    pictures = torch.randint(0, 256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return dataclasses.replace(config, training=small, logging=quiet), ImageData(pictures, "noise")
