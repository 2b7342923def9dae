"""The paper's experiments as data, and the steps of a block: each shows a command that asks for just what it does."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from pages import asked
from proxdm.checkpoints.hub import OFFICIAL_MODELS, OFFICIAL_STATS
from proxdm.data.known import DATASETS
from proxdm.evaluation import EvaluationPlan
from proxdm.experiments.reproduce import (
    BLOCKS,
    STEPS,
    SUBSET_STEPS,
    Pictures,
    Reproduction,
    Sweep,
    Synthetic,
    make_steps,
)
from proxdm.experiments.steps import Evaluate, Train
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


def test_eleven_distances_two_sets_of_pictures_and_the_toy():
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
    part = block.only(["cifar10-score-ode", "cifar10-prox-hybrid-subset-noheur"], [20, 5])
    assert [(one.name, one.steps) for one in part.experiments] == [
        ("cifar10-score-ode", (5, 20)),
        ("cifar10-prox-hybrid-subset-noheur", (5, 20)),
    ]
    assert part.presets == ("cifar10-score", "cifar10-prox-hybrid-subset-noheur")
    assert {one.preset for one in block.only((), [1000]).experiments} == {"cifar10-score", "cifar10-prox-hybrid"}
    assert SUBSET_STEPS == (5, 10, 20)


def test_what_is_not_in_a_block_is_refused():
    with pytest.raises(ValueError, match="mnist-score-od"):
        BLOCKS["mnist"].only(["mnist-score-od"])
    with pytest.raises(ValueError, match=r"7.*5, 10, 20"):
        BLOCKS["cifar10"].only(["cifar10-score-subset"], [5, 7])


OUT = Path("a folder")
SETTINGS = {
    "plain": {},
    "official": {"weights": "official"},
    "options": {
        "stats": "official",
        "samples": 1000,
        "device": "cpu",
        "bf16": True,
        "compile": True,
        "micro_batch": 64,
    },
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
    return [step for step in steps if step.verb == verb]


@pytest.mark.parametrize("name, setting", list(itertools.product(BLOCKS, SETTINGS)))
def test_the_command_of_every_step_asks_for_what_the_step_does(name, setting):
    steps = steps_of(name, setting)
    assert steps
    for step in steps:
        program, verb, *arguments = shlex.split(step.command)
        assert (program, verb) == ("proxdm", step.verb)
        options = asked(verb, arguments)  # leaves by SystemExit if an argument is unknown
        assert step.about
        if isinstance(step, Train):
            assert (options.config, options.out, options.resume) == (step.config, step.out, False)
        elif isinstance(step, Evaluate):
            assert {one.name: getattr(options, one.name) for one in fields(EvaluationPlan)} == vars(step.plan)
            assert (options.source, options.preset, options.out) == (str(step.source), step.preset, step.out)
            assert options.device == (step.device or "auto")
        else:
            known = {name: getattr(step, name) for name in vars(step) if hasattr(options, name) and name != "out"}
            for key, value in known.items():
                found = getattr(options, key)
                found = found[0] if isinstance(found, tuple) and not isinstance(value, tuple) and found else found
                assert value in (None, "") or str(found) == str(value), key
    assert len({step.out for step in steps}) == len({step.command for step in steps}) == len(steps)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "celebahq"])
def test_trainings_are_the_presets(name):
    trained = of_verb(steps_of(name), "train")
    assert [step.config for step in trained] == [get_preset(preset) for preset in BLOCKS[name].presets]
    assert [step.out for step in trained] == [OUT / "runs" / preset for preset in BLOCKS[name].presets]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("setting", ["plain", "official"])
def test_evaluations_are_the_experiments(name, setting):
    steps = steps_of(name, setting)
    found = {step.out.name: step for step in of_verb(steps, "evaluate")}
    assert set(found) == {one.name for one in BLOCKS[name].experiments}
    (statistics,) = (step.out for step in steps if step.out.suffix == ".npz")
    for one in BLOCKS[name].experiments:
        step = found[one.name]
        plan = step.plan
        assert (plan.samplers, plan.steps, plan.samples) == ((one.sampler,), one.steps, 50_000)
        assert (plan.reference, plan.features, plan.metrics) == (str(statistics), "inception", ("fid",))
        assert (plan.seeds, plan.bf16, plan.chunk) == (1, False, None)
        if setting == "official":
            assert (step.source.name, step.preset) == (OFFICIAL_MODELS[one.preset], one.preset)
        else:
            assert (step.source, step.preset) == (OUT / "runs" / one.preset, None)


def test_pictures_are_drawn_for_every_number_of_steps():
    drawn = of_verb(steps_of("celebahq"), "sample")
    assert all(isinstance(one, Pictures) for one in BLOCKS["celebahq"].experiments)
    assert [(step.source.name, step.sampler, step.steps, step.samples) for step in drawn] == [
        (one.preset, one.sampler, steps, 64) for one in BLOCKS["celebahq"].experiments for steps in one.steps
    ]


def test_what_can_fail_early_comes_first():
    verbs = [step.verb for step in steps_of("cifar10")]
    assert verbs[:3] == ["download", "stats", "train"]
    assert verbs[-1] == "compare"
    official = steps_of("cifar10", "official")
    assert not of_verb(official, "train")
    assert official[0].out == weights_path()
    assert [step.what for step in official[:3]] == ["inception", "stats", "models"]
    assert steps_of("cifar10", "file")[0].verb == "stats"


def test_options_reach_every_step_that_knows_them():
    steps = steps_of("cifar10", "options")
    trainings = [step.config.training for step in of_verb(steps, "train")]
    assert {(one.device, one.bf16, one.compile, one.micro_batch) for one in trainings} == {("cpu", True, True, 64)}
    evaluations = of_verb(steps, "evaluate")
    assert {(one.device, one.bf16, one.samples) for one in evaluations} == {("cpu", True, 1000)}
    with_file = [step for step in steps_of("mnist", "file") if step.verb in ("stats", "evaluate")]
    assert {step.inception_weights for step in with_file} == {Path(__file__)}


def test_what_cannot_be_compared_does_not_share_a_folder():
    folders = [of_verb(steps_of("mnist", name), "compare")[0].rows for name in ("plain", "official", "options")]
    assert len(set(folders)) == 3
    assert folders[0] == OUT / "evaluations"


def test_smoke_needs_nothing_from_elsewhere():
    for name in BLOCKS:
        steps = steps_of(name, "smoke")
        assert not of_verb(steps, "download")
        for step in of_verb(steps, "train"):
            config, preset = step.config, get_preset(step.config.preset)
            assert config.data == replace(preset.data, root=str(OUT / "stand-ins"))
            assert (config.training.steps, config.model.network.width) == (2, 8)
            assert config.objective.zetas == preset.objective.zetas
            assert config.conditioning == preset.conditioning
        assert {step.vae for step in of_verb(steps, "sample")} <= {OUT / "stand-ins" / "vae"}
        for one in BLOCKS[name].smoked().experiments:
            assert 1 <= len(one.steps) <= 2
            assert max(one.steps) <= 20
            trained = () if isinstance(one, Synthetic) else get_preset(one.preset).conditioning.steps
            assert isinstance(one, Synthetic) or set(one.steps) <= set(trained or (5, 10))
