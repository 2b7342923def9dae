"""`proxdm train`: resolution of the configuration, exit codes, and a real run from the shell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from proxdm.checkpoints import store
from proxdm.cli import main
from proxdm.cli.train import parse_request
from proxdm.config import ConfigError, from_json, to_json
from proxdm.errors import CheckpointError
from proxdm.networks import MLPConfig
from proxdm.presets import PRESETS, get_preset
from runs import changed

MLP = {
    "model": {"network": {"type": "mlp", "dim": 64, "width": 16, "depth": 1}},
    "training": {"steps": 6, "batch_size": 8, "device": "cpu"},
    "logging": {"every": 2, "checkpoint_every": 2, "preview_every": 0},
}


def request(*arguments):
    return parse_request(arguments, "proxdm train")


@pytest.fixture
def mlp_file(tmp_path):
    path = tmp_path / "mlp.json"
    path.write_text(json.dumps(MLP))
    return path


# ---- preset, then file, then flags ----


def test_a_preset_alone_is_the_preset():
    for name in PRESETS:
        found = request(name)
        assert found.config == get_preset(name)
        assert (found.out, found.resume, found.dry_run) == (Path("runs", name), False, False)


def test_flags_overrule_the_file_which_overrules_the_preset(mlp_file):
    found = request(*f"digits-score --config {mlp_file} --training.steps 9 --optimiser.lr 0.5".split())
    preset = get_preset("digits-score")
    assert found.config.model.network == MLPConfig(64, 16, 1)
    assert (found.config.training.steps, found.config.training.batch_size) == (9, 8)
    assert found.config.training.ema == preset.training.ema
    assert found.config.optimiser == replace(preset.optimiser, lr=0.5)


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--training.bf16", True),
        ("--training.ema 0.9 0.99", (0.9, 0.99)),
        ("--training.micro-batch 16", 16),
        ("--conditioning.weights 1 2 3 4 5", (1.0, 2.0, 3.0, 4.0, 5.0)),
        ("--conditioning.weights root-3", "root-3"),
        ("--optimiser.clip None", None),
        ("--data.flip random", "random"),
        ("--model.network.mult 1 2 2", (1, 2, 2)),
    ],
)
def test_every_kind_of_field_has_a_flag(flag, value):
    config = request("digits-prox-hybrid", *flag.split()).config
    field = flag.split()[0].removeprefix("--").replace("-", "_")
    assert attrgetter(field)(config) == value


def test_resume_takes_the_configuration_of_the_run(tmp_path):
    stored = changed(get_preset("digits-score"), optimiser={"lr": 7.0})
    store.create_run(tmp_path / "run", stored)
    found = request("digits-score", "--out", str(tmp_path / "run"), "--resume", "--training.steps", "9999")
    assert found.config == changed(stored, training={"steps": 9999})
    with pytest.raises(ConfigError, match="is a run of the preset 'digits-score', not of 'mnist-score'"):
        request("mnist-score", "--out", str(tmp_path / "run"), "--resume")
    with pytest.raises(CheckpointError, match="is not the folder of a training run"):
        request("mnist-score", "--out", str(tmp_path / "none"), "--resume")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["digit-score"], "nor a preset (did you mean 'digits-score'?)"),
        (["--resume"], "name the data or the preset before --resume"),
        (["digits-score", "--config", "none.json"], "none.json"),
        (["digits-score", "--config"], "missing value for argument '--config'"),
        (["digits-score", "--training.step", "5"], "--training.steps"),
        (["digits-score", "--training.steps", "0"], "training.steps = 0 must be at least 1"),
        (["digits-prox-hybrid", "--training.steps", "5"], "objective.l1_steps"),
        (["digits-score", "--model.kind", "prox"], "time-lam"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_why(arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    said = capsys.readouterr()
    assert message in " ".join((said.out + said.err).replace("│", " ").split())


def test_files_with_unknown_keys_are_refused(tmp_path, refused):
    for content, message in [
        ('{"trainig": {}}', "unknown key 'trainig' (did you mean 'training'?)"),
        ("[1]", "must hold an object, such as"),
        ("{", "is not JSON"),
    ]:
        (tmp_path / "x.json").write_text(content)
        assert message in refused("train", "digits-score", "--config", str(tmp_path / "x.json"))


def test_flags_are_checked_before_a_network_is_chosen(tmp_path, refused, monkeypatch):
    monkeypatch.setattr("proxdm.training.automatic.configure", lambda *given, **more: 1 / 0)
    (tmp_path / "pictures").mkdir()
    assert "unrecognized options: --lables (did you mean --labels?)" in refused(f"train {tmp_path}/pictures --lables")
    for flag in ("--model.network.depth", "--model.network.patch"):
        with pytest.raises(ZeroDivisionError):
            parse_request([str(tmp_path / "pictures"), flag, "2"], "proxdm train")


def test_help_lists_presets_and_fields(succeeds):
    text = succeeds("train", "--help").out
    assert all(name in text for name in PRESETS)
    assert main(["train"]) == 2
    text = succeeds("train", "digits-score", "--help").out
    for flag in ("--out", "--resume", "--dry-run", "--training.steps", "--model.network.width", "--logging.tracker"):
        assert flag in text


# ---- runs ----


def test_dry_run_prints_the_configuration_and_the_needs_and_writes_nothing(mlp_file, tmp_path, succeeds):
    before = sorted(tmp_path.rglob("*"))
    text = succeeds(f"train digits-score --config {mlp_file} --dry-run").out
    split = text.index("\n}\n") + 3
    config = from_json(text[:split])
    assert config.model.network == MLPConfig(64, 16, 1)
    rows = dict(line.split(maxsplit=1) for line in text[split:].splitlines())
    assert rows["data"] == "1,797 samples of 1x8x8"
    assert rows["parameters"] == f"{config.model.parameter_count():,}"
    assert "measured" in rows["step"]
    assert rows["time"].endswith("for 6 steps")
    assert sorted(tmp_path.rglob("*")) == before


def test_dry_run_does_without_the_data(tmp_path, succeeds):
    flags = f"--data.root {tmp_path} --model.network.width 8 --training.batch-size 4 --training.device cpu"
    said = succeeds(f"train mnist-score --dry-run {flags}")
    assert "data        missing: mnist (train) is not here" in said.out


def test_a_run_from_the_command_line(mlp_file, tmp_path, succeeds, refused):
    out = tmp_path / "run"
    command = f"train digits-score --config {mlp_file} --out {out}"
    said = succeeds(command)
    assert re.search(r"6 steps, \d+ s; ", said.out)
    assert f"the model is in {out / 'checkpoints' / 'step-00000006'}" in said.out
    assert f"1,797 samples; 1 process x 8 samples (cpu); log in {out / 'log.jsonl'}" in said.err
    assert "step 6 of 6: mse " in said.err
    assert [line["step"] for line in store.read_log(out)] == [2, 4, 6]
    assert "holds a run already; continue it with --resume" in refused(command)
    resume = f"train digits-score --out {out} --resume"
    succeeds(f"{resume} --training.steps 8")
    assert store.latest(out).step == 8
    assert "another configuration: optimiser.lr" in refused(f"{resume} --optimiser.lr 3")


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_a_checkpoint_words_and_the_right_status(number, status, mlp_file, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "proxdm", "train", "digits-score", "--config", str(mlp_file), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    flags = ["--training.steps", "1000000", "--logging.keep", "1"]
    process = subprocess.Popen([*command, *flags], env=environment, stderr=subprocess.PIPE, text=True)
    start = time.monotonic()
    while store.latest(out) is None and time.monotonic() - start < 120:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    step = store.latest(out).step
    assert f"{number.name} at step {step} of 1000000; wrote {out / 'checkpoints' / f'step-{step:08d}'}." in said
    resume = said.strip().splitlines()[-1].split("Go on with: ")[1].split()
    assert resume[-3:] == ["--out", str(out), "--resume"]
    config = from_json((out / "config.json").read_text())
    assert main([*resume[1:], "--training.steps", str(step + 3)]) == 0
    assert store.latest(out).step == step + 3
    assert to_json(store.read_config(out)) == to_json(changed(config, training={"steps": step + 3}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "[training]\nsteps = 7\nema = [0.99]\n[optimiser]\nschedule = 'cosine'\n"),
        ("a.yaml", "training:\n  steps: 7\n  ema: [0.99]\noptimiser:\n  schedule: cosine\n"),
        ("a.json", '{"training": {"steps": 7, "ema": [0.99]}, "optimiser": {"schedule": "cosine"}}'),
    ],
)
def test_values_of_a_file_in_three_languages(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    config = parse_request(["digits-score", "--config", str(tmp_path / name)], "proxdm train").config
    assert (config.training.steps, config.training.ema, config.optimiser.schedule) == (7, (0.99,), "cosine")
    (tmp_path / name).write_text("{ no : [ such")
    with pytest.raises(ConfigError, match=rf"{name} is not {name[2:].upper()}: "):
        parse_request(["digits-score", "--config", str(tmp_path / name)], "proxdm train")
