"""`proxdm reproduce`: whole blocks on stand-ins, twice; interrupted and taken up; what it says and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from checkpoints.test_official import official_content
from fake_hub import FakeHub
from fake_results import make_row, read_rows
from proxdm.checkpoints import hub as hubs
from proxdm.checkpoints import store
from proxdm.cli import main, parse
from proxdm.cli import reproduce as verb
from proxdm.cli.train import parse_request
from proxdm.config import overlay
from proxdm.evaluation import run as evaluation
from proxdm.experiments import reproduce as experiments
from proxdm.experiments.commands import Train
from proxdm.experiments.reproduce import BLOCKS, Pictures, Reproduction, Sweep, make_steps
from proxdm.experiments.setting import one_thread
from proxdm.experiments.standins import make_standins
from proxdm.presets import get_preset
from proxdm.training.stepper import Stepper


@pytest.fixture(autouse=True)
def here(here, monkeypatch):
    """A folder of its own, in which no data set and no weights can be found."""
    monkeypatch.setenv("PROXDM_DATA", str(here / "no data"))
    monkeypatch.setenv("TORCH_HOME", str(here / "no weights"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with one_thread():
        yield here


def content(folder):
    """Every result with its time: nothing may be written again."""
    kinds = ("*.jsonl", "*.png", "*.npz", "*.safetensors", "*.json", "*.pt", "*.bin", "*.npy")
    return {path: path.stat().st_mtime_ns for kind in kinds for path in folder.rglob(kind)}


# ---- the command that is shown is what is carried out ----


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(
    "options", [{}, {"smoke": True}, {"weights": "official", "bf16": True, "device": "cpu"}, {"stats": "official"}]
)
def test_a_shown_command_has_the_options_that_are_carried_out(name, options):
    try:
        steps = make_steps(Reproduction(name, **options))
    except ValueError:  # the toy has no weights, CelebA-HQ no distances
        assert options
        return
    for step in steps:
        shown, *arguments = shlex.split(step.command)[1:]
        if isinstance(step, Train):
            assert parse_request(arguments, "proxdm train").config == step.config
        else:
            kind = type(verb.options_of(step))
            assert parse(kind, arguments, f"proxdm {shown}") == verb.options_of(step)


# ---- whole blocks ----


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "mnist", "cifar10", "celebahq"])
def test_smoke_of_every_block_then_again(name, here, succeeds, monkeypatch):
    if name == "celebahq":
        pytest.importorskip("diffusers", exc_type=ImportError)
    block, out = BLOCKS[name].smoked(), here / "reproduce" / f"{name}-smoke"
    command = f"reproduce {name} --smoke"
    said = succeeds(command).out
    for preset in block.presets:
        assert store.latest(out / "runs" / preset).step == 2
        assert store.read_config(out / "runs" / preset).conditioning == get_preset(preset).conditioning
    for one in block.experiments:
        if isinstance(one, Sweep):
            found = read_rows(out / "evaluations" / one.name)
            expected = [(one.preset, one.sampler, steps) for steps in one.steps]
            assert [(row["preset"], row["sampler"], row["nfe"]) for row in found] == expected
            assert all(row["samples"] == 8 and row["metrics"]["fid"] >= 0 for row in found)
            assert said.count(f"\n{one.name} ") == len(one.steps)
        elif isinstance(one, Pictures):
            assert all((out / "samples" / f"{one.name}-{steps}.png").stat().st_size > 0 for steps in one.steps)
        else:
            record = json.loads((out / "dino" / "results.json").read_text())
            assert set(record["methods"]["prox-hybrid"]) == {"5", "10"}
    if any(isinstance(one, Sweep) for one in block.experiments):
        assert (out / "figure" / "compare.png").exists()
        assert "this is no FID" in said

    before, perform = content(out), verb.perform

    def only_looks_up_rows(step):
        assert step.verb == "evaluate", "this was done already"
        return perform(step)

    monkeypatch.setattr(verb, "perform", only_looks_up_rows)
    monkeypatch.setattr(evaluation._Job, "measure", lambda *_, **__: pytest.fail("this was measured already"))
    again = succeeds(command).out
    assert content(out) == before
    assert "done already" in again or "rows were there already" in again
    steps = make_steps(Reproduction(name, smoke=True))
    done = succeeds(f"{command} --dry-run").out.count("; done already")
    assert done == sum(step.verb != "evaluate" for step in steps)


def training(name, **more):
    return next(step for step in make_steps(Reproduction(name, out=Path("x"), **more)) if step.verb == "train")


PART = ["reproduce", "mnist", "--smoke", "--only", "mnist-prox-hybrid", "--device", "cpu"]


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_weights(here, capsys, succeeds, monkeypatch):
    step = Stepper.step

    def interrupted(self, number, phase):
        step(self, number, phase)
        if number == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", interrupted)
        assert main([*PART, "--out", "a b"]) == 143
    run = here / "a b" / "runs" / "mnist-prox-hybrid"
    assert store.latest(run).step == 1
    assert not (here / "a b" / "evaluations").exists()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("Or all of it: ")
    assert "--resume\n" in succeeds(*PART, "--out", "a b", "--dry-run").out
    program, *again = shlex.split(line.removeprefix("Or all of it: "))
    assert program == "proxdm"
    assert "--resume\n" in succeeds(*again).out
    succeeds(*PART, "--out", "c")
    whole = store.latest(here / "c" / "runs" / "mnist-prox-hybrid")
    assert (store.latest(run).step, whole.step) == (2, 2)
    for weights in ("raw", "ema-0.9999"):
        theirs = whole.read(weights)
        assert all(torch.equal(value, theirs[key]) for key, value in store.latest(run).read(weights).items())
    first, second = (read_rows(here / out / "evaluations" / "mnist-prox-hybrid") for out in ("a b", "c"))
    assert [row["metrics"] for row in first] == [row["metrics"] for row in second]


@pytest.mark.slow
def test_an_interrupted_evaluation_keeps_its_rows(here, capsys, monkeypatch):
    measure, calls = evaluation._Job.measure, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    monkeypatch.setattr(evaluation._Job, "measure", interrupted)
    assert main(PART) == 130
    assert capsys.readouterr().err.endswith(f"Go on with: proxdm {shlex.join(PART)}\nproxdm: interrupted\n")
    folder = here / "reproduce" / "mnist-smoke" / "evaluations" / "mnist-prox-hybrid"
    (kept,) = read_rows(folder)
    assert main(PART) == 0
    assert len(calls) == 3
    assert read_rows(folder)[0] == kept
    assert [row["nfe"] for row in read_rows(folder)] == [5, 10]


def test_a_run_of_fewer_steps_is_not_taken_for_finished(here):
    """One that was made by hand, and shorter: it goes on to the end, or everything after it would be worthless."""
    make_standins("mnist", here / "x" / "stand-ins")
    step = training("mnist", smoke=True)
    assert step.left() == step
    assert verb.perform(step) == 0
    assert step.left() is None
    longer = replace(step, config=overlay(step.config, {"training": {"steps": 3}}))
    left = longer.left()
    assert left == replace(longer, resume=True)
    assert left.words[-3:] == ["--training.steps", "3", "--resume"]
    assert main(left.words) == 0
    assert store.latest(step.out).step == 3
    assert longer.left() is None


# ---- the paper's weights ----


@pytest.mark.slow
def test_the_papers_weights(here, succeeds, monkeypatch):
    """From the hub, without a training; a second call needs no hub."""
    monkeypatch.setattr(experiments, "SMOKE_SAMPLES", 4)
    command = "reproduce mnist --smoke --weights official --only mnist-score-ode"
    weights = here / "weights.pth"
    torch.save(official_content(get_preset("mnist-score").model.network), weights)
    with FakeHub(here / "hub") as server:
        server.connect(monkeypatch, here / "cache")
        server.put(hubs.OFFICIAL_REPO, hubs.OFFICIAL_MODELS["mnist-score"], weights.read_bytes())
        succeeds(command)
    out = here / "reproduce" / "mnist-smoke"
    assert not (out / "runs").exists()
    found = read_rows(out / "evaluations-official-weights" / "mnist-score-ode")
    assert [(row["nfe"], row["weights"]) for row in found] == [(5, "ema0.9999"), (10, "ema0.9999")]
    succeeds(command)
    assert read_rows(out / "evaluations-official-weights" / "mnist-score-ode") == found


# ---- what it says ----


@pytest.mark.parametrize("more", ["", "--smoke", "--weights official"])
@pytest.mark.parametrize("name", ["toy", "mnist", "cifar10", "celebahq"])
def test_dry_run_lists_every_command_and_writes_nothing(name, more, here, succeeds):
    more = more if name != "toy" or more != "--weights official" else "--steps 5"
    said = succeeds(f"reproduce {name} --dry-run {more} --out x").out
    steps = make_steps(verb.parse(Reproduction, [name, *more.split(), "--out", "x"], "p"))
    for number, step in enumerate(steps, 1):
        assert f"[{number}/{len(steps)}] {step.command}\n      {step.about}\n" in said
    assert list(here.iterdir()) == []


def test_dry_run_says_what_is_missing_and_how_much_it_is(succeeds):
    said = succeeds("reproduce cifar10 --dry-run").out
    assert "needs the data set cifar10: missing: cifar10 (train) is not here" in said
    assert "375,000 steps of 512 images; 35,746,307 parameters, 0.67 GiB" in said
    assert "6 rows, 59,250,000 network evaluations" in said
    steps, samples = 1185, 50_000
    evaluations = 3 * steps * samples + 4 * 35 * samples
    assert f"5 trainings of {5 * 375_000:,} steps on {5 * 375_000 * 512:,} images together" in said
    assert f"; {evaluations:,} network evaluations of a sample" in said
    said = succeeds("reproduce cifar10 --dry-run --weights official").out
    assert "missing" not in said
    assert "proxdm train" not in said
    assert "needs nothing: everything is downloaded" in said
    said = succeeds("reproduce celebahq --dry-run").out
    assert "needs the autoencoder stabilityai/sd-vae-ft-ema" in said


def test_the_papers_values_stand_beside_ours_only_for_its_features():
    block = BLOCKS["cifar10"].only(["cifar10-score-ode"], [5, 10])

    def shown(features):
        options = {"features": {"name": features}, "samples": 50_000}
        found = tuple(make_row("ode-euler", n, fid=fid, **options) for n, fid in ((5, 280), (10, 100)))
        return verb.summary(block, [], {"cifar10-score-ode": evaluation.Evaluation(found, (), 0)}).splitlines()

    lines = shown("inception")
    assert lines[4].split() == ["cifar10-score-ode", "ode-euler", "5", "280", "281"]
    assert lines[5].split() == ["cifar10-score-ode", "ode-euler", "10", "100", "103"]
    assert lines[-1] == "50,000 samples a row; the paper's values are read off its figure."
    lines = shown("pixels")
    assert lines[4].split() == ["cifar10-score-ode", "ode-euler", "5", "280", "–"]
    assert lines[-1] == "50,000 samples a row; pixels features: this is no FID."


# ---- what it refuses ----


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("mnist --only cifar10-score", "unknown part of mnist 'cifar10-score' (did you mean 'mnist-score'?); "),
        ("mnist --steps 7", "steps = 7 is not in this part of mnist, which has 5, 10, 20, 50, 100, 1000"),
        ("mnist --samples 1", "samples = 1 are too few for fid"),
        ("mnist --samples 0", "samples = 0 must be at least 1"),
        ("mnist --micro-batch 0", "micro-batch = 0 must be at least 1"),
        ("mnist --inception-weights none.pth", "there is no file none.pth"),
        ("mnist --smoke --samples 5", "--samples has no effect: --smoke has its own numbers"),
        ("mnist --smoke --stats official", "--stats has no effect: --smoke"),
        ("mnist --weights official --compile", "--compile has no effect: official weights are not trained"),
        ("celebahq --samples 5", "--samples has no effect: celebahq has no Fréchet distance"),
        ("imagenet", "cifar10"),
        ("toy --bf16", "--bf16 has no effect: toy needs no network"),
        ("mnist", "mnist (train) is not here: looked for"),
    ],
)
def test_wrong_input_is_refused_before_any_work(arguments, message, here, refused, monkeypatch):
    monkeypatch.setattr(experiments, "weights_path", lambda: here)  # as if the FID's network had been downloaded
    assert message in refused(f"reproduce {arguments}")
    assert not list(here.rglob("*.npz"))
    assert not list(here.rglob("runs"))


@pytest.mark.parametrize("text", ['{"block": "mnist", "smoke": true}', '{"block": "toy", "smoke": false}', "["])
def test_a_folder_of_something_else_is_left_alone(text, here, refused):
    (here / "x").mkdir()
    (here / "x" / "reproduce.json").write_text(text)
    assert f'x holds {text}, not {{"block": "mnist", "smoke": false}}' in refused("reproduce mnist --out x")
    assert [path.read_text() for path in (here / "x").iterdir()] == [text]


def test_a_run_of_another_configuration_is_not_taken(here):
    wrong = overlay(get_preset("mnist-score"), {"optimiser": {"lr": 1.0}})
    store.create_run(here / "x" / "runs" / "mnist-score", wrong)
    with pytest.raises(ValueError, match=r"optimiser\.lr"):
        training("mnist").left()


def test_several_processes_are_sent_to_the_commands(refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = refused("reproduce mnist --dry-run")
    assert "proxdm reproduce runs in one process; run the commands that --dry-run shows" in error


def test_a_toy_of_other_numbers_is_not_taken_for_this_one(here, capsys, succeeds):
    succeeds("toy --steps 5 10 --samples 9 --seeds 1 --no-animation --out x/dino")
    assert main(["reproduce", "toy", "--smoke", "--out", "x"]) == 2
    assert "results.json exists already" in capsys.readouterr().err
