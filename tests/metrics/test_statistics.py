"""Reference statistics: round trips with pytorch-fid, stamps that refuse to be mixed, every broken file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pytorch_fid import fid_score as score

from proxdm import imaging
from proxdm._version import __version__
from proxdm.data import DataConfig, ImageData, load_data
from proxdm.errors import OutputError
from proxdm.metrics.features import load_extractor
from proxdm.metrics.frechet import frechet_distance
from proxdm.metrics.statistics import ReferenceStatistics, StatisticsError, compute_statistics


@pytest.fixture
def data(generator):
    """Forty random grey images of 3x3, so that there are more images than pixels."""
    images = torch.randint(0, 256, (40, 1, 3, 3), generator=generator, dtype=torch.uint8)
    return ImageData(images, "noise", "test", "none at all")


@pytest.fixture
def statistics(data):
    return compute_statistics(data, load_extractor("pixels", data.shape))


def test_statistics_are_numpys_and_stamped(data, statistics):
    features = (data.images.double() / 127.5 - 1).flatten(1).numpy()
    np.testing.assert_allclose(statistics.mu, features.mean(0), atol=1e-7)
    np.testing.assert_allclose(statistics.sigma, np.cov(features, rowvar=False), atol=1e-7)
    stamp = {f.name: getattr(statistics, f.name) for f in dataclasses.fields(statistics)[2:]}
    made = {"backend": "pixels", "weights": "", "resize": "none", "shape": (1, 3, 3)}
    of = {"n": 40, "dataset": "noise", "split": "test", "preprocessing": "none at all"}
    assert stamp == {**of, **made, "version": __version__, "source": ""}


def test_statistics_depend_neither_on_the_batch_size_nor_on_the_range(data, statistics):
    signed = dataclasses.replace(data, images=data.images.float() / 127.5 - 1)
    for images, batch_size in ((data, 1), (data, 7), (signed, 7)):
        other = compute_statistics(images, load_extractor("pixels", data.shape), batch_size=batch_size)
        np.testing.assert_allclose(other.mu, statistics.mu, atol=1e-13)
        np.testing.assert_allclose(other.sigma, statistics.sigma, atol=1e-13)


def test_points_are_taken_as_they_are(generator, tmp_path):
    points = 5 * torch.randn(30, 2, generator=generator)
    compute_statistics(ImageData(points, "points"), load_extractor("pixels", (2,))).save(tmp_path / "points.npz")
    loaded = ReferenceStatistics.load(tmp_path / "points.npz")
    assert loaded.shape == (2,)
    np.testing.assert_allclose(loaded.mu, points.double().mean(0), rtol=1e-12)


# Files


def test_pytorch_fid_and_we_read_what_was_written(statistics, tmp_path):
    path = tmp_path / "new" / "stats.npz"
    statistics.save(path)
    loaded = ReferenceStatistics.load(path)
    theirs = score.compute_statistics_of_path(str(path), None, 50, 2048, "cpu")
    for mu, sigma in ((loaded.mu, loaded.sigma), theirs):
        np.testing.assert_array_equal(mu, statistics.mu)
        np.testing.assert_array_equal(sigma, statistics.sigma)
    for field in dataclasses.fields(statistics)[2:-1]:
        assert getattr(loaded, field.name) == getattr(statistics, field.name), field.name
    assert loaded.source == str(path)
    assert [file.name for file in path.parent.iterdir()] == ["stats.npz"]


def test_we_read_pytorch_fids_on_trust(statistics, tmp_path):
    """Their file holds `mu` and `sigma` only."""
    np.savez_compressed(tmp_path / "theirs.npz", mu=statistics.mu.astype(np.float32), sigma=statistics.sigma)
    theirs = ReferenceStatistics.load(tmp_path / "theirs.npz")
    assert theirs.mu.dtype == np.float64
    assert (theirs.n, theirs.backend, theirs.shape, theirs.split) == (None, None, None, None)
    for first, second in ((statistics, theirs), (theirs, statistics)):
        with pytest.warns(UserWarning, match=r"theirs.npz does not say how it was made; taken to be pixels features"):
            assert first.check_compatible(second) is None


def test_nothing_is_overwritten_unless_told_nor_by_a_failed_save(statistics, tmp_path, monkeypatch):
    path = tmp_path / "stats.npz"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"stats.npz exists already; .*--overwrite"):
        statistics.save(path)
    assert path.read_text() == "precious"
    statistics.save(path, overwrite=True)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", lambda file, **arrays: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        statistics.save(path, overwrite=True)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def damaged(change):
    """Write a file of which `change` makes other bytes."""

    def write(path, statistics):
        statistics.save(path)
        path.write_bytes(change(path.read_bytes()))

    return write


def archive(**changes):
    """Write an archive of which some arrays are other ones, or missing."""

    def write(path, statistics):
        arrays = {"mu": statistics.mu, "sigma": statistics.sigma, **changes}
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})

    return write


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path, statistics: None, "there is no file .*stats.npz; make it with `proxdm stats"),
        (damaged(lambda content: b"no archive"), "cannot be read as statistics"),
        (damaged(lambda content: content[:-200]), "cannot be read as statistics"),
        # one byte within the numbers of mu
        (damaged(lambda content: content[:200] + bytes([content[200] ^ 255]) + content[201:]), "cannot be .*CRC"),
        (archive(mu=np.array([{}], dtype=object)), "cannot be read as statistics .*pickle"),
        (archive(sigma=None, x=np.ones(2)), r"lacks mu or sigma \(its arrays: mu, x\)"),
        (archive(mu=np.array(["a", "b"])), "cannot be read as statistics .*float"),
        (archive(shape=np.array(["a"])), "cannot be read as statistics .*invalid literal"),
        (archive(mu=np.full(9, np.nan)), "mu or sigma contain NaN"),
        (archive(mu=np.ones(8)), r"must be \(D,\) and \(D, D\), they are \(8,\) and \(9, 9\)"),
        (archive(n=np.array(1)), "n = 1, but a covariance needs 2"),
    ],
)
def test_broken_files_are_errors_in_one_line(write, message, tmp_path, statistics):
    write(tmp_path / "stats.npz", statistics)
    with pytest.raises(StatisticsError, match=message) as caught:
        ReferenceStatistics.load(tmp_path / "stats.npz")
    assert "\n" not in str(caught.value)
    assert "stats.npz" in str(caught.value)


# Stamps


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("backend", "inception", "features pixels and inception"),
        ("weights", "a" * 64, r"weights none and aaaaaaaa\.\.\."),
        ("resize", "Lanczos", "resizing none and Lanczos"),
        ("shape", (3, 3, 3), "image shape 1x3x3 and 3x3x3"),
    ],
)
def test_every_part_of_the_route_is_compared(statistics, field, value, words):
    other = dataclasses.replace(statistics, mu=statistics.mu + 1, **{field: value, "source": "b.npz"})
    with pytest.raises(StatisticsError, match=f"noise test and b.npz were made by different routes: {words}"):
        statistics.check_compatible(other)
    with pytest.warns(UserWarning, match="their distance means little"):
        assert words.split()[0] in str(statistics.check_compatible(other, force=True))
    origin = dataclasses.replace(statistics, n=7, dataset="x", split="y", preprocessing="z", version="0")
    assert statistics.check_compatible(origin) is None


def test_dimensions_cannot_be_forced(statistics):
    other = ReferenceStatistics(np.zeros(2), np.eye(2), backend="mine", source="b.npz")
    with pytest.raises(StatisticsError, match=r"9 features \(pixels of images 1x3x3\) against 2 features \(mine"):
        statistics.check_compatible(other, force=True)


def test_errors_of_computing(data):
    for images, batch_size, message in (
        (data.head(1), 1, "noise has 1 image"),
        (dataclasses.replace(data, latent=True), 1, "noise holds latents"),
        (data, 0, "batch_size = 0"),
        (dataclasses.replace(data, images=data.images[..., 1:]), 1, "set up for images 1x3x3, got a batch 1x1x3x2"),
    ):
        with pytest.raises(ValueError, match=message):
            compute_statistics(images, load_extractor("pixels", data.shape), batch_size=batch_size)


@pytest.mark.slow
def test_fid_of_real_pictures_equals_that_of_pytorch_fids_features(
    inception_file, pytorch_fid_network, cifar_pictures, shared, tmp_path
):
    """CIFAR-10 pictures against MNIST digits, through pytorch-fid's PNG reader and network on their side.

    Of fewer pictures than features its matrix root loses digits. The trace of the root is therefore the nuclear norm of
    the samples, as in `test_frechet.py`, where pytorch-fid's distance stands, too.
    """
    digits = load_data(DataConfig("mnist", root=str(shared / "data" / "mnist-t10k"), split="test", limit=8)).images
    with pytest.warns(UserWarning, match="other weights"):
        extractor = load_extractor("inception", (3, 32, 32), inception_weights=inception_file)
    ours, theirs = [], []
    for name, pictures in (("cifar", cifar_pictures[:8]), ("digits", digits.expand(-1, 3, -1, -1))):
        ours.append(compute_statistics(ImageData(pictures, name), extractor, batch_size=5))
        (tmp_path / name).mkdir()
        imaging.save_pictures(pictures, tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        features = score.get_activations(files, pytorch_fid_network, 8, num_workers=0)
        sigma = np.cov(features, rowvar=False)
        np.testing.assert_allclose(ours[-1].mu, features.mean(0), rtol=1e-5, atol=1e-5)
        assert np.linalg.norm(ours[-1].sigma - sigma) < 5e-5 * np.linalg.norm(sigma)
        theirs.append(features)
    a, b = ((features - features.mean(0)) / np.sqrt(7) for features in theirs)
    gap, overlap = theirs[0].mean(0) - theirs[1].mean(0), np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = np.sum(gap**2) + np.sum(a**2) + np.sum(b**2) - 2 * overlap
    distance = frechet_distance(ours[0].mu, ours[0].sigma, ours[1].mu, ours[1].sigma)
    assert distance == pytest.approx(expected, rel=5e-6)
