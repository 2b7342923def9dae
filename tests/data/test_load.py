"""From a description to images and their classes: one pipeline for every source, and errors that help."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from archives import encoded, packed
from proxdm.data import DataConfig, DataError, images, load_data
from proxdm.data.known import DATASETS, KnownData
from proxdm.data.load import labelled, load_labels


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3), dtype=np.uint8)
    return packed(tmp_path / "pictures", {f"{index}.png": encoded(one) for index, one in enumerate(pixels)})


def test_mnist_is_padded_to_32(shared):
    root = str(shared / "data" / "mnist-t10k")
    data = load_data(DataConfig("mnist", root=root, split="test"))
    plain = load_data(DataConfig("mnist", root=root, split="test", pad=0))
    assert plain.images.shape == (10_000, 1, 28, 28)
    assert data.images.shape == (10_000, 1, 32, 32)
    assert torch.equal(data.images[:, :, 2:30, 2:30], plain.images)
    border = data.images.clone()
    border[:, :, 2:30, 2:30] = 0
    assert not border.any()
    assert data.preprocessing == "grey uint8; padded by 2 with black to 32x32"
    same = load_data(DataConfig("mnist", root=root, split="test", size=32, limit=5))
    assert torch.equal(same.images, data.images[:5])


def test_digits_by_name_alone():
    assert load_data("digits").images.shape == (1797, 1, 8, 8)
    assert load_data(DataConfig("digits", limit=3, pad=4)).images.shape == (3, 1, 16, 16)
    assert torch.equal(load_data(DataConfig("digits", grey=True)).images, load_data("digits").images)


def test_folder_size_grey_pad_limit(folder):
    data = load_data(DataConfig(str(folder), size=8, pad=1, grey=True, limit=3))
    assert data.images.shape == (3, 1, 8, 8)
    with Image.open(folder / "0.png") as picture:
        expected = np.asarray(picture.convert("L").crop((0, 1, 10, 11)).resize((6, 6), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(data.images[0, 0, 1:7, 1:7].numpy(), expected)
    assert "Lanczos to 6x6" in data.preprocessing
    assert data.preprocessing.endswith("padded by 1 with black to 8x8")
    assert load_data(DataConfig("pictures", root=str(folder.parent))).images.shape == (4, 3, 12, 10)


def test_arrays_are_fitted_like_folders(folder, tmp_path):
    plain = load_data(str(folder))
    np.save(tmp_path / "x.npy", plain.images.numpy())
    for options in ({"size": 6}, {"grey": True}, {"size": 9, "grey": True, "pad": 2, "limit": 3}):
        from_folder = load_data(DataConfig(str(folder), **options))
        from_array = load_data(DataConfig(str(tmp_path / "x.npy"), **options))
        assert torch.equal(from_folder.images, from_array.images)
        assert not from_array.memory_mapped
    assert load_data(str(tmp_path / "x.npy")).memory_mapped


def test_floats_are_padded_with_black_in_their_range(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 3, 3), -0.5, np.float32))
    data = load_data(DataConfig(str(tmp_path / "x.npy"), pad=1))
    assert data.images[0, 0].tolist() == [[-1] * 5, *[[-1, -0.5, -0.5, -0.5, -1]] * 3, [-1] * 5]


def test_a_known_name_wins_over_a_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "digits")
    assert load_data("digits").name == "digits"
    assert load_data("digits").shape == (1, 8, 8)
    assert load_data("./digits").shape == (3, 12, 10)


@pytest.mark.parametrize(
    "samples, pad, shape",
    [
        (torch.zeros(3, 1, 4, 4, dtype=torch.uint8), 1, (1, 6, 6)),
        (np.zeros((3, 2)), 0, (2,)),
        (images.ImageData(torch.zeros(3, 5, 6, 7), "x", "test"), 0, (5, 6, 7)),
    ],
)
def test_an_own_data_set_is_one_entry(monkeypatch, samples, pad, shape):
    monkeypatch.setitem(DATASETS._entries, "own", KnownData("Own", lambda root, split: samples, pad=pad))
    data = load_data(DataConfig("own", split="test", limit=2))
    assert (len(data), data.split, data.shape) == (2, "test", shape)


class Pairs(torch.utils.data.Dataset):
    """Sample i holds i, its label is -i."""

    def __init__(self, count, shape=(3,)):
        self.count, self.shape = count, shape

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.full(self.shape, float(index)), -index


def test_samples_themselves_are_taken_as_the_model_sees_them():
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for source in (x, x.numpy(), torch.utils.data.TensorDataset(x), torch.utils.data.TensorDataset(x, x)):
        assert torch.equal(load_data(source).images, x.float())
    assert load_data(Pairs(4)).images.tolist() == [[i] * 3 for i in range(4)]
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert load_data(load_data(pixels)).images.data_ptr() == pixels.data_ptr()


@pytest.mark.parametrize(
    "source, message",
    [
        (torch.zeros(3, 2, dtype=torch.int64), "int64"),
        (torch.zeros(3, 2, dtype=torch.uint8), r"\(3, 2\)"),
        (torch.zeros(3), r"\(3,\)"),
        (np.full((3, 2), np.nan), "NaN"),
        (Pairs(0), "Pairs"),
        (torch.utils.data.ConcatDataset([Pairs(2), Pairs(1, (4,))]), r"sample 2 has shape \(4,\).*\(3,\)"),
    ],
)
def test_samples_that_are_none(source, message):
    with pytest.raises(DataError, match=message):
        load_data(source)


def test_vectors_of_a_file_keep_their_numbers(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.0, 5.0], [1.0, -7.0]]))
    assert load_data(tmp_path / "x.npy").images.tolist() == [[0.0, 5.0], [1.0, -7.0]]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "val"}, "split = 'val' must be one of 'train', 'test'"),
        ({"flip": "yes"}, "flip = 'yes' must be one of 'none', 'random', 'frozen'"),
        ({"values": "0-1"}, "values = '0-1' must be one of 'auto', 'unit', 'signed', 'raw'"),
        ({"layout": "nchw"}, "layout = 'nchw' must be one of 'auto', 'channels-first', 'channels-last'"),
        ({"size": 0}, "size = 0 must be a whole number of at least 1"),
        ({"size": 8.5}, "size = 8.5 must be a whole number"),
        ({"pad": -1}, "pad = -1 must be a whole number of at least 0"),
        ({"limit": 0}, "limit = 0 must be a whole number of at least 1"),
    ],
)
def test_bad_configurations(options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        DataConfig("digits", **options)


def test_unknown_name_and_unusable_paths(tmp_path, folder):
    with pytest.raises(DataError, match=r"unknown data set 'cifar' \(did you mean 'cifar10'\?\); known are digits"):
        load_data("cifar")
    with pytest.raises(DataError, match=r"unknown data set 'mnits' \(did you mean 'mnist'\?\)"):
        load_data(DataConfig("mnits", root=str(tmp_path)))
    with pytest.raises(DataError, match=r"there is no folder or file .*nowhere"):
        load_data(str(tmp_path / "nowhere"))
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"x.txt is neither a folder nor an archive of pictures, nor an .npy"):
        load_data(str(tmp_path / "x.txt"))
    with pytest.raises(DataError, match="split = 'test' is for known data sets; name the path of that split"):
        load_data(DataConfig(str(folder), split="test"))


def test_options_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match="size = 4 leaves no room for a picture inside pad = 2"):
        load_data(DataConfig("digits", size=4, pad=2))
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 3, 3), np.float32))
    path = str(tmp_path / "x.npy")
    with pytest.raises(DataError, match="only uint8 images of 1 or 3 channels can be resized or made grey"):
        load_data(DataConfig(path, size=2, layout="channels-first"))
    with pytest.raises(DataError, match="only uint8 images"):
        load_data(DataConfig(path, grey=True, layout="channels-first"))
    with pytest.raises(DataError, match="black to pad with"):
        load_data(DataConfig(path, pad=1, layout="channels-first", values="raw"))


def test_memory_limit_of_resizing_and_padding(monkeypatch):
    monkeypatch.setattr(images, "MEMORY_LIMIT", 1797 * 64)
    with pytest.raises(DataError, match="digits: 1797 samples of 1x9x9 need"):
        load_data(DataConfig("digits", size=9))
    with pytest.raises(DataError, match="digits: 1797 samples of 1x10x10 need"):
        load_data(DataConfig("digits", pad=1))


# ---- labels ----


def picture(value=0):
    return encoded(np.full((4, 4), value, np.uint8))


def test_sub_folders_are_classes_in_the_order_of_the_pictures(tmp_path):
    values = {"b/1.png": 1, "b/deep/2.png": 2, "a/9.png": 0, "c/x.png": 3}
    packed(tmp_path / "set", {name: picture(value) for name, value in values.items()})
    labels = load_labels(DataConfig(str(tmp_path / "set")))
    assert labels.names == ("a", "b", "c")
    pixels = load_data(DataConfig(str(tmp_path / "set"), grey=True)).images[:, 0, 0, 0]
    assert [labels.names[number] for number in labels.values] == [{0: "a", 3: "c"}.get(int(v), "b") for v in pixels]
    assert load_labels(DataConfig("set", str(tmp_path), limit=2)).values.tolist() == labels.values[:2].tolist()


def test_an_archive_with_one_folder_around_it(tmp_path):
    packed(tmp_path / "set.zip", dict.fromkeys(("set/pictures/cat/1.png", "set/pictures/dog/2.png"), picture()))
    labels = load_labels(DataConfig(str(tmp_path / "set.zip")))
    assert (labels.names, labels.values.tolist()) == (("cat", "dog"), [0, 1])


def test_what_has_no_labels(tmp_path):
    packed(tmp_path, dict.fromkeys(("mixed/cat/1.png", "mixed/2.png", "one/cat/1.png"), picture()))
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8), np.uint8))
    cases = {
        "celebahq-latents": f"celebahq-latents has no labels; data sets with labels are {', '.join(labelled())}",
        "digitz": r"unknown data set with labels 'digitz' \(did you mean 'digits'\?\)",
        str(tmp_path / "mixed"): "has no labels: 2.png is in no folder of a class; make one sub-folder a class",
        str(tmp_path / "one"): "has no labels: cat/1.png is in no folder of a class",
        str(tmp_path / "a.npy"): "a.npy has no labels; give a folder or archive of pictures, one sub-folder a class",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            load_labels(DataConfig(name))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="skip_broken would part pictures from their labels"):
        load_labels(DataConfig(str(tmp_path / "mixed"), skip_broken=True))
