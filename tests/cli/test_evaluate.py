"""`proxdm evaluate`: tables and files from the command line, and every refusal in one line."""

from __future__ import annotations

import dataclasses
import json

import pytest

from proxdm.checkpoints.portable import save_model
from proxdm.cli import evaluate as verb
from proxdm.cli import main
from proxdm.metrics.registry import METRICS
from proxdm.sweep import Spread
from tiny_models import PROX, random_model

QUICK = ["--samples", 20, "--steps", 5, "--features", "pixels", "--chunk", 16, "--device", "cpu"]


@pytest.fixture
def model(tmp_path):
    return str(save_model(random_model(PROX), tmp_path / "tiny.safetensors", weights="ema-0.9"))


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
    assert "20 samples, mean ± standard deviation of 2 seeds, pixels features, against digits (100 images)" in lines[0]
    (line,) = [line for line in lines if line.startswith("prox-hybrid")]
    assert Spread(tuple(row["metrics"]["w2"] for row in found)).figures in line
    assert "about" in shown.err
    assert "warning: 20 samples leave the covariance of 64 features singular" in shown.err
    assert evaluate(model, *arguments) == 0
    again = capsys.readouterr()
    assert "2 of 2 rows were there already" in again.out
    assert rows(out) == found
    assert evaluate(model, *arguments, "--overwrite", "--seeds", 1) == 0
    assert [row["seed"] for row in rows(out)] == [1, 0]


def test_a_step_that_is_undefined_is_skipped_with_a_sentence(model, tmp_path, succeeds):
    arguments = [*QUICK, "--steps", 5, 12, "--sampler", "prox-backward", "prox-ode", "--out", tmp_path / "out"]
    assert "skipped prox-backward at N = 5: the prox-backward step" in succeeds("evaluate", model, *arguments).err
    assert [(row["sampler"], row["steps"]) for row in rows(tmp_path / "out")] == [
        ("prox-backward", 12),
        ("prox-ode", 5),
        ("prox-ode", 12),
    ]


def test_limited_metrics_are_said_to_be(model, tmp_path, succeeds, monkeypatch):
    monkeypatch.setitem(METRICS._entries, "w2", dataclasses.replace(METRICS["w2"], most=15))
    said = succeeds("evaluate", model, *QUICK, "--metrics", "fid", "w2", "--out", tmp_path / "out")
    assert "w2 is taken on 15 samples and 15 images of the reference." in said.out
    assert rows(tmp_path / "out")[0]["used"] == {"fid": [20, 100], "w2": [15, 15]}


def test_out_is_named_after_the_source(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluate(model, *QUICK) == 0
    assert len(rows(tmp_path / "evaluations" / "tiny")) == 1
    assert verb.folder_name("owner/name@main") == "name-main"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--metrics", "fod"], "unknown metric 'fod'"),
        (["--sampler", "ode-euler"], "needs a model with .score"),
        (["--size", "3"], "--size says how to read the reference"),
        (["--reference", "none.npz"], "there is no file none.npz"),
        (["--reference", "nowhere"], "unknown data set 'nowhere'"),
        (["--features", "pixel"], "unknown features 'pixel'"),
        (["--out", "file"], "results cannot be written to file"),
        (["--device", "abacus"], "device = abacus cannot be used here"),
    ],
)
def test_wrong_input_is_refused_in_one_line(model, tmp_path, monkeypatch, refused, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    assert message in refused("evaluate", model, *QUICK, "--out", "out", *arguments)
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_a_missing_model(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    assert "there is no model 'nowhere'" in refused("evaluate", "nowhere", *QUICK)
