"""Tuning: it never gets worse, keeps to its budget, is stored with the model, and is taken when asked for."""

from __future__ import annotations

import json
import shutil

import pytest

import proxdm
from proxdm.checkpoints.load import BOX
from proxdm.cli import main
from proxdm.evaluation import TuningPlan, tune

PLAN = {"samples": 48, "metrics": ("sliced-w2",), "features": "pixels", "reference": "digits", "budget": 5}


def plan(**more):
    return TuningPlan(**{**PLAN, "samplers": ("dpm++2m",), "steps": (3,), **more})


def test_it_is_not_worse_than_before_and_keeps_to_its_budget():
    lines = []
    (found,) = tune("digits", plan(), device="cpu", say=lines.append)
    assert found.value <= found.first
    assert (found.sampler, found.steps) == ("dpm++2m", 3)
    assert found.grid.startswith("rho(")


def test_one_grid_is_the_usual_one_and_more_are_not_worse():
    values = [tune("digits", plan(budget=budget), device="cpu")[0].value for budget in (1, 4, 8)]
    assert values == sorted(values, reverse=True)
    (first,) = tune("digits", plan(budget=1), device="cpu")
    assert first.value == first.first


def test_the_same_again():
    assert tune("digits", plan(), device="cpu") == tune("digits", plan(), device="cpu")


def test_stored_with_the_model_and_taken_when_asked_for(tmp_path, monkeypatch, succeeds, refused):
    monkeypatch.chdir(tmp_path)
    shutil.copy(BOX["digits"], "m.safetensors")
    options = "--samples 48 --metrics sliced-w2 --features pixels --budget 4 --device cpu"
    assert "taken by --grid tuned" in succeeds(f"tune m.safetensors --sampler ipndm --steps 3 {options}").out
    model = proxdm.load("m.safetensors")
    assert set(model.grids) >= {"ipndm", "dpm++2m"}  # what was there stays
    take = "sample m.safetensors --grid tuned -n 4 --sampler"
    assert model.grids["ipndm"][3].split("(")[0] in succeeds(f"{take} ipndm --steps 3 --out a.npz").out
    assert "no grid is tuned for ipndm at N = 4, only for 3" in refused(f"{take} ipndm --steps 4 --out b.npz")
    assert "proxdm tune" in refused(f"{take} deis --steps 3 --out b.npz")
    assert main(f"tune digits --sampler ipndm --steps 3 {options} --out grids.json".split()) == 0
    assert json.loads((tmp_path / "grids.json").read_text())["ipndm"]["3"] == model.grids["ipndm"][3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--budget 0", "budget"),
        ("--metrics sliced-w2 --sampler nothing", "nothing"),
        ("--steps 0", "steps"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, refused, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused("tune", "digits", "--out", "g.json", "--features", "pixels", *options.split())
    assert not (tmp_path / "g.json").exists()
