"""Comparing from the command line: tables, figures, reuse of rows, refusals."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from fake_results import make_row, read_rows, write_results
from proxdm.checkpoints.portable import save_model
from proxdm.cli import compare as verb
from tiny_models import PROX, random_model


@pytest.fixture(autouse=True)
def here(here):
    """A folder with the results of two models, on two metrics and seeds."""
    for name, samplers in {"score": ["euler-maruyama"], "prox": ["prox-hybrid", "prox-ode"]}.items():
        rows = [
            make_row(sampler, n, seed, source=f"runs/{name}", metrics={"fid": 100 / n + seed + i, "w2": 1.0 + i})
            for i, sampler in enumerate(samplers)
            for n in (5, 10)
            for seed in (0, 1)
        ]
        write_results(here / "evaluations" / name, rows)
    return here


def panels_of(folder):
    return json.loads((folder / "compare.json").read_text())["panels"]


def test_results_are_read_and_the_best_are_marked(here, succeeds):
    lines = succeeds("compare evaluations/score evaluations/prox/results.jsonl --out out").out.splitlines()
    assert lines[0].startswith("fid (lower is better), 256 samples, pixels features, against digits (1,797 images")
    assert lines[0].endswith("mean ± standard deviation of 2 seeds:")
    cells = {line.split("  ")[0]: line for line in lines[2:7]}
    assert "20.50 ± 0.71 *" in cells["euler-maruyama"], "equal means share the mark"
    assert "20.50 ± 0.71 *" in cells["prox-hybrid"]
    assert "21.50 ± 0.71 *" not in cells["prox-ode"]
    fid, other = panels_of(here / "out")
    assert (fid["metric"], other["metric"]) == ("fid", "w2")
    assert [one["label"] for one in fid["series"]] == ["euler-maruyama", "prox-hybrid", "prox-ode"]
    assert fid["series"][0]["points"][0]["values"] == {"0": 20.0, "1": 21.0}
    assert Image.open(here / "out" / "compare.png").width > 500
    assert ElementTree.parse(here / "out" / "compare.svg").getroot().tag.endswith("svg")
    assert sorted(path.name for path in (here / "out").iterdir()) == ["compare.json", "compare.png", "compare.svg"]


def test_options_choose_what_is_shown_of_results(here, succeeds):
    succeeds("compare evaluations --metrics w2 --steps 10 --sampler prox-ode euler-maruyama --out out")
    (panel,) = panels_of(here / "out")
    assert panel["metric"] == "w2"
    found = [(series["label"], [point["steps"] for point in series["points"]]) for series in panel["series"]]
    assert found == [("euler-maruyama", [10]), ("prox-ode", [10])]


def test_models_are_evaluated_once(here, succeeds):
    save_model(random_model(PROX), "tiny.safetensors", weights="ema-0.9")
    command = "compare tiny.safetensors --samples 20 --features pixels --device cpu --steps 5 10"
    out, err = succeeds(command)
    assert "skipped prox-backward at N = 5" in err
    (backward,) = [line for line in out.splitlines() if line.startswith("prox-backward")]
    assert "–" in backward
    results = here / "evaluations" / "tiny" / "results.jsonl"
    rows = read_rows(results.parent)
    assert {(row["sampler"], row["steps"]) for row in rows} >= {("prox-hybrid", 5), ("prox-ode", 10)}
    before = results.read_bytes()
    assert f"{len(rows)} of {len(rows)} rows are there already" in succeeds(f"{command} --overwrite").err
    assert results.read_bytes() == before
    assert (here / "comparisons" / "tiny" / "compare.png").is_file()


def test_what_was_measured_differently_is_refused_unless_forced(here, succeeds, refused):
    write_results(here / "few", [make_row("euler-maruyama", samples=100, source="runs/score")])
    error = refused("compare evaluations/prox few --out out")
    for words in ("prox prox-hybrid, prox prox-ode with 256", "score euler-maruyama with 100 samples", "--force"):
        assert words in error
    assert not list((here / "out").iterdir())
    shown = succeeds("compare evaluations/prox evaluations/score few --out out --force").out
    assert "euler-maruyama · 100 samples" in shown
    assert "euler-maruyama · 256 samples" in shown
    fid = shown.partition("w2 (")[0]
    assert "100 samples, pixels features" in fid
    assert " *" not in fid, "nothing is best where measures differ"


def test_nothing_is_replaced_without_overwrite(here, succeeds, refused):
    (here / "compare.json").write_text("precious")
    assert "compare.json exists already; overwrite it (--overwrite)" in refused("compare evaluations/prox --out .")
    assert (here / "compare.json").read_text() == "precious"
    succeeds("compare evaluations/prox --out . --overwrite")
    assert panels_of(here)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("", "nothing to compare"),
        ("nowhere", "there is no model 'nowhere'"),
        ("empty", "empty holds neither a model (a run, a checkpoint, model.safetensors) nor results"),
        ("evaluations --sampler euler", "unknown sampler 'euler'"),
        ("evaluations --steps 7", "no row is left to compare"),
        ("evaluations --metrics kid", "no row has kid; the results have fid, w2"),
    ],
)
def test_wrong_input_is_refused(here, refused, arguments, message):
    (here / "empty").mkdir()
    assert message in refused(f"compare {arguments}")


def test_a_model_folder_is_a_model_even_if_results_lie_in_it(here):
    folder = here / "evaluations" / "score"
    assert verb.is_results(folder)
    assert verb.is_results(folder / "results.jsonl")
    (folder / "model.safetensors").touch()
    assert not verb.is_results(folder)
