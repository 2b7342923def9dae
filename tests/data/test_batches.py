"""The order of training images is a function of (seed, step), for any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from proxdm.data import images
from proxdm.data.batches import DataStream, augmented, make_augmentation
from proxdm.data.images import ImageData
from proxdm.errors import DataError
from proxdm.pixels import to_model_range


def numbered(n, width=2):
    """Image i has its number in the left column and 255 in the right one, so a batch tells order and flips."""
    pixels = torch.full((n, 1, 1, width), 255, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(n, dtype=torch.uint8)
    return ImageData(pixels, "numbered")


def read_back(batch):
    """Return (numbers, flipped) of a batch of numbered images."""
    levels = ((batch[:, 0, 0] + 1) * 127.5).round().long()
    flipped = levels[:, 0] == 255
    return torch.where(flipped, levels[:, 1], levels[:, 0]).tolist(), flipped.tolist()


def numbers(stream, steps, batch_size):
    return [i for step in steps for i in read_back(stream.batch(step, batch_size))[0]]


@pytest.mark.parametrize("n, batch_size", [(12, 4), (10, 4), (7, 16), (5, 5), (3, 1)])
def test_every_epoch_shows_each_image_once(n, batch_size):
    epochs = 6
    stream = DataStream(numbered(n), seed=3)
    seen = numbers(stream, range(-(-epochs * n // batch_size)), batch_size)
    orders = [seen[e * n : (e + 1) * n] for e in range(epochs)]
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("flip", ["none", "random", "frozen"])
@pytest.mark.parametrize("n, batch_size", [(10, 8), (50, 8), (5, 16)])
def test_union_over_ranks_does_not_depend_on_their_number(n, batch_size, flip):
    alone = DataStream(numbered(n), seed=1, flip=flip)
    for world_size in (2, 4):
        streams = [DataStream(numbered(n), seed=1, flip=flip) for _ in range(world_size)]
        for step in range(7):
            shares = [s.batch(step, batch_size, rank=r, world_size=world_size) for r, s in enumerate(streams)]
            assert {len(share) for share in shares} == {batch_size // world_size}
            assert torch.equal(torch.cat(shares), alone.batch(step, batch_size))


@pytest.mark.parametrize("flip", ["none", "random", "frozen"])
def test_a_run_taken_up_at_step_k_goes_on_the_same(flip):
    first = DataStream(numbered(11), seed=5, flip=flip)
    batches = [first.batch(step, 4) for step in range(20)]
    for step in (7, 19, 2):
        assert torch.equal(DataStream(numbered(11), seed=5, flip=flip).batch(step, 4), batches[step])
        assert torch.equal(first.batch(step, 4), batches[step])


def test_seeds_differ_and_large_ones_work():
    orders = {tuple(numbers(DataStream(numbered(40), seed=seed), [0], 40)) for seed in (0, 1, 2, 2**63)}
    assert len(orders) == 4


def test_order_is_uniform():
    """Over many epochs each image is equally often first: chi-square, 9 degrees of freedom, p = 1e-3."""
    stream = DataStream(numbered(10), seed=0)
    firsts = np.bincount([int(stream.draw(epoch * 10, 1)[0]) for epoch in range(2000)], minlength=10)
    assert ((firsts - 200) ** 2 / 200).sum() < 27.9


def test_random_flips_are_fresh_and_fair():
    """100 images, 100 epochs: a fair coin gives 5000 +- 50 flips; each image is seen in both orientations."""
    stream = DataStream(numbered(100), seed=0, flip="random")
    counts = np.zeros(100, dtype=int)
    for epoch in range(100):
        order, flips = stream.draw(epoch * 100, 100)
        counts[order[flips].numpy()] += 1
    assert abs(counts.sum() - 5000) < 250
    assert counts.min() > 20
    assert counts.max() < 80
    assert counts.std() == pytest.approx(5, abs=1.5)


def test_frozen_flips_stay_with_the_image():
    stream = DataStream(numbered(100), seed=0, flip="frozen")
    seen = [dict(zip(*read_back(stream.batch(epoch, 100)), strict=True)) for epoch in range(3)]
    assert seen[0] == seen[1] == seen[2]
    assert 30 < sum(seen[0].values()) < 70
    other = dict(zip(*read_back(DataStream(numbered(100), seed=1, flip="frozen").batch(0, 100)), strict=True))
    assert other != seen[0]


@pytest.mark.parametrize("shape", [(2, 2, 3), (12,), (1, 3, 2, 2)])
def test_samples_of_any_shape_come_in_the_order_of_the_stream(shape):
    data = ImageData(torch.arange(24.0).reshape(2, *shape), "small")
    stream = DataStream(data, seed=0)
    order, flips = stream.draw(0, 2)
    assert flips is None
    assert torch.equal(stream.batch(0, 2), data.images[order])


def test_flip_is_horizontal():
    data = ImageData(torch.arange(24, dtype=torch.uint8).reshape(2, 2, 2, 3), "small")
    stream = DataStream(data, seed=0, flip="random")
    for step in range(8):
        order, flips = stream.draw(2 * step, 2)
        plain = to_model_range(data.images[order])
        for got, image, flip in zip(stream.batch(step, 2), plain, flips, strict=True):
            assert torch.equal(got, torch.from_numpy(image.numpy()[:, :, ::-1].copy()) if flip else image)


def test_mapped_and_large_data_stay_where_they_are(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, numbered(6).images.numpy())
    mapped = torch.from_numpy(np.load(path, mmap_mode="c"))
    stream = DataStream(ImageData(mapped, "mapped", memory_mapped=True), seed=2)
    assert stream._images is mapped
    assert torch.equal(stream.batch(1, 4), DataStream(numbered(6), seed=2).batch(1, 4))
    data = numbered(6)
    device = torch.device("meta")
    assert DataStream(data, seed=2, device=device)._images.device == device
    monkeypatch.setattr(images, "MEMORY_LIMIT", 5)
    assert DataStream(data, seed=2, device=device)._images is data.images


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("limit", [0, images.MEMORY_LIMIT])
def test_same_batches_on_the_gpu(limit, monkeypatch):
    monkeypatch.setattr(images, "MEMORY_LIMIT", limit)
    here = DataStream(numbered(10), seed=4, flip="random")
    there = DataStream(numbered(10), seed=4, flip="random", device="cuda")
    for step in range(5):
        batch = there.batch(step, 6)
        assert batch.device.type == "cuda"
        assert torch.equal(batch.cpu(), here.batch(step, 6))


# ---- augmentations ----


PICTURES = torch.randint(0, 256, (12, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def augmenting():
    return DataStream(ImageData(PICTURES, "noise"), seed=3, augment=("RandomAffine(degrees=90)",))


def test_is_torchvisions_transform():
    chain = make_augmentation(["RandomInvert(p=1)", "RandomVerticalFlip(p=1)"], (1, 6, 6))
    torch.testing.assert_close(augmented(PICTURES, chain, 0, 0), v2.functional.vertical_flip(255 - PICTURES))


def test_depends_on_seed_and_place_alone():
    whole = augmenting().batch(0, 12)
    parts = [augmenting().batch(step, 4) for step in range(3)]
    assert torch.equal(whole, torch.cat(parts))
    shared = [augmenting().batch(0, 12, rank=rank, world_size=2) for rank in (0, 1)]
    assert torch.equal(whole, torch.cat(shared))
    again = augmenting().batch(1, 12)  # the next epoch has the same pictures in another order, turned otherwise
    assert not torch.equal(whole.sort(0).values, again.sort(0).values)
    state = torch.get_rng_state()
    augmenting().batch(0, 2)
    assert torch.equal(state, torch.get_rng_state())


STREAM, POINTS = DataStream(numbered(3), seed=0), ImageData(torch.zeros(3, 2), "points")


def augmenting_by(text):
    return make_augmentation([text], (1, 6, 6))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DataStream(POINTS, seed=-1), "seed = -1 must be at least 0"),
        (lambda: DataStream(POINTS, seed=0, flip="always"), "flip = 'always' must be one of none, random, frozen"),
        (lambda: DataStream(POINTS, seed=0, flip="random"), r"flip = 'random' .*\(2,\)"),
        (lambda: DataStream(POINTS, seed=0, augment=("RandomInvert",)), "augment is for uint8 pictures"),
        (lambda: STREAM.batch(0, 6, world_size=4), "batch_size = 6 a positive multiple of the number of processes, 4"),
        (lambda: STREAM.batch(0, 6, rank=2, world_size=2), "processes, 2, and rank = 2 below it"),
        (lambda: STREAM.batch(-1, 6), "step = -1"),
        (lambda: STREAM.batch(0, 0), "batch_size = 0"),
        (lambda: augmenting_by("RandomAfine(degrees=3)"), r"no transform 'RandomAfine' \(did you mean 'RandomAffine'"),
        (lambda: augmenting_by("RandomAffine(degree=3)"), "degree"),
        (lambda: augmenting_by("RandomAffine(degrees="), "is not of the form"),
        (lambda: augmenting_by("CenterCrop(size=3)"), r"makes torch.uint8 \(1, 3, 3\)"),
        (lambda: augmenting_by("ToPILImage"), "makes Image"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
