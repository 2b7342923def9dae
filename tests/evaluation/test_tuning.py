"""Tuning: it never gets worse, keeps to its budget, is stored with the model, and is taken when asked for."""

from __future__ import annotations

import json
import shutil

import pytest

import proxdm
from proxdm.checkpoints.load import BOX
from proxdm.evaluation import TuningPlan, tune


def plan(**more):
    usual = {"samplers": ("dpm++2m",), "steps": (3,), "samples": 48, "metrics": ("sliced-w2",)}
    return TuningPlan(**{**usual, "features": "pixels", "reference": "digits", **more})


def test_one_grid_is_the_usual_one_more_are_not_worse_and_the_same_again_is_the_same():
    lines = []
    (first,), (some,), (more,) = (tune("digits", plan(budget=n), device="cpu", say=lines.append) for n in (1, 3, 5))
    assert first.value == first.first == some.first
    assert first.value >= some.value >= more.value
    assert (some.sampler, some.steps, some.tried) == ("dpm++2m", 3, 3)
    assert f"{some.first:.4g} -> {some.value:.4g} on rho(" in lines[1]
    assert tune("digits", plan(budget=3), device="cpu", say=lines.append) == [some]


def test_stored_with_the_model_and_taken_when_asked_for(tmp_path, monkeypatch, succeeds, refused):
    monkeypatch.chdir(tmp_path)
    shutil.copy(BOX["digits"], "m.safetensors")
    options = "--samples 48 --metrics sliced-w2 --features pixels --budget 4 --device cpu"
    assert "taken by --grid tuned" in succeeds(f"tune m.safetensors --sampler ipndm --steps 3 {options}").out
    model = proxdm.load("m.safetensors")
    assert set(model.grids) >= {"ipndm", "dpm++2m"}  # what was there stays
    take = "sample m.safetensors --grid tuned -n 4 --sampler"
    assert model.grids["ipndm"][3].split("(")[0] in succeeds(f"{take} ipndm --steps 3 --out a.npz").out
    for missing, words in (("ipndm --steps 4", "for ipndm at N = 4, only for 3"), ("deis --steps 3", "proxdm tune")):
        assert words in refused(f"{take} {missing} --out b.npz")
    succeeds(f"tune digits --sampler ipndm --steps 3 {options} --out grids.json")
    assert json.loads((tmp_path / "grids.json").read_text())["ipndm"]["3"] == model.grids["ipndm"][3]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"budget": 0}, "budget = 0 must be at least 1"),
        ({"grid": "uniform"}, "--grid = uniform is what is looked for"),
        ({"metrics": ("nearest",)}, "nearest has no better or worse"),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ValueError, match=message):
        plan(**values)
