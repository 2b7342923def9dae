"""The whole loop: resume to the last bit, signals, logs, previews, and every way to be wrong."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

from archives import png_metadata
from proxdm.checkpoints import store
from proxdm.checkpoints.load import find
from proxdm.config import ConfigError, from_json
from proxdm.errors import CheckpointError, NonFiniteError, OutputError
from proxdm.runtime.files import lock
from proxdm.training import train_config
from runs import At, assert_same, changed, log_of, tensors_of


def interrupting(number):
    def event(prediction):
        os.kill(os.getpid(), number)
        return prediction

    return event


def step_folder(run, step):
    return run / "checkpoints" / f"step-{step:08d}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, pictures):
    """Uninterrupted runs by configuration."""
    done = {}

    def run(config):
        key = config.model.kind
        if key not in done:
            folder = tmp_path_factory.mktemp("whole") / key
            done[key] = (folder, train_config(config, folder, data=pictures, progress=False))
        return done[key]

    return run


# ---- what a run leaves ----


def test_a_run_leaves_config_log_checkpoints_and_previews(whole, prox_config):
    folder, result = whole(prox_config)
    assert store.read_config(folder) == prox_config
    assert [c.step for c in store.checkpoints(folder)] == [4, 8, 12]
    assert (result.step, result.signal, result.checkpoint) == (12, None, step_folder(folder, 12))
    assert [line["step"] for line in log_of(folder)] == [4, 5, 8, 10, 12], "every 5, and where the phase changes"
    previews = sorted((folder / "previews").iterdir())
    assert [path.name for path in previews] == ["step-00000006.png", "step-00000012.png"]
    metadata = {"sampler": "prox-hybrid", "steps": 5, "nfe": 5, "seed": 3}
    assert [png_metadata(path) for path in previews] == [metadata] * 2
    assert result.last == store.read_log(folder)[-1]
    checkpoint = store.latest(folder)
    assert find(folder).weight_sets == ("ema-0.9", "ema-0.5", "raw")
    assert from_json((checkpoint.path / "config.json").read_text()) == prox_config
    assert "torch" in checkpoint.state.versions


def test_lines_of_the_log_say_what_was_done(whole, prox_config):
    lines = store.read_log(whole(prox_config)[0])
    assert [line["phase"] for line in lines] == ["l1"] + ["proximal-matching"] * 4
    assert [line["zeta"] for line in lines] == [None, 2.0, 2.0, 1.0, 1.0]
    assert [line["lr"] for line in lines] == [2e-3] + [1e-3] * 4
    assert [line["images"] for line in lines] == [8 * line["step"] for line in lines]
    assert [line["vanished"] for line in lines] == [None, 0.0, 0.0, 0.0, 0.0]
    for line in lines:
        assert line["skipped"] == 0
        assert line["images_per_s"] > 0
        assert 0 < line["loss"] < 2
        assert line["grad_norm"] > 0
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_global_random_state_is_left_alone(prox_config, pictures, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_config(prox_config, tmp_path / "run", data=pictures, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_without_averages_previews_or_pictures(score_config, pictures, tmp_path):
    config = changed(score_config, training={"ema": (), "steps": 2}, logging={"preview_every": 1})
    train_config(config, tmp_path / "run", data=pictures, progress=False)
    assert find(tmp_path / "run").weight_sets == ("raw",)
    assert len(list((tmp_path / "run" / "previews").iterdir())) == 2
    train_config(changed(config, logging={"preview_every": 0}), tmp_path / "off", data=pictures, progress=False)
    assert not (tmp_path / "off" / "previews").exists()


# ---- resume ----


@pytest.mark.parametrize("kind", ["prox", "score"])
@pytest.mark.parametrize("call", [0, 5, 8])
def test_resume_equals_the_uninterrupted_run_to_the_last_bit(kind, call, request, pictures, tmp_path, whole):
    """Interrupted within a window of the log and between checkpoints; weights, averages, optimiser and log agree."""
    config = request.getfixturevalue(f"{kind}_config")
    folder, expected = whole(config)
    objective = At(config, interrupting(signal.SIGINT), call)
    first = train_config(config, tmp_path / "run", data=pictures, predict=objective, progress=False)
    assert (first.step, first.signal) == (call + 1, signal.SIGINT)
    assert first.checkpoint == step_folder(tmp_path / "run", call + 1)
    second = train_config(config, tmp_path / "run", resume=True, data=pictures, progress=False)
    assert (second.step, second.signal) == (12, None)
    assert_same(second.checkpoint, expected.checkpoint)
    assert log_of(tmp_path / "run") == log_of(folder)
    ours, theirs = (path / "previews" / "step-00000012.png" for path in (tmp_path / "run", folder))
    assert ours.read_bytes() == theirs.read_bytes()


def test_resume_forgets_what_came_after_the_checkpoint(prox_config, pictures, tmp_path, whole):
    """A process that is killed loses the steps after its last checkpoint; the log must not keep them."""
    run, killed = tmp_path / "run", At(prox_config, lambda prediction: 1 / 0, 11)
    with pytest.raises(ZeroDivisionError):
        train_config(prox_config, run, data=pictures, predict=killed, progress=False)
    assert [line["step"] for line in log_of(run)] == [4, 5, 8, 10]
    with (run / store.LOG_FILE).open("a") as file:
        file.write('{"step": 11, "los')
    (run / "checkpoints" / ".unfinished-step-00000010-1").mkdir()
    second = train_config(prox_config, run, resume=True, data=pictures, progress=False)
    folder, expected = whole(prox_config)
    assert log_of(run) == log_of(folder)
    assert_same(second.checkpoint, expected.checkpoint)
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [f"step-{n:08d}" for n in (4, 8, 12)]


def test_resume_of_a_run_without_checkpoints_starts_at_the_beginning(prox_config, pictures, tmp_path, whole):
    store.create_run(tmp_path / "run", prox_config)
    result = train_config(prox_config, tmp_path / "run", resume=True, data=pictures, progress=False)
    assert_same(result.checkpoint, whole(prox_config)[1].checkpoint)


def test_resume_of_a_finished_run_changes_nothing(prox_config, pictures, tmp_path):
    train_config(prox_config, tmp_path / "run", data=pictures, progress=False)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.safetensors")}
    log = (tmp_path / "run" / store.LOG_FILE).read_text()
    result = train_config(prox_config, tmp_path / "run", resume=True, data=pictures, progress=False)
    assert (result.step, result.last) == (12, None)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.safetensors")}
    assert (tmp_path / "run" / store.LOG_FILE).read_text() == log


def test_a_run_can_be_made_longer_and_its_logging_changed(score_config, pictures, tmp_path, whole):
    short = changed(score_config, training={"steps": 7})
    train_config(short, tmp_path / "run", data=pictures, progress=False)
    longer = changed(score_config, training={"micro_batch": 8, "patience": 3}, logging={"every": 3, "keep": 1})
    result = train_config(longer, tmp_path / "run", resume=True, data=pictures, progress=False)
    assert_same(result.checkpoint, whole(score_config)[1].checkpoint)
    assert store.read_config(tmp_path / "run") == longer
    with pytest.raises(ConfigError, match=r"steps = 7, but .* has taken 12 steps already"):
        train_config(short, tmp_path / "run", resume=True, data=pictures, progress=False)


def test_resume_needs_a_run(prox_config, pictures, tmp_path):
    with pytest.raises(CheckpointError, match="is not the folder of a training run"):
        train_config(prox_config, tmp_path / "none", resume=True, data=pictures, progress=False)
    assert not (tmp_path / "none").exists()


def test_a_damaged_checkpoint_is_not_resumed(prox_config, pictures, tmp_path):
    run = tmp_path / "run"
    train_config(prox_config, run, data=pictures, progress=False)
    file = step_folder(run, 12) / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="remove that folder to go on from the one before it"):
        train_config(prox_config, run, resume=True, data=pictures, progress=False)


# ---- nothing is overwritten ----


def test_what_is_there_is_not_touched(prox_config, pictures, tmp_path):
    """Whatever else may be there: checkpoints/test_store.py."""
    (tmp_path / "final.tex").write_text("x")
    with pytest.raises(OutputError, match="is not empty"):
        train_config(prox_config, tmp_path, data=pictures, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["final.tex"]


def test_two_processes_cannot_train_in_one_folder(prox_config, pictures, tmp_path):
    store.create_run(tmp_path / "run", prox_config)
    held = lock(tmp_path / "run" / store.LOCK_FILE, wait=False)
    with held, pytest.raises(OutputError, match="another process holds"):
        train_config(prox_config, tmp_path / "run", resume=True, data=pictures, progress=False)


# ---- signals and numbers that are not finite ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_write_a_checkpoint_and_handlers_come_back(number, prox_config, pictures, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    objective = At(prox_config, interrupting(number), 6)
    result = train_config(prox_config, tmp_path / "run", data=pictures, predict=objective, progress=False)
    assert (result.step, result.signal) == (7, number)
    assert store.latest(tmp_path / "run").step == 7
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    last = At(prox_config, interrupting(number), 11)  # there is nothing left to interrupt
    assert train_config(prox_config, tmp_path / "last", data=pictures, predict=last, progress=False).signal is None


def test_steps_that_are_not_finite_are_skipped_and_counted(prox_config, pictures, tmp_path):
    config = changed(prox_config, training={"patience": 5})
    objective = At(config, lambda prediction: prediction * float("nan"), 0, 1, 2, 3, 5, 6)
    train_config(config, tmp_path / "run", data=pictures, predict=objective, progress=False)
    assert [line["skipped"] for line in log_of(tmp_path / "run")] == [4, 4, 6, 6, 6]
    assert store.latest(tmp_path / "run").state.skipped == 6
    line = json.loads((tmp_path / "run" / store.LOG_FILE).read_text().splitlines()[0])  # of skipped steps alone
    assert (line["loss"], line["grad_norm"]) == (None, None)
    found = tensors_of(store.latest(tmp_path / "run").path)
    assert all(value.isfinite().all() for tensors in found.values() for value in tensors.values())


def test_too_many_in_a_row_stop_the_run(prox_config, pictures, tmp_path):
    config = changed(prox_config, training={"patience": 3})
    objective = At(config, lambda prediction: prediction * float("nan"), *range(2, 4), *range(5, 12))
    message = r"in 3 steps in a row, from step 5 on \(its batch: seed 3, step 5\)"
    with pytest.raises(NonFiniteError, match=message) as caught:
        train_config(config, tmp_path / "run", data=pictures, predict=objective, progress=False)
    # That of step 4 waits for step 5: the steps before it were skipped.
    assert f"the last good checkpoint is {step_folder(tmp_path / 'run', 5)}" in str(caught.value)
    assert store.latest(tmp_path / "run").step == 5
    early = At(config, lambda prediction: prediction * float("nan"), *range(12))
    with pytest.raises(NonFiniteError, match=r"from step 0 on .*; there is no checkpoint yet"):
        train_config(config, tmp_path / "early", data=pictures, predict=early, progress=False)


def test_a_preview_that_fails_does_not_stop_the_run(score_config, pictures, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise NonFiniteError("3 of 4 samples are not finite")

    monkeypatch.setattr("proxdm.training.loop.draw_preview", fail)
    assert train_config(score_config, tmp_path / "run", data=pictures, progress=False).step == 12
    assert "no preview at step 6: 3 of 4 samples are not finite" in capsys.readouterr().err
