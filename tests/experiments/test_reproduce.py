"""The paper's experiments as data, and the steps of a block: each is a command that our command line takes."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pages import asked
from proxdm.checkpoints.hub import OFFICIAL_MODELS, OFFICIAL_STATS
from proxdm.data.known import DATASETS
from proxdm.experiments.commands import Train
from proxdm.experiments.reproduce import BLOCKS, STEPS, Pictures, Reproduction, Sweep, Synthetic, make_steps
from proxdm.experiments.toy import STEPS as TOY_STEPS
from proxdm.generation import fitting_samplers
from proxdm.metrics.inception import weights_path
from proxdm.presets import PRESETS, get_preset
from proxdm.samplers import find_sampler

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
    kinds = [type(one) for one in EXPERIMENTS.values()]
    assert (kinds.count(Sweep), kinds.count(Pictures), kinds.count(Synthetic)) == (11, 2, 1)
    assert sum(len(block.experiments) for block in BLOCKS.values()) == len(EXPERIMENTS)


@pytest.mark.parametrize("one", LEARNED, ids=lambda one: one.name)
def test_samplers_fit_their_models_and_are_defined_and_trained_there(one):
    config = get_preset(one.preset)
    assert one.sampler in fitting_samplers(config.model.kind)
    for steps in one.steps:
        sampler = find_sampler(one.sampler)
        sampler.check(config.model.schedule, sampler.grid(config.model.schedule, steps))
    assert one.steps == (config.conditioning.steps or STEPS)
    if config.conditioning.rule is not None:
        assert one.sampler == config.conditioning.rule


def test_the_papers_distances():
    assert {one.name: dict(one.paper) for one in LEARNED if isinstance(one, Sweep) and one.paper} == PAPER
    assert all(one.samples == 50_000 for one in LEARNED if isinstance(one, Sweep))


def test_data_sets_are_known_and_their_statistics_published():
    for block in BLOCKS.values():
        assert block.dataset is None or block.dataset in DATASETS
        assert {get_preset(name).data.name for name in block.presets} <= {block.dataset}
        if any(isinstance(one, Sweep) for one in block.experiments):
            assert block.dataset in OFFICIAL_STATS
    (toy,) = BLOCKS["toy"].experiments
    assert (toy.steps, toy.samples, toy.dataset) == (TOY_STEPS, 1000, "dino")


def test_a_part_by_experiment_preset_and_steps():
    block = BLOCKS["cifar10"]
    assert block.only() == block
    assert [one.name for one in block.only(["cifar10-score"]).experiments] == ["cifar10-score-sde", "cifar10-score-ode"]
    names = ["cifar10-score-ode", "cifar10-prox-hybrid-subset-noheur"]
    part = block.only(names, [20, 5])
    assert [(one.name, one.steps) for one in part.experiments] == [(name, (5, 20)) for name in names]
    assert part.presets == ("cifar10-score", "cifar10-prox-hybrid-subset-noheur")
    assert {one.preset for one in block.only((), [1000]).experiments} == {"cifar10-score", "cifar10-prox-hybrid"}
    with pytest.raises(ValueError, match="mnist-score-od"):
        BLOCKS["mnist"].only(["mnist-score-od"])
    with pytest.raises(ValueError, match=r"7.*5, 10, 20"):
        BLOCKS["cifar10"].only(["cifar10-score-subset"], [5, 7])


OUT = Path("a folder")
NETWORKS = {"device": "cpu", "bf16": True, "compile": True, "micro_batch": 64}
SETTINGS = {
    "plain": {},
    "official": {"weights": "official"},
    "options": {"stats": "official", "samples": 1000, **NETWORKS},
    "file": {"inception_weights": Path(__file__)},
    "smoke": {"smoke": True},
    "official smoke": {"smoke": True, "weights": "official", "device": "cpu"},
}


def steps_of(name, setting="plain", **more):
    measured = {"stats", "samples", "inception_weights"}
    known = {} if name == "toy" and setting != "smoke" else SETTINGS[setting]
    known = {key: value for key, value in known.items() if name != "celebahq" or key not in measured}
    return make_steps(Reproduction(name, out=OUT, **{**known, **more}))


def of_verb(steps, verb):
    """The steps of one verb, and what their commands ask for."""
    return [(step, asked(verb, step.words[1:])) for step in steps if step.verb == verb]


@pytest.mark.parametrize("name, setting", list(itertools.product(BLOCKS, SETTINGS)))
def test_every_command_is_one_that_our_command_line_takes(name, setting):
    steps = steps_of(name, setting)
    assert steps
    for step in steps:
        program, verb, *arguments = shlex.split(step.command)
        assert (program, verb) == ("proxdm", step.verb)
        options = asked(verb, arguments)  # leaves by SystemExit if an argument is unknown
        assert step.about
        if isinstance(step, Train):
            assert (options.config, options.out, options.resume) == (step.config, step.out, False)
        elif verb != "download":
            assert options.out == step.out
    assert len({step.out for step in steps}) == len({step.command for step in steps}) == len(steps)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "celebahq"])
def test_trainings_are_the_presets(name):
    trained = [(options.config, options.out) for _, options in of_verb(steps_of(name), "train")]
    assert trained == [(get_preset(preset), OUT / "runs" / preset) for preset in BLOCKS[name].presets]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("setting", ["plain", "official"])
def test_evaluations_are_the_experiments(name, setting):
    steps = steps_of(name, setting)
    found = {step.out.name: options for step, options in of_verb(steps, "evaluate")}
    assert set(found) == {one.name for one in BLOCKS[name].experiments}
    (statistics,) = (step.out for step in steps if step.out.suffix == ".npz")
    for one in BLOCKS[name].experiments:
        asks = found[one.name]
        assert (asks.samplers, asks.steps, asks.samples) == ((one.sampler,), one.steps, 50_000)
        assert (asks.reference, asks.features, asks.metrics) == (str(statistics), "inception", ("fid",))
        assert (asks.seeds, asks.bf16, asks.chunk, asks.device) == (1, False, None, "auto")
        if setting == "official":
            assert (Path(asks.source).name, asks.preset) == (OFFICIAL_MODELS[one.preset], one.preset)
        else:
            assert (asks.source, asks.preset) == (str(OUT / "runs" / one.preset), None)


def test_pictures_are_drawn_for_every_number_of_steps():
    drawn = [options for _, options in of_verb(steps_of("celebahq"), "sample")]
    found = [(Path(asks.source).name, asks.sampler, asks.steps, asks.samples) for asks in drawn]
    experiments = BLOCKS["celebahq"].experiments
    assert found == [(one.preset, one.sampler, steps, 64) for one in experiments for steps in one.steps]


def test_what_can_fail_early_comes_first():
    verbs = [step.verb for step in steps_of("cifar10")]
    assert verbs[:3] == ["download", "stats", "train"]
    assert verbs[-1] == "compare"
    official = steps_of("cifar10", "official")
    assert not of_verb(official, "train")
    assert official[0].out == weights_path()
    assert [step.names[0] for step in official[:3]] == ["inception", "stats", "models"]
    assert steps_of("cifar10", "file")[0].verb == "stats"


def test_options_reach_every_step_that_knows_them():
    steps = steps_of("cifar10", "options")
    trainings = [options.config.training for _, options in of_verb(steps, "train")]
    assert {(one.device, one.bf16, one.compile, one.micro_batch) for one in trainings} == {("cpu", True, True, 64)}
    evaluations = [options for _, options in of_verb(steps, "evaluate")]
    assert {(one.device, one.bf16, one.samples) for one in evaluations} == {("cpu", True, 1000)}
    with_file = [*of_verb(steps_of("mnist", "file"), "stats"), *of_verb(steps_of("mnist", "file"), "evaluate")]
    assert {options.inception_weights for _, options in with_file} == {Path(__file__)}


def test_what_cannot_be_compared_does_not_share_a_folder():
    folders = [of_verb(steps_of("mnist", name), "compare")[0][1].sources for name in ("plain", "official", "options")]
    assert len(set(folders)) == 3
    assert folders[0] == (str(OUT / "evaluations"),)


@pytest.mark.parametrize("name", BLOCKS)
def test_smoke_needs_nothing_from_elsewhere(name):
    steps = steps_of(name, "smoke")
    assert not of_verb(steps, "download")
    for _, options in of_verb(steps, "train"):
        config, preset = options.config, get_preset(options.config.preset)
        assert config.data == replace(preset.data, root=str(OUT / "stand-ins"))
        assert (config.training.steps, config.model.network.width) == (2, 8)
        assert config.objective.zetas == preset.objective.zetas
        assert config.conditioning == preset.conditioning
    assert {options.vae for _, options in of_verb(steps, "sample")} <= {str(OUT / "stand-ins" / "vae")}
    for one in BLOCKS[name].smoked().experiments:
        assert 1 <= len(one.steps) <= 2
        assert max(one.steps) <= 20
        trained = () if isinstance(one, Synthetic) else get_preset(one.preset).conditioning.steps
        assert isinstance(one, Synthetic) or set(one.steps) <= set(trained or (5, 10))
