"""Labels: those of known data sets beside their images, and sub-folders as classes."""

from __future__ import annotations

import gzip
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from proxdm.data import DataError, load_data
from proxdm.data.known import DEBIAN_FASHION_MNIST
from proxdm.data.load import DataConfig, labelled, load_labels


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


def idx(values):
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    labels = load_labels(DataConfig("digits"))
    assert torch.equal(labels.values, torch.from_numpy(load_digits().target))
    assert labels.names == tuple("0123456789")
    with pytest.raises(DataError, match="digits has no split 'test'"):
        load_labels(DataConfig("digits", split="test"))


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian(tmp_path, monkeypatch):
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path))
    for split, count in (("train", 6000), ("test", 1000)):
        values = load_labels(DataConfig("fashion-mnist", split=split)).values
        assert torch.equal(torch.bincount(values), torch.full((10,), count))


def test_mnist_of_a_folder(shared):
    labels = load_labels(DataConfig("mnist", str(shared / "data" / "mnist-t10k"), split="test", limit=8))
    assert labels.values.tolist() == [7, 2, 1, 0, 4, 1, 4, 9]  # the first test digits, as everybody knows them


def test_idx_files_in_place_of_each_other(tmp_path):
    with pytest.raises(DataError, match=r"mnist \(train\) is not here: looked for train-labels-idx1-ubyte\[.gz\] in"):
        load_labels(DataConfig("mnist", str(tmp_path)))
    images = idx(np.zeros((2, 28, 28), np.uint8))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(images))
    with pytest.raises(DataError, match="it starts with 00 00 08 03, not 00 00 08 01"):
        load_labels(DataConfig("mnist", str(tmp_path)))


def test_cifar_labels_stand_before_their_pixels(tmp_path, generator):
    rows = torch.randint(0, 10, (6, 3073), generator=generator, dtype=torch.uint8).numpy()
    for number in range(1, 6):
        rows[number - 1 : number + 1].tofile(tmp_path / f"data_batch_{number}.bin")
    config = DataConfig("cifar10", str(tmp_path))
    expected = np.concatenate([rows[number - 1 : number + 1] for number in range(1, 6)])
    assert load_labels(config).values.tolist() == expected[:, 0].tolist()
    np.testing.assert_array_equal(load_data(config).images.flatten(1), expected[:, 1:])


def test_sub_folders_are_classes_in_the_order_of_the_pictures(tmp_path):
    values = {"b/1.png": 1, "b/deep/2.png": 2, "a/9.png": 0, "c/x.png": 3}
    for name, value in values.items():
        picture(tmp_path / "set" / name, value)
    labels = load_labels(DataConfig(str(tmp_path / "set")))
    assert labels.names == ("a", "b", "c")
    pixels = load_data(DataConfig(str(tmp_path / "set"), grey=True)).images[:, 0, 0, 0]
    assert [labels.names[number] for number in labels.values] == [{0: "a", 3: "c"}.get(int(v), "b") for v in pixels]
    assert load_labels(DataConfig("set", str(tmp_path), limit=2)).values.tolist() == labels.values[:2].tolist()


def test_an_archive_with_one_folder_around_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("set/pictures/cat/1.png", "set/pictures/dog/2.png"):
            picture(tmp_path / "x.png", 0)
            archive.write(tmp_path / "x.png", name)
    labels = load_labels(DataConfig(str(tmp_path / "set.zip")))
    assert (labels.names, labels.values.tolist()) == (("cat", "dog"), [0, 1])


def test_what_has_no_labels(tmp_path):
    picture(tmp_path / "mixed" / "cat" / "1.png", 0)
    picture(tmp_path / "mixed" / "2.png", 0)
    picture(tmp_path / "one" / "cat" / "1.png", 0)
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
