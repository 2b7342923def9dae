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
    return main(["evaluate", source, *map(str, arguments)])


def rows(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_table_and_rows(model, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [*QUICK, "--metrics", "fid", "w2", "--seeds", 2, "--reference", "digits", "--out", out]
    assert evaluate(model, *arguments) == 0
    found, shown = rows(out), capsys.readouterr()
    assert [(row["sampler"], row["nfe"], row["seed"]) for row in found] == [("prox-hybrid", 5, i) for i in (0, 1)]
    first = {"source": model, "weights": "ema-0.9", "preset": "tiny", "samples": 20, "steps": 5}
    assert {name: found[0][name] for name in first} == first
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


def test_limited_metrics_are_said_to_be(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(METRICS._entries, "w2", dataclasses.replace(METRICS["w2"], most=15))
    assert evaluate(model, *QUICK, "--metrics", "fid", "w2", "--out", tmp_path / "out") == 0
    assert "w2 is taken on 15 samples and 15 images of the reference." in capsys.readouterr().out
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
        (["--reference", "digitz"], "unknown data set 'digitz' (did you mean 'digits'?)"),
        (["--features", "pixel"], "unknown features 'pixel'"),
        (["--out", "file"], "results cannot be written to file"),
        (["--device", "abacus"], "device = abacus cannot be used here"),
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
