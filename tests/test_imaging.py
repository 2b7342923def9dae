"""Pictures from samples: what is read back is what was written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from archives import png_metadata
from proxdm import imaging
from proxdm.pixels import to_uint8


def random_images(generator, *shape):
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_stands_in_its_cell_of_the_grid(generator, channels):
    images = random_images(generator, 5, channels, 6, 4)
    pixels = imaging.grid(images, columns=3, zoom=1)
    assert pixels.shape[:2] == (2 * (6 + 2) + 2, 3 * (4 + 2) + 2)
    for index, image in enumerate(images):
        row, column = divmod(index, 3)
        cell = pixels[2 + 8 * row : 8 + 8 * row, 2 + 6 * column : 6 + 6 * column]
        assert np.array_equal(cell.reshape(6, 4, channels), image.permute(1, 2, 0).numpy())
    # What is not an image is white: the borders, and the cell without an image.
    assert (pixels[:2] == 255).all()
    assert (pixels[10:, 14:] == 255).all()


def test_zoom_repeats_pixels_and_small_images_are_enlarged(generator):
    images = random_images(generator, 1, 1, 8, 8)
    once = imaging.grid(images, zoom=1)[2:-2, 2:-2]
    assert np.array_equal(imaging.grid(images)[2:-2, 2:-2], np.kron(once, np.ones((12, 12), np.uint8)))
    large = random_images(generator, 1, 1, 65, 20)
    assert imaging.grid(large).shape == (69, 24)
    assert imaging.grid(random_images(generator, 10, 1, 32, 32)).shape == (3 * 98 + 2, 4 * 98 + 2)  # about square


@pytest.mark.parametrize("channels", [1, 3])
def test_a_caption_stands_below_and_changes_no_pixel(tmp_path, generator, channels):
    images = random_images(generator, 4, channels, 32, 32)
    plain = imaging.grid(images)
    with_text = imaging.captioned(plain, "a model: a sampler, 2 evaluations")
    assert np.array_equal(with_text[: len(plain)], plain)
    below = with_text[len(plain) :]
    assert below.min() < 10
    assert below.max() == 255
    long = imaging.captioned(plain, 50 * "long ")
    assert long.shape == with_text.shape
    imaging.save_grid(images, tmp_path / "a.png", caption="text")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (plain.shape[1], len(with_text))


def test_samples_are_rounded_as_everywhere(generator):
    samples = torch.empty(4, 3, 8, 8).uniform_(-1.3, 1.3, generator=generator)
    expected = [picture.permute(1, 2, 0).numpy() for picture in to_uint8(samples)]
    assert all(np.array_equal(a, b) for a, b in zip(imaging.to_pixels(samples), expected, strict=True))


def test_a_folder_of_pictures_holds_the_bytes(tmp_path, generator):
    images = random_images(generator, 3, 3, 5, 7)
    imaging.save_pictures(images[:2], tmp_path)
    imaging.save_pictures(images[2:], tmp_path, start=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "000001.png", "000002.png"]
    for index, image in enumerate(images):
        with Image.open(tmp_path / imaging.picture_name(index)) as picture:
            assert np.array_equal(np.asarray(picture), image.permute(1, 2, 0).numpy())


def test_metadata_travels_in_the_picture(tmp_path, generator):
    metadata = {"sampler": "prox-hybrid", "steps": 10, "note": "λ"}
    imaging.save_grid(random_images(generator, 2, 1, 4, 4), tmp_path / "a.png", metadata=metadata)
    assert png_metadata(tmp_path / "a.png") == metadata
    imaging.save_grid(random_images(generator, 2, 1, 4, 4), tmp_path / "b.png")
    assert png_metadata(tmp_path / "b.png") is None


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (10, 2)])
def test_an_npz_holds_uint8_pictures_or_points_and_json_unpickled(tmp_path, generator, shape):
    samples = random_images(generator, *shape) if len(shape) == 4 else 3 * torch.randn(shape, generator=generator)
    imaging.save_npz(samples, tmp_path / "a.npz", {"seed": 3})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["samples"].dtype == samples.numpy().dtype
        assert np.array_equal(found["samples"], samples.numpy())
        assert json.loads(str(found["metadata"])) == {"seed": 3}


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_its_frames_in_order(tmp_path, channels):
    frames = [torch.full((4, channels, 8, 8), value, dtype=torch.uint8) for value in (0, 100, 200)]
    imaging.save_gif(frames, tmp_path / "a.gif", metadata={"steps": 2})
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3
        assert json.loads(animation.info["comment"]) == {"steps": 2}
        durations = []
        for index, value in enumerate((0, 100, 200)):
            animation.seek(index)
            durations.append(animation.info["duration"])
            assert np.asarray(animation.convert("L"))[10, 10] == value
        assert durations == [120, 120, 2000]


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 3), (2, 2, 8, 8)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match=r"not pictures of 1 or 3 channels.*\.npz"):
        imaging.grid(torch.zeros(shape))


def test_points_are_dots_at_their_places():
    picture = imaging.grid(torch.tensor([[-0.7, 1.2], [0.3, -0.4]]))
    rows, columns = np.nonzero(picture == 0)
    places = np.stack([columns, 255 - rows], 1) / 255 * 3 - 1.5
    assert picture.shape == (256, 256)
    assert len(places) == 8, "two dots of 2 x 2"
    for point in ([-0.7, 1.2], [0.3, -0.4]):
        assert (np.abs(places - point).max(1) < 3 / 128).sum() == 4


def test_points_far_away_are_drawn_too():
    near, far = (imaging.grid(scale * torch.tensor([[-1.5, 0.9], [0.3, -0.4]])) for scale in (1, 40))
    assert np.array_equal(near, far)


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        imaging.grid(torch.zeros(0, 1, 4, 4))
    with pytest.raises(ValueError, match="no frames"):
        imaging.save_gif([], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="columns = 0"):
        imaging.grid(torch.zeros(1, 1, 4, 4), columns=0)
