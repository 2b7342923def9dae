"""`proxdm features`: files that `stats` and `evaluate` take, what is said of them, and what is refused before work."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from proxdm.checkpoints.portable import save_model
from proxdm.cli import main
from proxdm.metrics.features import load_extractor, load_module
from proxdm.metrics.statistics import ReferenceStatistics
from proxdm.presets import get_preset
from proxdm.runtime.digests import sha256_of


def features(*arguments):
    return main(["features", *map(str, arguments)])


def train(*arguments):
    return features("train", *arguments, "--device", "cpu", "--steps", 2, "--batch-size", 8)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROXDM_DEBUG", raising=False)


def test_digits_then_statistics_then_an_evaluation(tmp_path, capsys, refused):
    assert train("digits") == 0
    path = tmp_path / "features" / "digits.pt"
    out = capsys.readouterr().out
    assert out.startswith("features/digits.pt: 128 features of digits, 1x8x8, 10 classes; test accuracy ")
    assert "of 359 images; 2 steps on 1438 images" in out
    assert "proxdm evaluate RUN --features features/digits.pt" in out
    about = load_module(path)[1].about
    assert f"test accuracy {about['test_accuracy']:.2%} " in out
    assert (about["dataset"], about["steps"], about["seed"], about["flip"]) == ("digits", 2, 0, "none")
    assert list((tmp_path / "features").iterdir()) == [path]

    assert main(["stats", "digits", "--features", str(path), "--out", "s.npz", "--device", "cpu"]) == 0
    statistics = ReferenceStatistics.load(tmp_path / "s.npz")
    assert (statistics.backend, statistics.weights, statistics.dim) == ("digits-classifier", sha256_of(path), 128)
    torch.manual_seed(0)
    config = get_preset("digits-prox-hybrid")
    model = config.model.build()
    model.config = config
    source = save_model(model.eval(), tmp_path / "m.safetensors", weights="raw")
    common = ["--samples", "4", "--steps", "2", "--features", str(path), "--device", "cpu", "--out", "e"]
    assert main(["evaluate", str(source), *common, "--reference", "s.npz"]) == 0
    row = json.loads((tmp_path / "e" / "results.jsonl").read_text())
    assert row["features"]["weights"] == sha256_of(path)
    assert row["metrics"]["fid"] > 0

    capsys.readouterr()
    assert train("digits", "--out", "other.pt", "--seed", 1) == 0
    error = refused("evaluate", source, *common[:4], "--features", "other.pt", "--reference", "s.npz")
    assert "were made by different routes: weights" in error


def test_info(tmp_path, capsys, refused):
    (tmp_path / "f.pt").write_text("old")
    assert train("digits", "-o", "f.pt", "--overwrite", "--seed", 5, "--lr", 0.001) == 0
    capsys.readouterr()
    assert features("info", "f.pt") == 0
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["name"] == "digits-classifier"
    assert rows["takes"] == "channels: 1, 8x8, values -1 to 1"
    assert rows["sha256"] == sha256_of(tmp_path / "f.pt")
    assert (rows["seed"], rows["lr"], rows["classes"]) == ("5", "0.001", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    for name, words in (("bad.pt", "cannot be loaded as a module"), ("no.pt", "there is no file no.pt")):
        assert words in refused("features", "info", name)


def test_a_folder_of_pictures_resized(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            picture = Image.fromarray(rng.integers(0, 256, (12, 14, 3), np.uint8))
            picture.save(tmp_path / "pets" / name / f"{number}.png")
    assert train("pets", "--size", 10, "--flip", "random") == 0
    assert "features/pets.pt: 128 features of pets, 3x10x10, 2 classes" in capsys.readouterr().out
    found = load_module(tmp_path / "features" / "pets.pt")[1]
    assert (found.about["classes"], found.about["flip"]) == (["cats", "dogs"], "random")
    assert load_extractor(tmp_path / "features" / "pets.pt", (3, 10, 10)).dim == 128
    for number in range(12):
        (tmp_path / "pets" / "dogs" / f"{number}.png").unlink()
    assert train("pets", "--size", 10, "--out", "new.pt") == 2
    assert "pets has 8 images of the class 'dogs', a classifier needs 12 of each" in capsys.readouterr().err
    assert not (tmp_path / "new.pt").exists()


def test_without_a_sub_command(capsys, refused):
    for arguments in ((), ("trian", "digits")):
        assert "train, info" in refused("features", *arguments)
    assert features("--help") == features("train", "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "proxdm features train digits" in said
    assert "--batch-size" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "digitz"], "unknown data set with labels 'digitz' (did you mean 'digits'?)"),
        (["train", "celebahq-latents"], "celebahq-latents has no labels"),
        (["train", "mnist", "--root", "."], "mnist (train) is not here"),
        (["train", "digits", "--out", "f.pth"], "results are kept in .pt files, got f.pth; name it f.pt"),
        (["train", "digits", "--out", "there.pt"], "there.pt is there already"),
        (["train", "digits", "--out", "there.pt/f.pt"], "results cannot be written to there.pt"),
        (["train", "digits", "--out", "folder.pt"], "folder.pt is a folder"),
        (["train", "digits", "--steps", "0"], "steps = 0 must be at least 1"),
        (["train", "digits", "--batch-size", "1"], "batch_size = 1 must be at least 2"),
        (["train", "digits", "--device", "abacus"], "device = abacus cannot be used here"),
        (["train", "there.pt"], "there.pt has no labels"),
    ],
)
def test_wrong_input_is_refused(arguments, message, tmp_path, refused):
    (tmp_path / "there.pt").write_text("precious")
    (tmp_path / "folder.pt").mkdir()
    assert message in refused("features", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.pt", "there.pt"]
    assert (tmp_path / "there.pt").read_text() == "precious"
