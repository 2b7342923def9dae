"""Two sets of pictures compared: closed forms, pytorch-fid, statistics, and what cannot be compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from proxdm.evaluation import ComparisonPlan, compare_sets
from proxdm.metrics.frechet import frechet_distance
from proxdm.metrics.statistics import StatisticsError
from proxdm.metrics.wasserstein import w2

PIXELS = ComparisonPlan(features="pixels")


def pictures(folder, seed, count=30, size=4, mode="RGB", shift=0):
    folder.mkdir()
    draws = np.random.default_rng(seed).integers(0, 200, (count, size, size, 3), dtype=np.uint8) + np.uint8(shift)
    for i, one in enumerate(draws):
        Image.fromarray(one).convert(mode).save(folder / f"{i}.png")
    return folder, torch.from_numpy(draws).permute(0, 3, 1, 2)


def test_fid_is_that_of_the_moments(tmp_path):
    (a, x), (b, y) = pictures(tmp_path / "a", 0), pictures(tmp_path / "b", 1, 40, shift=20)
    x, y = (one.flatten(1).double() / 127.5 - 1 for one in (x, y))
    expected = frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    found = compare_sets(a, b, PIXELS, device="cpu")
    assert found.values["fid"] == pytest.approx(expected, rel=1e-6)
    assert found.counts == (30, 40)
    assert compare_sets(a, a, PIXELS, device="cpu").values["fid"] == pytest.approx(0, abs=1e-6)


def test_batches_have_no_influence_and_every_metric_is_taken(tmp_path):
    (a, _), (b, _) = pictures(tmp_path / "a", 0), pictures(tmp_path / "b", 1)
    metrics = ("fid", "kid", "precision-recall", "w2", "sliced-w2", "nearest")
    one, other = (
        compare_sets(a, b, ComparisonPlan(metrics, "pixels", batch_size=size), device="cpu").values for size in (7, 64)
    )
    assert one.keys() == other.keys()
    assert one == pytest.approx(other, rel=1e-6)
    assert {"fid", "kid", "precision", "recall", "w2", "sliced_w2"} <= one.keys()


def test_metrics_of_pixels_ask_for_no_weights(tmp_path):
    (a, _), (b, _) = pictures(tmp_path / "a", 0), pictures(tmp_path / "b", 1)
    found = compare_sets(a, b, ComparisonPlan(("w2",), inception_weights=tmp_path / "none.pth"), device="cpu")
    assert found.features == "pixels"


def test_points_are_compared_as_they_are(tmp_path, succeeds, refused):
    rng = np.random.default_rng(0)
    x, y = 3 * rng.normal(size=(40, 2)).astype(np.float32), rng.normal(size=(50, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    command = f"fid {tmp_path / 'x.npy'} {tmp_path / 'y.npy'}"
    assert f"{w2(x, y):.6g}" in succeeds(f"{command} --metrics w2").out
    assert "Fréchet distance  " in succeeds(f"{command} --features pixels").out, "no FID"
    assert "take these as they are" in refused(command)


def test_statistics_stand_for_pictures_of_the_same_features(tmp_path, succeeds):
    a, b, large = (pictures(tmp_path / f"{seed}", seed, size=size)[0] for seed, size in enumerate((4, 4, 6)))
    for folder in (a, b, large):
        succeeds(f"stats {folder} --features pixels --out {folder}.npz --device cpu")
    expected = compare_sets(a, b, PIXELS, device="cpu").values["fid"]
    for pair in ((a, f"{b}.npz"), (f"{a}.npz", b), (f"{a}.npz", f"{b}.npz")):
        assert compare_sets(*pair, PIXELS, device="cpu").values["fid"] == pytest.approx(expected, rel=1e-6)
    kid = ComparisonPlan(("kid",), "pixels")
    for pair in ((a, f"{b}.npz"), (f"{a}.npz", b)):
        with pytest.raises(StatisticsError, match="statistics only"):
            compare_sets(*pair, kid, device="cpu")
    for pair in ((a, f"{large}.npz"), (f"{large}.npz", a), (f"{a}.npz", f"{large}.npz")):
        with pytest.raises(StatisticsError, match=r"(48|108) features .* (48|108) features"):
            compare_sets(*pair, PIXELS, device="cpu")


def test_command(tmp_path, succeeds, refused):
    (a, _), (b, _) = pictures(tmp_path / "a", 0), pictures(tmp_path / "b", 1)
    out = tmp_path / "fid.json"
    command = f"fid {a} {b} --features pixels --metrics fid kid --out {out}"
    assert "30 pictures" in succeeds(command).out
    written = json.loads(out.read_text())
    assert written["values"] == pytest.approx(compare_sets(a, b, ComparisonPlan(("fid", "kid"), "pixels")).values)
    assert "fid.json" in refused(command)


def test_evaluate_takes_pictures_that_are_there(tmp_path, succeeds, refused):
    (a, _), (b, _) = pictures(tmp_path / "a", 0), pictures(tmp_path / "b", 1)
    options = "--features pixels --metrics fid kid --device cpu"
    expected = succeeds(f"fid {a} {b} {options}").out
    assert succeeds(f"evaluate --samples-from {a} --reference {b} {options}").out == expected
    succeeds(f"sample digits --steps 2 -n 40 --out {tmp_path}/s")
    # The reference is what the model was trained on: the files are grey, and so is the data set.
    said = succeeds(f"evaluate digits --samples-from {tmp_path}/s --features pixels --device cpu")
    assert "against digits (1,797 pictures)" in said.out
    assert "--samples-from FOLDER" in refused("evaluate")
    assert "--reference" in refused(f"evaluate --samples-from {a}")
    assert "--split" in refused(f"evaluate --samples-from {a} --reference digits --split train")


@pytest.mark.parametrize(
    "options, words",
    [
        ("a nowhere", "nowhere"),
        ("a b --metrics copying", "proxdm evaluate"),
        ("a b --metrics fud", "did you mean 'fid'"),
        ("a large --metrics sliced-w2", "--size"),
        ("a b --batch-size 0", "--batch-size = 0"),
        ("a one", "2 at least"),
        ("one a", "pictures of one are too few for fid, which needs 2"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, refused, options, words):
    monkeypatch.chdir(tmp_path)
    for name, count, size in (("a", 5, 4), ("b", 5, 4), ("large", 5, 6), ("one", 1, 4)):
        pictures(tmp_path / name, 0, count, size)
    assert words in refused(f"fid {options} --features pixels")
