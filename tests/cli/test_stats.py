"""`proxdm stats`: statistics of shipped data and of folders, and every refusal before the work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proxdm import imaging
from proxdm.data import load_data
from proxdm.metrics.statistics import ReferenceStatistics


def test_statistics_of_the_digits(tmp_path, succeeds):
    path = tmp_path / "new" / "digits.npz"
    said = succeeds(f"stats digits --out {path} --features pixels --device cpu")
    statistics = ReferenceStatistics.load(path)
    images = load_data("digits").images
    np.testing.assert_allclose(statistics.mu, (images.double() / 127.5 - 1).mean(0).flatten(), atol=1e-7)
    assert (statistics.n, statistics.backend, statistics.dataset) == (1797, "pixels", "digits")
    assert (statistics.split, statistics.shape) == ("train", (1, 8, 8))
    assert said.out == f"{path}: 64 pixels features of 1797 images 1x8x8, of digits train\n"
    assert "warning" not in said.err


def test_statistics_of_a_folder_resized(tmp_path, succeeds, generator):
    folder = tmp_path / "pictures"
    folder.mkdir()
    imaging.save_pictures(torch.rand(6, 3, 8, 8, generator=generator) * 2 - 1, folder)
    path = tmp_path / "s.npz"
    path.write_text("old")
    options = "--features pixels --size 4 --grey --limit 5 --batch-size 2 --overwrite"
    said = succeeds(f"stats {folder} -o {path} {options}")
    statistics = ReferenceStatistics.load(path)
    assert (statistics.n, statistics.shape) == (5, (1, 4, 4))
    assert "4x4" in statistics.preprocessing
    assert "5 images leave the covariance of 16 features singular" in said.err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("digits -o s.npy", "kept in .npz files, got s.npy; name it s.npz"),
        ("digits -o there.npz", "there.npz exists already"),
        ("digits -o s.npz --features pixels --batch-size 0", "batch_size = 0 must be at least 1"),
        ("digitz -o s.npz", "did you mean 'digits'"),
        ("digits -o s.npz --features pixel", "unknown features 'pixel'"),
        ("digits -o s.npz --inception-weights none.pth", "there is no file none.pth"),
    ],
)
def test_wrong_input_is_refused(arguments, message, tmp_path, refused):
    (tmp_path / "there.npz").write_text("precious")
    assert message in refused(f"stats {arguments}")
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_text() == "precious"
