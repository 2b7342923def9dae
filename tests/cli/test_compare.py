"""Comparing from the command line: tables, figures, reuse of rows, refusals."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from fake_results import make_row, write_results
from proxdm.checkpoints.portable import save_model
from proxdm.cli import compare as verb
from proxdm.cli import main
from tiny_models import PROX, random_model

QUICK = ["--samples", 20, "--features", "pixels", "--device", "cpu"]


def compare(*arguments):
    return main(["compare", *map(str, arguments)])


@pytest.fixture
def folders(tmp_path):
    """Results of two models, on two metrics and seeds."""
    made = {}
    for name, samplers in {"score": ["euler-maruyama"], "prox": ["prox-hybrid", "prox-ode"]}.items():
        rows = [
            make_row(sampler, n, seed, source=f"runs/{name}", metrics={"fid": 100 / n + seed + i, "w2": 1.0 + i})
            for i, sampler in enumerate(samplers)
            for n in (5, 10)
            for seed in (0, 1)
        ]
        made[name] = write_results(tmp_path / "evaluations" / name, rows)
    return made


def test_results_are_read_and_the_best_are_marked(folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(folders["score"], folders["prox"] / "results.jsonl", "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fid (lower is better), 256 samples, pixels features, against digits (1,797 images")
    assert lines[0].endswith("mean ± standard deviation of 2 seeds:")
    cells = {line.split("  ")[0]: line for line in lines[2:7]}
    assert "20.50 ± 0.71 *" in cells["euler-maruyama"], "equal means share the mark"
    assert "20.50 ± 0.71 *" in cells["prox-hybrid"]
    assert "21.50 ± 0.71 *" not in cells["prox-ode"]
    record = json.loads((out / "compare.json").read_text())
    assert [panel["metric"] for panel in record["panels"]] == ["fid", "w2"]
    assert [one["label"] for one in record["panels"][0]["series"]] == ["euler-maruyama", "prox-hybrid", "prox-ode"]
    assert record["panels"][0]["series"][0]["points"][0]["values"] == {"0": 20.0, "1": 21.0}
    assert Image.open(out / "compare.png").width > 500
    assert ElementTree.parse(out / "compare.svg").getroot().tag.endswith("svg")
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", "compare.png", "compare.svg"]


def test_a_folder_of_results_is_the_same_as_its_parts(folders, tmp_path):
    assert compare(*folders.values(), "--out", tmp_path / "a") == 0
    assert compare(tmp_path / "evaluations", "--out", tmp_path / "b") == 0
    a, b = (json.loads((tmp_path / name / "compare.json").read_text()) for name in "ab")
    assert {s["label"] for s in a["panels"][0]["series"]} == {s["label"] for s in b["panels"][0]["series"]}


def test_options_choose_what_is_shown_of_results(folders, tmp_path):
    out = tmp_path / "out"
    chosen = ["--metrics", "w2", "--steps", 10, "--sampler", "prox-ode", "euler-maruyama"]
    assert compare(tmp_path / "evaluations", *chosen, "--out", out) == 0
    (panel,) = json.loads((out / "compare.json").read_text())["panels"]
    assert panel["metric"] == "w2"
    assert [(s["label"], [p["steps"] for p in s["points"]]) for s in panel["series"]] == [
        ("euler-maruyama", [10]),
        ("prox-ode", [10]),
    ]


def test_models_are_evaluated_once(tmp_path, monkeypatch, capsys, succeeds):
    monkeypatch.chdir(tmp_path)
    source = str(save_model(random_model(PROX), tmp_path / "tiny.safetensors", weights="ema-0.9"))
    assert compare(source, *QUICK, "--steps", 5, 10) == 0
    captured = capsys.readouterr()
    assert "skipped prox-backward at N = 5" in captured.err
    (backward,) = [line for line in captured.out.splitlines() if line.startswith("prox-backward")]
    assert "–" in backward
    results = tmp_path / "evaluations" / "tiny" / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert {(row["sampler"], row["steps"]) for row in rows} >= {("prox-hybrid", 5), ("prox-ode", 10)}
    before = results.read_bytes()
    again = succeeds("compare", source, *QUICK, "--steps", 5, 10, "--overwrite")
    assert f"{len(rows)} of {len(rows)} rows are there already" in again.err
    assert results.read_bytes() == before
    assert (tmp_path / "comparisons" / "tiny" / "compare.png").is_file()


def test_what_was_measured_differently_is_refused_unless_forced(folders, tmp_path, succeeds, refused):
    other = write_results(tmp_path / "few", [make_row("euler-maruyama", samples=100, source="runs/score")])
    out = tmp_path / "out"
    error = refused("compare", folders["prox"], other, "--out", out)
    assert "prox prox-hybrid, prox prox-ode with 256 samples" in error
    assert "score euler-maruyama with 100 samples" in error
    assert "--force" in error
    assert not list(out.iterdir())
    shown = succeeds("compare", folders["prox"], folders["score"], other, "--out", out, "--force").out
    assert "euler-maruyama · 100 samples" in shown
    assert "euler-maruyama · 256 samples" in shown
    fid = shown.partition("w2 (")[0]
    assert "100 samples, pixels features" in fid
    assert " *" not in fid, "nothing is best where measures differ"


def test_nothing_is_replaced_without_overwrite(folders, tmp_path, refused):
    out = tmp_path / "out"
    out.mkdir()
    (out / "compare.json").write_text("precious")
    assert "holds compare.json already; add --overwrite" in refused("compare", folders["prox"], "--out", out)
    assert (out / "compare.json").read_text() == "precious"
    assert compare(folders["prox"], "--out", out, "--overwrite") == 0
    assert json.loads((out / "compare.json").read_text())["panels"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "nothing to compare"),
        (["nowhere.jsonl"], "no results found: nowhere.jsonl does not exist"),
        (["nowhere"], "there is no model 'nowhere'"),
        (["empty"], "empty holds neither a model (a run, a checkpoint, model.safetensors) nor results"),
        (["evaluations", "--sampler", "euler"], "unknown sampler 'euler'"),
        (["evaluations", "--steps", "7"], "no row is left to compare"),
        (["evaluations", "--metrics", "kid"], "no row has kid; the results have fid, w2"),
        (["damaged.jsonl"], "line 1 of damaged.jsonl is not a JSON object"),
    ],
)
def test_wrong_input_is_refused_in_one_line(folders, tmp_path, monkeypatch, refused, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.jsonl").write_text("not json\n")
    assert message in refused("compare", *arguments)


def test_a_model_folder_is_a_model_even_if_results_lie_in_it(tmp_path):
    write_results(tmp_path, [make_row()])
    assert verb.is_results(tmp_path)
    assert verb.is_results(tmp_path / "results.jsonl")
    (tmp_path / "model.safetensors").touch()
    assert not verb.is_results(tmp_path)
