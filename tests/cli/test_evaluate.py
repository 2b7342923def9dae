"""`proxdm evaluate`: tables and files from the command line, and every refusal in one line."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from proxdm.checkpoints.portable import save_model
from proxdm.cli import evaluate as verb
from proxdm.cli import main, measuring
from proxdm.config import ModelConfig
from proxdm.data.load import DataConfig
from proxdm.networks import UNetConfig
from proxdm.presets import get_preset

NETWORK = UNetConfig(1, 8, (1, 2), (1,), 1, conditioning="time-lam")
CONFIG = dataclasses.replace(
    get_preset("digits-prox-hybrid"), preset="tiny", model=ModelConfig("prox", (1, 8, 8), NETWORK)
)
QUICK = ["--samples", 20, "--steps", 5, "--features", "pixels", "--chunk", 16, "--device", "cpu"]


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    model = CONFIG.model.build()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.config = CONFIG
    return str(save_model(model.eval(), tmp_path / "tiny.safetensors", weights="ema-0.9"))


def evaluate(source, *arguments):
    return main(["evaluate", str(source), *map(str, arguments)])


def rows(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_table_and_rows(model, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [*QUICK, "--metrics", "fid", "w2", "--seeds", 2, "--reference", "digits", "--out", out]
    assert evaluate(model, *arguments) == 0
    found, shown = rows(out), capsys.readouterr()
    assert [(row["sampler"], row["steps"], row["nfe"], row["seed"]) for row in found] == [
        ("prox-hybrid", 5, 5, 0),
        ("prox-hybrid", 5, 5, 1),
    ]
    assert found[0]["source"] == model
    assert (found[0]["weights"], found[0]["preset"], found[0]["samples"]) == ("ema-0.9", "tiny", 20)
    assert found[0]["features"] == {"name": "pixels", "dim": 64, "weights": "", "resize": "none"}
    assert set(found[0]["versions"]) == {"proxdm", "torch", "python"}
    lines = shown.out.splitlines()
    assert "20 samples, mean ± standard deviation of 2 seeds, pixels features, against digits (1797 images)" in lines[0]
    (line,) = [line for line in lines if line.startswith("prox-hybrid")]
    mean = sum(row["metrics"]["w2"] for row in found) / 2
    assert f"{mean:.4g} ± " in line
    assert "about" in shown.err
    assert "warning: 20 samples leave the covariance of 64 features singular" in shown.err
    assert evaluate(model, *arguments) == 0
    again = capsys.readouterr()
    assert "2 of 2 rows were there already" in again.out
    assert rows(out) == found
    assert evaluate(model, *arguments, "--overwrite", "--seeds", 1) == 0
    assert [row["seed"] for row in rows(out)] == [1, 0]


def test_a_step_that_is_undefined_is_skipped_with_a_sentence(model, tmp_path, capsys):
    arguments = [*QUICK, "--steps", 5, 12, "--sampler", "prox-backward", "prox-ode", "--out", tmp_path / "out"]
    assert evaluate(model, *arguments) == 0
    assert "skipped prox-backward at N = 5: the prox-backward step" in capsys.readouterr().err
    assert [(row["sampler"], row["steps"]) for row in rows(tmp_path / "out")] == [
        ("prox-backward", 12),
        ("prox-ode", 5),
        ("prox-ode", 12),
    ]


def test_limited_metrics_are_said_to_be(model, tmp_path, capsys, monkeypatch):
    from proxdm.evaluation.measures import MEASURES

    monkeypatch.setitem(MEASURES._entries, "w2", dataclasses.replace(MEASURES["w2"], most=15))
    assert evaluate(model, *QUICK, "--metrics", "fid", "w2", "--out", tmp_path / "out") == 0
    assert "w2 is taken on 15 samples and 15 images of the reference." in capsys.readouterr().out
    assert rows(tmp_path / "out")[0]["used"] == {"fid": [20, 1797], "w2": [15, 15]}


def test_out_is_named_after_the_source(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluate(model, *QUICK) == 0
    assert len(rows(tmp_path / "evaluations" / "tiny")) == 1
    assert verb.folder_name("owner/name@main") == "name-main"


def test_options_of_the_reference():
    base = verb.Evaluate("a", reference="mnist")
    assert measuring.reference(base) == "mnist"
    assert measuring.reference(dataclasses.replace(base, split="test")) == DataConfig("mnist", split="test")
    more = dataclasses.replace(base, size=16, grey=True, root="r")
    assert measuring.reference(more) == DataConfig("mnist", size=16, grey=True, root="r")
    with pytest.raises(ValueError, match="--size says how to read the reference: name it with --reference"):
        measuring.reference(verb.Evaluate("a", size=3))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--samples", 1], "samples = 1 are too few for fid"),
        (["--metrics", "fod"], "unknown metric 'fod'"),
        (["--sampler", "ode-euler"], "a score sampler needs a model with .score"),
        (["--sampler", "euler"], "unknown sampler 'euler'"),
        (["--reference", "none.npz"], "there is no file none.npz"),
        (["--reference", "nowhere"], "unknown data set 'nowhere'"),
        (["--features", "pixel"], "unknown features 'pixel'"),
        (["--out", "file"], "results cannot be written to file"),
        (["--device", "abacus"], "device = abacus cannot be used here"),
        (["--batch-size", 0], "batch-size = 0 must be at least 1"),
    ],
)
def test_wrong_input_is_refused_in_one_line(model, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    assert evaluate(model, *QUICK, "--out", "out", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("proxdm: error: ")
    assert message in error
    assert "\n" not in error
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_a_missing_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate("nowhere", *QUICK) == 2
    assert "there is no model 'nowhere'" in capsys.readouterr().err
