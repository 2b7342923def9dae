"""The presets: the paper's table, number by number, and the ones for small machines."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from proxdm.checkpoints import store
from proxdm.checkpoints.load import load
from proxdm.config import from_json, to_json
from proxdm.data.images import ImageData
from proxdm.data.load import load_data
from proxdm.presets import PRESETS, get_preset
from proxdm.schedules import VPSDE
from proxdm.training import train_config
from runs import changed

ALL, SUBSET = (5, 10, 20, 50, 100, 1000), (5, 10, 20)
# ruff: noqa: E501 (a table)
# width, mult, attention; steps, l1 steps; rule, candidates, weights; zetas; lr, l1 lr, warm-up, clip; parameters
M, C, A = (64, (1, 2, 2, 2), (1,)), (128, (1, 2, 2, 2), (1,)), (128, (1, 2, 4, 4), (1, 2, 3))
HYBRID, BACKWARD = "prox-hybrid", "prox-backward"
PAPER = {
    "mnist-score": (M, 225_000, 0, None, (), "uniform", (), (2e-4, None, 0, None), 8_949_761),
    "mnist-prox-hybrid": (M, 225_000, 75_000, HYBRID, ALL, "log10", (1, 0.5), (1e-5, 1e-4, 0, None), 8_916_993),
    "mnist-prox-backward": (M, 225_000, 75_000, BACKWARD, (20, 50, 100, 1000), "log10", (1, 0.5), (1e-5, 1e-4, 0, None), 8_916_993),
    "cifar10-score": (C, 375_000, 0, None, (), "uniform", (), (2e-4, None, 5_000, 1), 35_746_307),
    "cifar10-score-subset": (C, 375_000, 0, None, SUBSET, "uniform", (), (2e-4, None, 5_000, 1), 35_746_307),
    "cifar10-prox-hybrid": (C, 375_000, 75_000, HYBRID, ALL, "root-3", (2, 1), (1e-4, 1e-4, 0, 1), 35_615_235),
    "cifar10-prox-hybrid-subset": (C, 375_000, 75_000, HYBRID, SUBSET, "root-3", (2, 1), (1e-4, 1e-4, 0, 1), 35_615_235),
    "cifar10-prox-hybrid-subset-noheur": (C, 375_000, 75_000, HYBRID, SUBSET, "root-3", (2,), (1e-4, 1e-4, 0, 1), 35_615_235),
    "celebahq-score": (A, 1_500_000, 0, None, (), "uniform", (), (2e-5, None, 5_000, 1), None),
    "celebahq-prox-hybrid": (A, 1_500_000, 300_000, HYBRID, ALL, "root-3", (2, 1), (2e-5, 1e-4, 0, 1), None),
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_are_the_papers(name):
    (width, mult, attention), steps, l1, rule, candidates, weights, zetas, rates, parameters = PAPER[name]
    config = get_preset(name)
    network = config.model.network
    assert (network.width, network.mult, network.attention) == (width, mult, attention)
    assert (network.num_res_blocks, network.dropout, network.patch, network.log_lam) == (2, 0.1, 1, False)
    assert (config.training.steps, config.training.batch_size, config.training.ema) == (steps, 512, (0.9999,))
    assert (config.objective.l1_steps, config.objective.zetas) == (l1, zetas)
    conditioning = config.conditioning
    assert (conditioning.rule, conditioning.steps, conditioning.weights) == (rule, candidates, weights)
    assert conditioning.draw == ("knots" if candidates else "continuous")
    optimiser = config.optimiser
    assert (optimiser.lr, optimiser.l1_lr, optimiser.warmup, optimiser.clip) == rates
    assert (optimiser.betas, optimiser.weight_decay, optimiser.eps) == ((0.9, 0.999), 0.01, 1e-8)
    plain = name.endswith("noheur")
    assert (config.model.parametrisation, config.objective.target) == (("prox",) * 2 if plain else ("epsilon", "noise"))
    assert config.model.shape == ((1 if "mnist" in name else 4 if "celeba" in name else 3), 32, 32)
    assert config.data.flip == ("none" if "mnist" in name else "random")
    assert config.model.schedule == VPSDE(0.1, 20.0)
    if parameters is not None:
        assert config.model.parameter_count() == parameters


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_is_named_and_survives_json(name):
    config = get_preset(name)
    assert config.preset == name
    assert from_json(to_json(config)) == config
    assert config.model.parameter_count() > 0
    assert config.model.kind == ("score" if "score" in name else "prox")
    if name.startswith(("digits", "dino")):
        assert config.model.shape == load_data(config.data).shape


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_saves_and_resumes(name, tmp_path):
    """Narrow, on a batch of two, on pictures of the right shape; all else is the preset's."""
    preset = get_preset(name)
    objective = preset.objective
    config = changed(
        preset,
        model={"network": replace(preset.model.network, width=8)},
        objective={"l1_steps": min(objective.l1_steps, 1)},
        training={"steps": 2, "batch_size": 2, "device": "cpu"},
        logging={"every": 1, "preview_samples": 2, "preview_steps": 10, "preview_every": 2},
    )
    images = torch.rand((5, *config.model.shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
    data = ImageData(images, "noise")
    train_config(config, tmp_path / "run", data=data, progress=False)
    longer = changed(config, training={"steps": 3})
    result = train_config(longer, tmp_path / "run", resume=True, data=data, progress=False)
    assert result.step == 3
    lines = store.read_log(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert [line["phase"] for line in lines][1:] == [objective.loss] * 2
    assert all(math.isfinite(line["loss"]) for line in lines)
    previews = (tmp_path / "run" / "previews").exists()
    assert previews == (config.model.shape[0] != 4), "latents are no pictures"
    assert load(tmp_path / "run").config == longer
