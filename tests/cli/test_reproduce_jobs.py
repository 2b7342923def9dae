"""The commands of a block: each of them is one that our command line takes, and says what the experiment says."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from proxdm.cli.reproduce_jobs import Setting, make_jobs, smoked

from proxdm.checkpoints.hub import OFFICIAL_MODELS
from proxdm.cli import VERBS, parse
from proxdm.cli.evaluate import Evaluate
from proxdm.cli.reproduce import check
from proxdm.cli.sample import Sample
from proxdm.cli.train import parse_request
from proxdm.experiments.reproduce import BLOCKS, Pictures, Sweep
from proxdm.metrics.inception import weights_path
from proxdm.presets import get_preset

OUT = Path("a folder")
SETTINGS = [
    Setting(OUT),
    Setting(OUT, weights="official", stats="official"),
    Setting(OUT, stats="official", samples=1000, device="cpu", bf16=True, compile=True, micro_batch=64),
    Setting(OUT, inception_weights=Path("weights.pth")),
    Setting(OUT, smoke=True),
    Setting(OUT, smoke=True, weights="official", device="cpu"),
]


def jobs_of(name, setting):
    block = BLOCKS[name]
    return make_jobs(smoked(block) if setting.smoke else block, setting)


@pytest.mark.parametrize("name, number", list(itertools.product(BLOCKS, range(len(SETTINGS)))))
def test_every_command_is_taken_by_our_command_line(name, number):
    jobs = jobs_of(name, SETTINGS[number])
    assert jobs
    for job in jobs:
        assert shlex.split(job.command) == ["proxdm", job.verb, *job.arguments]
        assert job.verb in VERBS
        check(job)  # raises, or leaves by SystemExit, if an argument is unknown or wrong
        assert job.about
    assert len({job.makes for job in jobs}) == len({job.command for job in jobs}) == len(jobs)


def test_a_wrong_command_is_noticed():
    job = jobs_of("mnist", Setting(OUT))[-2]
    assert job.verb == "evaluate"
    with pytest.raises(SystemExit):
        check(replace(job, arguments=(*job.arguments, "--stesp", "5")))
    with pytest.raises(ValueError, match="samples = 1 are too few"):
        check(replace(job, arguments=(*job.arguments, "--samples", "1")))


@pytest.mark.parametrize("name", ["mnist", "cifar10", "celebahq"])
def test_trainings_are_the_presets(name):
    trained = [job for job in jobs_of(name, Setting(OUT)) if job.verb == "train"]
    assert tuple(job.arguments[0] for job in trained) == BLOCKS[name].presets
    for job in trained:
        request = parse_request(job.arguments, "proxdm train")
        assert request.config == get_preset(job.arguments[0])
        assert request.out == job.makes


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("setting", SETTINGS[:2])
def test_evaluations_are_the_experiments(name, setting):
    jobs = jobs_of(name, setting)
    found = {job.experiment.name: parse(Evaluate, job.arguments, "p") for job in jobs if job.verb == "evaluate"}
    assert list(found) == [one.name for one in sorted(BLOCKS[name].experiments, key=lambda one: _order(name, one))]
    (statistics,) = (str(job.makes) for job in jobs if job.makes.suffix == ".npz")
    for one in BLOCKS[name].experiments:
        options = found[one.name]
        assert (options.sampler, options.steps, options.samples) == ((one.sampler,), one.steps, 50_000)
        assert options.reference == statistics
        assert (options.features, options.metrics, options.seeds, options.bf16) == ("inception", ("fid",), 1, False)
        if setting.weights == "official":
            assert (Path(options.source).name, options.preset) == (OFFICIAL_MODELS[one.preset], one.preset)
        else:
            assert (Path(options.source), options.preset) == (OUT / "runs" / one.preset, None)


def _order(name, one):
    return BLOCKS[name].presets.index(one.preset)


def test_pictures_are_drawn_for_every_number_of_steps():
    jobs = [job for job in jobs_of("celebahq", Setting(OUT)) if job.verb == "sample"]
    drawn = [parse(Sample, job.arguments, "p") for job in jobs]
    assert all(isinstance(one, Pictures) for one in BLOCKS["celebahq"].experiments)
    assert [(Path(one.source).name, one.sampler, one.steps, one.samples) for one in drawn] == [
        (one.preset, one.sampler, steps, 64) for one in BLOCKS["celebahq"].experiments for steps in one.steps
    ]


def test_what_can_fail_early_comes_first():
    verbs = [job.verb for job in jobs_of("cifar10", Setting(OUT))]
    assert verbs[:3] == ["download", "stats", "train"]
    assert verbs[-1] == "compare"
    official = jobs_of("cifar10", SETTINGS[1])
    assert [job.verb for job in official].count("train") == 0
    assert official[0].makes == weights_path()
    assert [job.arguments[0] for job in official[:3]] == ["inception", "stats", "models"]
    assert jobs_of("cifar10", SETTINGS[3])[0].verb == "stats"


def test_options_reach_every_command_that_knows_them():
    jobs = jobs_of("cifar10", SETTINGS[2])
    for job in jobs:
        if job.verb == "train":
            training = parse_request(job.arguments, "p").config.training
            expected = ("cpu", True, True, 64)
            assert (training.device, training.bf16, training.compile, training.micro_batch) == expected
        if job.verb == "evaluate":
            options = parse(Evaluate, job.arguments, "p")
            assert (options.device, options.bf16, options.samples) == ("cpu", True, 1000)
    with_file = [job for job in jobs_of("mnist", SETTINGS[3]) if job.verb in ("stats", "evaluate")]
    assert all("--inception-weights" in job.arguments for job in with_file)


def test_what_cannot_be_compared_does_not_share_a_folder():
    folders = [setting.results("evaluations") for setting in SETTINGS[:3]]
    assert len(set(folders)) == 3
    assert folders[0] == OUT / "evaluations"


def test_smoke_needs_nothing_from_elsewhere():
    for name in BLOCKS:
        for job in jobs_of(name, Setting(OUT, smoke=True)):
            assert job.verb != "download"
            if job.verb == "train":
                config = parse_request(job.arguments, "p").config
                preset = get_preset(job.arguments[0])
                assert config.data == replace(preset.data, root=str(OUT / "stand-ins"))
                assert (config.training.steps, config.model.network.width) == (2, 8)
                assert config.objective.zetas == preset.objective.zetas
                assert config.conditioning == preset.conditioning
            if job.verb == "sample":
                assert parse(Sample, job.arguments, "p").vae == str(OUT / "stand-ins" / "vae")
        for one in smoked(BLOCKS[name]).experiments:
            assert 1 <= len(one.steps) <= 2
            assert max(one.steps) <= 20
            assert not isinstance(one, Sweep) or set(one.steps) <= set(
                get_preset(one.preset).conditioning.steps or (5, 10)
            )
