"""Run folders: exact round trips, whole or not there at all, and nothing that is there is lost."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from proxdm.checkpoints import store
from proxdm.checkpoints.store import TrainingState
from proxdm.config import ConfigError, LoggingConfig, OptimiserConfig
from proxdm.errors import CheckpointError, OutputError
from runs import exactly, full_disk
from tiny_models import POINTS, random_state


@pytest.fixture
def run(tmp_path):
    store.create_run(tmp_path / "run", POINTS)
    return tmp_path / "run"


def save(run, step, keep=0, **state):
    weights = {name: random_state(POINTS, step + i) for i, name in enumerate(("raw", "ema-0.99", "ema-0.9"))}
    optimizer = {"exp_avg.w": torch.full((3,), 0.1), "step.w": torch.tensor(float(step))}
    return store.save_checkpoint(run, POINTS, TrainingState(step, **state), weights, optimizer, keep=keep)


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_saved_comes_back(run):
    saved = save(run, 7, seconds=1.5, skipped=2, counters=(0.1, 1 / 3, 1e-300), versions="v")
    found = store.latest(run)
    assert found == saved
    assert found.state == TrainingState(7, 1.5, 2, (0.1, 1 / 3, 1e-300), "v")
    for weights, seed in (("raw", 7), ("ema-0.99", 8), ("ema-0.9", 9)):
        exactly(found.read(weights), random_state(POINTS, seed))
    exactly(found.read("optimizer"), {"step.w": torch.tensor(7.0), "exp_avg.w": torch.full((3,), 0.1)})


def test_files_are_what_the_documentation_says(run):
    path = save(run, 1000).path
    assert path.name == "step-00001000"
    tensors = [f"{name}.safetensors" for name in ("ema-0.9", "ema-0.99", "model", "optimizer")]
    assert sorted(file.name for file in path.iterdir()) == ["config.json", *tensors, "state.json"]
    assert json.loads((path / "state.json").read_text())["state"]["step"] == 1000


def test_latest_is_by_number_and_old_ones_go(run):
    assert store.latest(run) is None
    for step in (5, 99_999_999, 100_000_000, 20):
        save(run, step)
    assert [c.step for c in store.checkpoints(run)] == [5, 20, 99_999_999, 100_000_000]
    assert store.latest(run).step == 100_000_000
    save(run, 200_000_000, keep=2)
    assert names(run) == ["step-100000000", "step-200000000"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


HARMS = {
    "ema-0.9.safetensors is missing": lambda path: (path / "ema-0.9.safetensors").unlink(),
    r"model.safetensors has [\d,]+ of [\d,]+ bytes": lambda path: cut(path / "model.safetensors"),
    r"state.json cannot be read \(No such file": lambda path: (path / "state.json").unlink(),
    r"state.json cannot be read \(Expecting": lambda path: cut(path / "state.json") or cut(path / "state.json"),
}


@pytest.mark.parametrize("why", HARMS)
def test_checkpoints_that_are_not_whole_are_passed_over_and_replaced(run, why):
    save(run, 1)
    path = save(run, 2).path
    assert store.passed_over(run) is None
    HARMS[why](path)
    assert re.fullmatch(rf"passed over .*step-00000002: {why}.*; taken is .*step-00000001", store.passed_over(run))
    assert [c.step for c in store.checkpoints(run)] == [1]
    save(run, 2)
    assert [c.step for c in store.checkpoints(run)] == [1, 2]
    assert names(run) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("function", ["write_model_file", "write_config", "_sync_folder"])
def test_a_full_disk_costs_nothing_that_was_there(run, function, monkeypatch):
    save(run, 1)
    with monkeypatch.context() as patch:
        patch.setattr(store.portable if function == "write_model_file" else store, function, full_disk)
        message = r"step-00000002 cannot be written \(No space left on device\); make room"
        with pytest.raises(OutputError, match=message):
            save(run, 2, keep=1)
    assert names(run) == ["step-00000001"]
    assert store.latest(run).read("raw")
    save(run, 2, keep=1)
    assert names(run) == ["step-00000002"]


def test_clean_removes_what_a_killed_process_left_and_its_run_can_be_made_again(run, tmp_path):
    save(run, 1)
    for name in (".unfinished-step-00000002-77", ".unfinished-step-00000001-old-77"):
        (run / "checkpoints" / name).mkdir()
        (run / "checkpoints" / name / "model.safetensors").write_bytes(b"x")
    (run / ".log.jsonl.77.part").write_text("")
    store.clean(run)
    assert names(run) == ["step-00000001"]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.json"]
    run = tmp_path / "begun"
    (run / "checkpoints").mkdir(parents=True)
    (run / ".config.json.77.part").write_text("{")
    (run / ".lock").touch()
    store.create_run(run, POINTS)
    assert store.read_config(run) == POINTS


def test_create_run_refuses_what_is_there_and_read_config_needs_a_run(run, tmp_path):
    with pytest.raises(OutputError, match="holds a run already; continue it with --resume"):
        store.create_run(run, POINTS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        store.create_run(tmp_path / "file", POINTS)
    with pytest.raises(OutputError, match="is not empty"):
        store.create_run(tmp_path, POINTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]
    (tmp_path / "empty").mkdir()
    store.create_run(tmp_path / "empty", POINTS)
    assert store.read_config(tmp_path / "empty") == POINTS
    with pytest.raises(OutputError, match="cannot be written"):
        store.create_run(tmp_path / "file" / "below", POINTS)
    with pytest.raises(CheckpointError, match="is not the folder of a training run"):
        store.read_config(tmp_path)
    (run / "config.json").write_text('{"preset": "tiny", "date": 1}')
    with pytest.raises(CheckpointError, match=r"config.json cannot be read: .*'date'.*'data'"):
        store.read_config(run)


WIDER = replace(POINTS.model.network, width=32)


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"data": replace(POINTS.data, limit=5)}, r"data.limit \(None and 5\)"),
        ({"training": replace(POINTS.training, batch_size=5)}, r"training.batch_size \(512 and 5\)"),
        ({"training": replace(POINTS.training, ema=(0.9,))}, r"training.ema"),
        ({"training": replace(POINTS.training, bf16=True)}, r"training.bf16 \(False and True\)"),
        ({"optimiser": OptimiserConfig(lr=1.0)}, r"optimiser.lr \(0.0002 and 1.0\)"),
        ({"model": replace(POINTS.model, network=WIDER)}, r"model.network.width \(16 and 32\)"),
    ],
)
def test_a_run_may_change_what_does_not_alter_it_and_nothing_else(changes, field):
    training = replace(POINTS.training, steps=2000, micro_batch=2, patience=1, compile=True, device="cpu")
    logging = LoggingConfig(every=1, keep=9, tracker="tensorboard")
    data = replace(POINTS.data, root="elsewhere")
    store.check_same_run(POINTS, replace(POINTS, training=training, logging=logging, data=data))
    with pytest.raises(ConfigError, match=field):
        store.check_same_run(POINTS, replace(POINTS, **changes))


def test_log_is_truncated_to_a_step(run):
    lines = [json.dumps({"step": step, "loss": step / 3}) + "\n" for step in (10, 20, 30)]
    (run / store.LOG_FILE).write_text("".join(lines) + '{"step": 40, "lo')
    assert [line["step"] for line in store.read_log(run)] == [10, 20, 30]
    store.truncate_log(run, 25)
    assert (run / store.LOG_FILE).read_text() == "".join(lines[:2])
    (run / store.LOG_FILE).unlink()
    store.truncate_log(run, 25)
    assert store.read_log(run) == []
