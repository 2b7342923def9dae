"""The paper's experiments as data: complete, fitting their models, with the values that are known of the paper."""

from __future__ import annotations

import pytest

from proxdm.checkpoints.hub import OFFICIAL_MODELS, OFFICIAL_STATS
from proxdm.data.known import KNOWN
from proxdm.experiments.reproduce import BLOCKS, STEPS, SUBSET_STEPS, Pictures, Sweep, Synthetic
from proxdm.experiments.toy import STEPS as TOY_STEPS
from proxdm.generation import fitting_rules
from proxdm.presets import PRESETS, get_preset
from proxdm.rules import find_rule
from proxdm.samplers import check_steps, default_grid

EXPERIMENTS = {one.name: one for block in BLOCKS.values() for one in block.experiments}
LEARNED = [one for one in EXPERIMENTS.values() if not isinstance(one, Synthetic)]

PAPER = {
    "cifar10-score-sde": {5: 340, 10: 269, 20: 184, 50: 80.4, 100: 42.5, 1000: 3.26},
    "cifar10-score-ode": {5: 281, 10: 103, 20: 28.9, 50: 8.24, 100: 4.86, 1000: 3.52},
    "cifar10-prox-hybrid": {5: 245, 10: 28.9, 20: 13.5, 50: 5.75, 100: 4.36, 1000: 4.61},
    "cifar10-score-subset-sde": {5: 327, 10: 276, 20: 194},
    "cifar10-score-subset-ode": {5: 285, 10: 109, 20: 35.7},
    "cifar10-prox-hybrid-subset": {5: 89.9, 10: 25.1, 20: 17.3},
}


def test_every_model_of_the_paper_is_there():
    paper = {name for name in PRESETS if name.startswith(("mnist-", "cifar10-", "celebahq-"))}
    assert {preset for block in BLOCKS.values() for preset in block.presets} == paper == set(OFFICIAL_MODELS)
    assert [len(BLOCKS[name].presets) for name in ("toy", "mnist", "cifar10", "celebahq")] == [0, 3, 5, 2]


def test_eleven_distances_two_sets_of_pictures_and_the_toy():
    kinds = [type(one) for one in EXPERIMENTS.values()]
    assert (kinds.count(Sweep), kinds.count(Pictures), kinds.count(Synthetic)) == (11, 2, 1)
    assert sum(len(block.experiments) for block in BLOCKS.values()) == len(EXPERIMENTS)


@pytest.mark.parametrize("one", LEARNED, ids=lambda one: one.name)
def test_samplers_fit_their_models_and_are_defined_and_trained_there(one):
    config = get_preset(one.preset)
    assert one.sampler in fitting_rules(config.model.kind)
    for steps in one.steps:
        check_steps(find_rule(one.sampler), default_grid(find_rule(one.sampler), steps), config.model.schedule)
    assert one.steps == (config.conditioning.steps or STEPS)
    if config.conditioning.rule is not None:
        assert one.sampler == config.conditioning.rule


def test_the_papers_distances():
    assert {one.name: dict(one.paper) for one in LEARNED if isinstance(one, Sweep) and one.paper} == PAPER
    assert all(one.samples == 50_000 for one in LEARNED if isinstance(one, Sweep))


def test_data_sets_are_known_and_their_statistics_published():
    for block in BLOCKS.values():
        assert block.dataset is None or block.dataset in KNOWN
        assert {get_preset(name).data.name for name in block.presets} <= {block.dataset}
        if any(isinstance(one, Sweep) for one in block.experiments):
            assert block.dataset in OFFICIAL_STATS
    (toy,) = BLOCKS["toy"].experiments
    assert (toy.steps, toy.samples, toy.dataset) == (TOY_STEPS, 1000, "dino")


def test_a_part_by_experiment_preset_and_steps():
    block = BLOCKS["cifar10"]
    assert block.only() == block
    assert [one.name for one in block.only(["cifar10-score"]).experiments] == ["cifar10-score-sde", "cifar10-score-ode"]
    part = block.only(["cifar10-score-ode", "cifar10-prox-hybrid-subset-noheur"], [20, 5])
    assert [(one.name, one.steps) for one in part.experiments] == [
        ("cifar10-score-ode", (5, 20)),
        ("cifar10-prox-hybrid-subset-noheur", (5, 20)),
    ]
    assert part.presets == ("cifar10-score", "cifar10-prox-hybrid-subset-noheur")
    assert {one.preset for one in block.only((), [1000]).experiments} == {"cifar10-score", "cifar10-prox-hybrid"}
    assert SUBSET_STEPS == (5, 10, 20)


def test_what_is_not_in_a_block_is_refused():
    with pytest.raises(ValueError, match="unknown part of mnist 'mnist-score-od'"):
        BLOCKS["mnist"].only(["mnist-score-od"])
    with pytest.raises(ValueError, match="steps = 7 is not in this part of cifar10, which has 5, 10, 20; measure"):
        BLOCKS["cifar10"].only(["cifar10-score-subset"], [5, 7])
