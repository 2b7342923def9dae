"""`examples/own.py`, an own network, data set, preset and sampler, through every verb that could use them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from proxdm.checkpoints.load import load
from proxdm.checkpoints.portable import save_model
from proxdm.cli import main
from proxdm.data.load import load_data
from proxdm.evaluation import EvaluationPlan, evaluate
from proxdm.generation import choose_method, draw
from proxdm.metrics.inception import FeatureError
from proxdm.metrics.wasserstein import w2
from tiny_models import SCORE, random_model

EXAMPLE = str(Path(__file__).parents[1] / "examples" / "own.py")


def run(*arguments: str) -> None:
    assert main(["--import", EXAMPLE, *arguments]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained run of the example, and a model of pictures that its sampler can take."""
    path = tmp_path_factory.mktemp("own")
    run("train", "spiral", "--training.steps", "30", "--logging.checkpoint-every", "10", "--out", str(path / "run"))
    save_model(random_model(SCORE), path / "digits.safetensors")
    return path


def test_train_resume_info_and_sample(folder, capsys):
    run("train", "spiral", "--out", str(folder / "run"), "--resume", "--training.steps", "40")
    capsys.readouterr()
    run("info", str(folder / "run"), "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["network"], facts["step"], facts["imports"]) == ("WavesConfig(width=128)", 40, [EXAMPLE])
    run("sample", str(folder / "run"), "--sampler", "halves", "--steps", "4", "-n", "9", "--out", str(folder / "x.npz"))
    with np.load(folder / "x.npz") as file:
        assert file["samples"].shape == (9, 2)
    assert "8 evaluations" in capsys.readouterr().out


def test_toy_and_rates(folder):
    few = ("--steps", "5", "10", "--samples", "50", "--seeds", "1")
    run("toy", "--methods", "halves", "prox-hybrid", *few, "--no-animation", "--out", str(folder / "toy"))
    cell = json.loads((folder / "toy" / "results.json").read_text())["methods"]["halves"]["10"]
    assert cell["nfe"] == 20
    rates = ("rates", "--target", "isotropic", "--methods", "halves", "ddim", "--steps", "10", "20")
    run(*rates, "--out", str(folder / "rates"))
    assert "halves" in (folder / "rates" / "results.json").read_text()


def test_evaluate_and_compare(folder):
    model = str(folder / "digits.safetensors")
    common = ("--steps", "2", "4", "--samples", "70", "--features", "pixels", "--reference", "digits")
    rows = folder / "evaluations"
    run("evaluate", model, "--sampler", "halves", "ddim", *common, "--out", str(rows / "digits"))
    run("compare", str(rows / "digits"), "--out", str(folder / "comparison"))
    assert "halves" in (folder / "comparison" / "compare.json").read_text()


def test_its_points_are_evaluated_and_compared(folder):
    run_folder, few = str(folder / "run"), ("--steps", "2", "4", "--samples", "90", "--metrics", "w2")
    rows = folder / "evaluations" / "points"
    run("evaluate", run_folder, "--sampler", "halves", "ddim", *few, "--out", str(rows))
    first = json.loads((rows / "results.jsonl").read_text().splitlines()[0])
    model, of = load(run_folder), torch.randperm(4000, generator=torch.Generator().manual_seed(0))[:2000]
    method = choose_method(model, "halves")
    drawn = draw(model, method, method.times(model.schedule, 2), 0, range(90)).x
    assert first["metrics"]["w2"] == pytest.approx(w2(drawn, load_data("spiral").images[of]), rel=1e-5)
    assert (rows / first["picture"]).is_file()
    run("compare", str(rows), "--out", str(folder / "compared"))
    run("report", run_folder, str(rows), "--out", str(folder / "report.html"))
    with pytest.raises(FeatureError, match="features pixels, or a metric that takes no features, such as w2"):
        evaluate(run_folder, EvaluationPlan(steps=(2,)))


def test_without_the_module_the_run_says_what_is_missing(folder, refused, monkeypatch):
    from proxdm.networks import NETWORKS

    monkeypatch.delitem(NETWORKS._entries, "waves")
    error = refused("sample", str(folder / "run"), "--out", str(folder / "y.npz"))
    assert "'waves'" in error
    assert "--import" in error
