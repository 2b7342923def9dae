"""Data sets known by name: their files in every layout that occurs, and what is said when they are missing."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import re
import shutil
import struct
import tarfile

import numpy as np
import pytest
import torch

from proxdm.data import DataConfig, datasaurus, known, load_data
from proxdm.data.known import DATASETS, DEBIAN_FASHION_MNIST, KnownData, cache_folder, download, read_idx
from proxdm.data.load import load_labels
from proxdm.errors import DataError


def read(name, root, split):
    return load_data(DataConfig(name, None if root is None else str(root), split, pad=0))


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path))
    return tmp_path


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PROXDM_DATA")
    assert cache_folder() == tmp_path / "home" / ".cache" / "proxdm" / "data"
    monkeypatch.setenv("PROXDM_DATA", "~/x")
    assert cache_folder() == tmp_path / "home" / "x"


def test_digits():
    from sklearn.datasets import load_digits

    data = read("digits", None, "train")
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.images.min() == 0
    assert data.images.max() == 255
    values = torch.from_numpy(load_digits().images)
    assert torch.equal((data.images[:, 0].double() * 16 / 255).round(), values)
    labels = load_labels(DataConfig("digits"))
    assert torch.equal(labels.values, torch.from_numpy(load_digits().target))
    assert labels.names == tuple("0123456789")
    for reader in (load_data, load_labels):
        with pytest.raises(DataError, match="digits has no split 'test'"):
            reader(DataConfig("digits", split="test"))


def test_mnist_from_a_folder_of_idx_files(shared, tmp_path, monkeypatch):
    source = shared / "data" / "mnist-t10k"
    data = read("mnist", source, "test")
    assert data.images.shape == (10_000, 1, 28, 28)
    assert (data.name, data.split) == ("mnist", "test")
    labels = load_labels(DataConfig("mnist", str(source), "test", limit=8))
    assert labels.values.tolist() == [7, 2, 1, 0, 4, 1, 4, 9]  # the first test digits, as everybody knows them
    with pytest.raises(DataError, match=r"mnist \(train\) is not here: looked for train-images-idx3-ubyte"):
        read("mnist", source, "train")
    content = gzip.decompress((source / "t10k-images-idx3-ubyte.gz").read_bytes())
    for place in ("MNIST/raw/t10k-images-idx3-ubyte", "mnist/t10k-images.idx3-ubyte"):
        root = tmp_path / place.replace("/", "-")
        (root / place).parent.mkdir(parents=True)
        (root / place).write_bytes(content)
        assert torch.equal(read("mnist", root, "test").images, data.images)
    monkeypatch.setenv("PROXDM_DATA", str(source))
    assert torch.equal(read("mnist", None, "test").images, data.images)


def test_idx_equals_torchvision_on_mnist(shared, tmp_path):
    from torchvision.datasets.mnist import read_image_file, read_label_file

    for name, reader in (("t10k-images-idx3-ubyte", read_image_file), ("t10k-labels-idx1-ubyte", read_label_file)):
        packed = shared / "data" / "mnist-t10k" / f"{name}.gz"
        plain = tmp_path / name
        plain.write_bytes(gzip.decompress(packed.read_bytes()))
        theirs = reader(str(plain)).to(torch.uint8).numpy()
        np.testing.assert_array_equal(read_idx(packed, theirs.ndim), theirs)
        np.testing.assert_array_equal(read_idx(plain, theirs.ndim), theirs)
        assert len(theirs) == 10_000
        read_idx(plain, theirs.ndim)[:] = 1  # a private, writable copy


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda good: good[:-1], "should hold 60 bytes of shape 5x4x3 by its header, but holds 59"),
        (lambda good: b"", "it starts with nothing"),
        (lambda good: b"\x89PNG" + good[4:], "it starts with 89 50 4e 47"),
        (lambda good: good[:3] + b"\0", "it starts with 00 00 08 00, not 00 00 08 03"),
        (lambda good: good[:9], "but holds -7"),
        (lambda good: gzip.compress(good)[:-12], "is a broken gzip file"),
        (lambda good: gzip.compress(good)[:20] + b"junk" * 9, "is a broken gzip file"),
    ],
)
def test_broken_idx_files(tmp_path, damage, message):
    path = tmp_path / "images"
    path.write_bytes(damage(struct.pack(">4B3I", 0, 0, 8, 3, 5, 4, 3) + bytes(range(60))))
    with pytest.raises(DataError, match=re.escape(message)) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_and_images_in_place_of_each_other(shared, tmp_path):
    source = shared / "data" / "mnist-t10k"
    shutil.copy(source / "t10k-labels-idx1-ubyte.gz", tmp_path / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match="it starts with 00 00 08 01, not 00 00 08 03"):
        read("mnist", tmp_path, "test")
    config = DataConfig("mnist", str(tmp_path), "test")
    with pytest.raises(DataError, match=r"mnist \(test\) is not here: looked for t10k-labels-idx1-ubyte\[.gz\] in"):
        load_labels(config)
    shutil.copy(source / "t10k-images-idx3-ubyte.gz", tmp_path / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match="it starts with 00 00 08 03, not 00 00 08 01"):
        load_labels(config)


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian(empty):
    test = read("fashion-mnist", None, "test")
    assert test.images.shape == (10_000, 1, 28, 28)
    # Xiao et al. publish mean 0.2860 and deviation 0.3530 of the training set, in [0, 1].
    train = read("fashion-mnist", None, "train").images
    assert train.shape == (60_000, 1, 28, 28)
    assert train.double().mean().item() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert train.double().std().item() / 255 == pytest.approx(0.3530, abs=1e-4)
    for split, count in (("train", 6000), ("test", 1000)):
        values = load_labels(DataConfig("fashion-mnist", split=split)).values
        assert torch.equal(torch.bincount(values), torch.full((10,), count))
    with pytest.raises(DataError, match="fashion-mnist"):
        read("fashion-mnist", empty, "test")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_data_say_where_and_how(empty, monkeypatch, name):
    monkeypatch.setattr(known, "DEBIAN_FASHION_MNIST", empty / "debian")
    with pytest.raises(DataError) as error:
        read(name, None, "train")
    message = str(error.value)
    assert all(words in message for words in (str(empty), f"`proxdm download datasets {name}`", "PROXDM_DATA"))
    assert "\n" not in message


def test_missing_latents_say_how_to_make_them(empty):
    with pytest.raises(DataError, match=r"celebahq-latents.npy; encode a folder .*encode_pictures\("):
        read("celebahq-latents", None, "train")
    with pytest.raises(DataError, match="no split 'test'"):
        read("celebahq-latents", None, "test")


@pytest.mark.parametrize("name", datasaurus.NAMES)
def test_same_stats_different_graphs(name):
    """Matejka and Fitzmaurice keep mean, deviation and correlation equal to two decimals."""
    points = datasaurus.load(name)
    np.testing.assert_allclose(load_data(f"datasaurus-{name}").images.numpy(), points, atol=1e-7)
    assert points.shape == (datasaurus.POINTS, 2)
    assert points.dtype == np.float64
    assert np.abs(points).max() <= 1
    raw = points * 50 + 50
    np.testing.assert_allclose(raw.mean(0), [54.26, 47.83], atol=0.011)
    np.testing.assert_allclose(raw.std(0, ddof=1), [16.76, 26.93], atol=0.011)
    assert np.corrcoef(raw.T)[0, 1] == pytest.approx(-0.065, abs=0.005)


def test_the_sets_are_found_by_name_differ_and_are_private_copies():
    assert len({datasaurus.load(name).tobytes() for name in datasaurus.NAMES}) == len(datasaurus.NAMES) == 13
    datasaurus.load("dino")[:] = 7
    np.testing.assert_array_equal(datasaurus.load("dino")[0], [(55.3846 - 50) / 50, (97.1795 - 50) / 50])
    with pytest.raises(ValueError, match=r"'dinno' \(did you mean 'dino'\?\).*bullseye"):
        datasaurus.load("dinno")


@pytest.fixture
def batches():
    """Six batches of 4 CIFAR images (label, R, G, B planes)."""
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {name: rng.integers(0, 256, (4, 3073), dtype=np.uint8) for name in names}


@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "."])
def test_cifar_binary(tmp_path, batches, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, rows in batches.items():
        rows.tofile(tmp_path / folder / f"{name}.bin")
    train, test = read("cifar10", tmp_path, "train"), read("cifar10", tmp_path, "test")
    assert train.images.shape == (20, 3, 32, 32)
    assert test.images.shape == (4, 3, 32, 32)
    expected = np.concatenate([rows[:, 1:] for name, rows in batches.items() if name != "test_batch"])
    np.testing.assert_array_equal(train.images.reshape(20, -1).numpy(), expected)
    np.testing.assert_array_equal(test.images.reshape(4, -1).numpy(), batches["test_batch"][:, 1:])
    labels = load_labels(DataConfig("cifar10", str(tmp_path), "test"))
    assert labels.values.tolist() == batches["test_batch"][:, 0].tolist()
    path = tmp_path / folder / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"test_batch.bin has 12291 bytes, not a multiple of 3073"):
        read("cifar10", tmp_path, "test")
    path.unlink()
    with pytest.raises(DataError, match=r"cifar10 \(test\) is not here"):
        read("cifar10", tmp_path, "test")


def test_download_errors(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"unknown data set 'minst' \(did you mean 'mnist'\?\); known are digits"):
        download("minst", tmp_path)
    with pytest.raises(DataError, match="digits is not downloaded: it is part of scikit-learn"):
        download("digits", tmp_path)
    with pytest.raises(DataError, match="celebahq-latents is not downloaded: encode a folder"):
        download("celebahq-latents", tmp_path)

    def no_network(folder):
        raise RuntimeError("Error downloading x:\nTried y, got:\nz")

    monkeypatch.setitem(DATASETS._entries, "mnist", KnownData("x", None, download=no_network))
    with pytest.raises(DataError, match=r"mnist cannot be downloaded \(Error downloading x: Tried y, got: z\); fetch"):
        download("mnist", tmp_path / "new")


def test_download_of_mnist_from_a_mirror(shared, tmp_path, monkeypatch, serve):
    """The real torchvision download, from a mirror on this machine that holds the test images only."""
    from torchvision.datasets import MNIST

    mirror = shared / "data" / "mnist-t10k"
    name = "t10k-images-idx3-ubyte.gz"
    monkeypatch.setattr(MNIST, "mirrors", [serve(mirror)])
    monkeypatch.setattr(MNIST, "resources", [(name, hashlib.md5((mirror / name).read_bytes()).hexdigest())])
    monkeypatch.setattr(MNIST, "_load_data", lambda self: (None, None))
    root = download("mnist", tmp_path / "cache")
    assert torch.equal(read("mnist", root, "test").images, read("mnist", mirror, "test").images)


def test_cifar_is_downloaded_and_read_only_if_its_sums_are_right(tmp_path, batches, monkeypatch, serve):
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "server" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, rows in batches.items():
        (folder / name).write_bytes(pickle.dumps({"data": rows[:, 1:], "labels": rows[:, 0].tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    archive = folder.parent / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(CIFAR10, "url", serve(archive.parent) + archive.name)
    with pytest.raises(DataError, match=r"cifar10 cannot be downloaded \(File not found or corrupted"):
        download("cifar10", tmp_path / "cache")
    with pytest.raises(DataError, match=r"cifar-10-batches-py is incomplete or changed .*; download it again"):
        read("cifar10", folder.parent, "test")
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in (archive, *folder.iterdir())}
    monkeypatch.setattr(CIFAR10, "tgz_md5", sums[archive.name])
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in batches if name != "test_batch"])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    root = download("cifar10", tmp_path / "cache")
    for split, name in (("train", "data_batch_1"), ("test", "test_batch")):
        got = read("cifar10", root, split).images[:4].reshape(4, -1)
        np.testing.assert_array_equal(got.numpy(), batches[name][:, 1:])
