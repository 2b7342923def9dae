"""`proxdm stats`: statistics of shipped data and of folders, and every refusal before the work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proxdm import imaging
from proxdm.cli import call
from proxdm.data import load_data
from proxdm.metrics.statistics import ReferenceStatistics


def run(*arguments):
    return call("stats", [str(argument) for argument in arguments])


def test_statistics_of_the_digits(tmp_path, capsys):
    path = tmp_path / "new" / "digits.npz"
    assert run("digits", "--out", path, "--features", "pixels", "--device", "cpu") == 0
    statistics = ReferenceStatistics.load(path)
    images = load_data("digits").images
    np.testing.assert_allclose(statistics.mu, (images.double() / 127.5 - 1).mean(0).flatten(), atol=1e-7)
    assert (statistics.n, statistics.backend, statistics.dataset) == (1797, "pixels", "digits")
    assert (statistics.split, statistics.shape) == ("train", (1, 8, 8))
    out = capsys.readouterr()
    assert out.out == f"{path}: 64 pixels features of 1797 images 1x8x8, of digits train\n"
    assert "warning" not in out.err


def test_statistics_of_a_folder_resized(tmp_path, capsys, generator):
    folder = tmp_path / "pictures"
    folder.mkdir()
    imaging.save_pictures(torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1, folder)
    path = tmp_path / "s.npz"
    path.write_text("old")
    options = ["--features", "pixels", "--size", 4, "--grey", "--limit", 5, "--batch-size", 2, "--overwrite"]
    assert run(folder, "-o", path, *options) == 0
    statistics = ReferenceStatistics.load(path)
    assert (statistics.n, statistics.shape) == (5, (1, 4, 4))
    assert "4x4" in statistics.preprocessing
    assert "5 images leave the covariance of 16 features singular" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("digits -o s.npy", r"kept in .npz files, got s.npy; name it s.npz"),
        ("digits -o there.npz", r"there.npz is there already"),
        ("digits -o s.npz --features pixels --batch-size 0", "batch_size = 0 must be at least 1"),
        ("digitz -o s.npz", "did you mean 'digits'"),
        ("digits -o s.npz --features pixel", "unknown features 'pixel'"),
        ("digits -o s.npz --inception-weights none.pth", "there is no file none.pth"),
    ],
)
def test_wrong_input_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").write_text("precious")
    with pytest.raises((ValueError, OSError), match=message) as caught:
        run(*arguments.split())
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_text() == "precious"
