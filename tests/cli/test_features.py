"""`proxdm features`: files that `stats` and `evaluate` take, what is said of them, and what is refused before work."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from fake_results import read_rows
from proxdm.cli import main
from proxdm.metrics.features import load_extractor, load_module
from proxdm.metrics.statistics import ReferenceStatistics
from proxdm.runtime.files import sha256_of

TRAIN = "--device cpu --steps 2 --batch-size 8"


def test_digits_then_statistics_then_an_evaluation(tmp_path, succeeds, refused):
    out = succeeds(f"features train digits {TRAIN}").out
    path = tmp_path / "features" / "digits.pt"
    assert out.startswith("features/digits.pt: 128 features of digits, 1x8x8, 10 classes; test accuracy ")
    assert "of 359 images; 2 steps on 1438 images" in out
    assert "proxdm evaluate RUN --features features/digits.pt" in out
    about = load_module(path)[1].about
    assert f"test accuracy {about['test_accuracy']:.2%} " in out
    assert (about["dataset"], about["steps"], about["seed"], about["flip"]) == ("digits", 2, 0, "none")
    assert list((tmp_path / "features").iterdir()) == [path]

    succeeds("stats digits --features features/digits.pt --out s.npz --device cpu")
    statistics = ReferenceStatistics.load(tmp_path / "s.npz")
    assert (statistics.backend, statistics.weights, statistics.dim) == ("digits-classifier", sha256_of(path), 128)
    evaluate = "evaluate digits --samples 4 --steps 2 --device cpu --out e --reference s.npz --features"
    succeeds(f"{evaluate} features/digits.pt")
    (row,) = read_rows(tmp_path / "e")
    assert row["features"]["weights"] == sha256_of(path)
    assert row["metrics"]["fid"] > 0

    succeeds(f"features train digits --out other.pt --seed 1 {TRAIN}")
    assert "were made by different routes: weights" in refused(f"{evaluate} other.pt")


def test_info(tmp_path, succeeds, refused):
    (tmp_path / "f.pt").write_text("old")
    succeeds(f"features train digits -o f.pt --overwrite --seed 5 --lr 0.001 {TRAIN}")
    shown = succeeds("features info f.pt").out
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in shown.splitlines())
    assert rows["name"] == "digits-classifier"
    assert rows["takes"] == "channels: 1, 8x8, values -1 to 1"
    assert rows["sha256"] == sha256_of(tmp_path / "f.pt")
    assert (rows["seed"], rows["lr"], rows["classes"]) == ("5", "0.001", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9")
    assert "there is no file no.pt" in refused("features info no.pt")


def test_a_folder_of_pictures_resized(tmp_path, succeeds, refused):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            picture = Image.fromarray(rng.integers(0, 256, (12, 14, 3), np.uint8))
            picture.save(tmp_path / "pets" / name / f"{number}.png")
    said = succeeds(f"features train pets --size 10 --flip random {TRAIN}")
    assert "features/pets.pt: 128 features of pets, 3x10x10, 2 classes" in said.out
    found = load_module(tmp_path / "features" / "pets.pt")[1]
    assert (found.about["classes"], found.about["flip"]) == (["cats", "dogs"], "random")
    assert load_extractor(tmp_path / "features" / "pets.pt", (3, 10, 10)).dim == 128
    for number in range(12):
        (tmp_path / "pets" / "dogs" / f"{number}.png").unlink()
    error = refused(f"features train pets --size 10 --out new.pt {TRAIN}")
    assert "pets has 8 images of the class 'dogs', a classifier needs 12 of each" in error
    assert not (tmp_path / "new.pt").exists()


def test_without_a_sub_command(succeeds, capsys):
    for arguments in ([], ["trian", "digits"]):
        assert main(["features", *arguments]) == 2
        assert "train, info" in capsys.readouterr().err
    assert "proxdm features train digits" in succeeds("features --help").out
    assert "--batch-size" in succeeds("features train --help").out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("digitz", "unknown data set with labels 'digitz' (did you mean 'digits'?)"),
        ("celebahq-latents", "celebahq-latents has no labels"),
        ("digits --out f.pth", "results are kept in .pt files, got f.pth; name it f.pt"),
        ("digits --out there.pt", "there.pt exists already"),
        ("digits --out there.pt/f.pt", "results cannot be written to there.pt"),
        ("digits --out folder.pt", "folder.pt is a folder"),
        ("digits --batch-size 1", "batch_size = 1 must be at least 2"),
    ],
)
def test_wrong_input_is_refused(arguments, message, tmp_path, refused):
    (tmp_path / "there.pt").write_text("precious")
    (tmp_path / "folder.pt").mkdir()
    assert message in refused(f"features train {arguments}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.pt", "there.pt"]
    assert (tmp_path / "there.pt").read_text() == "precious"
