"""`proxdm info`: every kind of source, in lines and as JSON."""

from __future__ import annotations

import json
import re

import pytest

from proxdm.checkpoints.portable import save_model
from proxdm.config import Config, ModelConfig, from_dict
from proxdm.networks import MLPConfig
from tiny_models import POINTS, make_run


@pytest.fixture
def run(tmp_path):
    make_run(tmp_path / "run", steps=(200, 700), seconds=12.5, skipped=3)
    return tmp_path / "run"


@pytest.fixture
def facts_of(succeeds):
    return lambda source: json.loads(succeeds("info", source, "--json").out)


def test_a_run_says_how_far_it_is(run, facts_of):
    facts = facts_of(run)
    wanted = {
        "what": "a training run",
        "model": "prox",
        "shape": [2],
        "parameters": POINTS.model.parameter_count(),
        "weights": "ema-0.99",
        "weight_sets": ["ema-0.99", "ema-0.9", "raw"],
        "step": 700,
        "training_steps": 1000,
        "training_seconds": 12.5,
        "skipped_steps": 3,
        "preset": "tiny",
        "default_sampler": "prox-backward",
        "default_steps": 20,
    }
    assert wanted.items() <= facts.items()
    assert "prox-hybrid" in facts["samplers"]
    assert "euler-maruyama" not in facts["samplers"]
    assert from_dict(facts["config"], Config) == POINTS


def test_an_earlier_checkpoint_in_lines_for_people(run, succeeds):
    shown = succeeds("info", run / "checkpoints" / "step-00000200", "--weights", "raw").out
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in shown.splitlines())
    wanted = {
        "what": "a checkpoint of a training run",
        "step": "200",
        "weights": "raw",
        "training seconds": "12.5",
        "training steps": "1,000",
    }
    assert wanted.items() <= facts.items()
    trained = r"prox-backward steps of uniform grids of 20, 50 steps, weights uniform, lam from 0\.\d+ to \d\.\d+"
    assert re.fullmatch(trained, facts["trained at"])
    assert not {"config", "origin"} & set(facts)


def test_a_model_without_training_says_none(tmp_path, facts_of):
    model = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1)).build()
    facts = facts_of(save_model(model, tmp_path / "m.safetensors"))
    assert (facts["what"], facts["model"], facts["step"]) == ("a model file", "score", None)
    assert "trained_at" not in facts
    assert facts["default_sampler"] == "multistep"


def test_an_official_file_is_recognised_without_a_preset(shared, facts_of):
    facts = facts_of(shared / "golden" / "official_small_prox.pth")
    assert facts["model"] == "prox"
    assert facts["weight_sets"] == ["model", "ema0.9999"]
    assert "prox-hybrid" in facts["samplers"]
    assert facts["network"].startswith("U-Net of width 32, multipliers 1-2")
