"""`proxdm evaluate`: tables and files from the command line, and every refusal in one line."""

from __future__ import annotations

import dataclasses

import pytest

from fake_results import read_rows
from proxdm.checkpoints.portable import save_model
from proxdm.cli import evaluate as verb
from proxdm.metrics.registry import METRICS
from proxdm.sweep import Spread
from tiny_models import PROX, random_model

QUICK = "--samples 20 --steps 5 --features pixels --chunk 16 --device cpu"


@pytest.fixture
def model():
    return str(save_model(random_model(PROX), "tiny.safetensors", weights="ema-0.9"))


def test_table_and_rows(model, tmp_path, succeeds):
    command = f"evaluate {model} {QUICK} --metrics fid w2 --seeds 2 --reference digits --out out"
    shown, found = succeeds(command), read_rows(tmp_path / "out")
    assert [(row["sampler"], row["nfe"], row["seed"]) for row in found] == [("prox-hybrid", 5, i) for i in (0, 1)]
    first = {"source": model, "weights": "ema-0.9", "preset": "tiny", "samples": 20, "steps": 5}
    assert first.items() <= found[0].items()
    assert found[0]["features"] == {"name": "pixels", "dim": 64, "weights": "", "resize": "none"}
    assert set(found[0]["versions"]) == {"proxdm", "torch", "python"}
    lines = shown.out.splitlines()
    assert "20 samples, mean ± standard deviation of 2 seeds, pixels features, against digits (100 images)" in lines[0]
    (line,) = [line for line in lines if line.startswith("prox-hybrid")]
    assert str(Spread(tuple(row["metrics"]["w2"] for row in found))) in line
    assert "about" in shown.err
    assert "warning: 20 samples leave the covariance of 64 features singular" in shown.err
    assert "2 of 2 rows were there already" in succeeds(command).out
    assert read_rows(tmp_path / "out") == found
    succeeds(f"{command} --overwrite --seeds 1")
    assert [row["seed"] for row in read_rows(tmp_path / "out")] == [1, 0]


def test_limited_metrics_are_said_to_be(model, tmp_path, succeeds, monkeypatch):
    monkeypatch.setitem(METRICS._entries, "w2", dataclasses.replace(METRICS["w2"], most=15))
    shown = succeeds(f"evaluate {model} {QUICK} --metrics fid w2").out
    assert "w2 is taken on 15 samples and 15 images of the reference." in shown
    (row,) = read_rows(tmp_path / "evaluations" / "tiny")  # named after the source
    assert row["used"] == {"fid": [20, 100], "w2": [15, 15]}
    assert verb.folder_name("owner/name@main") == "name-main"


@pytest.mark.parametrize(
    "options, message",
    [
        ("--metrics fod", "unknown metric 'fod'"),
        ("--sampler ode-euler", "needs a model with .score"),
        ("--size 3", "--size says how to read the reference"),
        ("--reference none.npz", "there is no file none.npz"),
        ("--reference digitz", "unknown data set 'digitz' (did you mean 'digits'?)"),
        ("--out file", "results cannot be written to file"),
        ("--device abacus", "device = abacus cannot be used here"),
    ],
)
def test_wrong_input_is_refused(model, tmp_path, refused, options, message):
    (tmp_path / "file").write_text("precious")
    assert message in refused(f"evaluate {model} {QUICK} --out out {options}")
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "out" / "results.jsonl").exists()
