"""Logs: JSON lines, and trackers that get the numbers and the pictures."""

from __future__ import annotations

import sys
from unittest.mock import MagicMock, call

import numpy as np
import pytest

from proxdm.checkpoints import store
from proxdm.config import ConfigError
from proxdm.training import train_config
from proxdm.training.log import RunLog
from runs import changed

RECORDS = [
    {"step": 5, "phase": "l1", "zeta": None, "loss": 0.5},
    {"step": 10, "phase": "proximal-matching", "zeta": 1.0, "loss": 0.25},
]
PICTURE = np.arange(6, dtype=np.uint8).reshape(2, 3)


def write(folder, config, records=RECORDS, step=0, tracker="none"):
    log = RunLog(folder, tracker, config, step)
    for record in records:
        log.write(record)
    log.picture(PICTURE, 10)
    log.close()


def test_lines_are_json(score_config, tmp_path):
    write(tmp_path, score_config)
    assert store.read_log(tmp_path) == RECORDS
    write(tmp_path, score_config, RECORDS[:1])
    assert len(store.read_log(tmp_path)) == 3, "a log is continued, not replaced"
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, score_config, [{"step": 1, "loss": float("nan")}])


def read_events(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_tensorboard_gets_the_numbers_and_forgets_what_is_redone(score_config, tmp_path):
    write(tmp_path, score_config, tracker="tensorboard")
    write(tmp_path, score_config, [{"step": 10, "loss": 0.125}], step=5, tracker="tensorboard")
    events = read_events(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(5, 0.5), (10, 0.125)]
    assert {"step", "phase"}.isdisjoint(events.Tags()["scalars"])


def test_previews_of_a_run_are_in_tensorboard(score_config, pictures, tmp_path):
    pytest.importorskip("tensorboard")
    config = changed(score_config, logging={"tracker": "tensorboard"})
    train_config(config, tmp_path / "run", data=pictures, progress=False)
    assert [event.step for event in read_events(tmp_path / "run").Images("preview")] == [6, 12]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_online_trackers_get_everything_under_one_identity(name, score_config, tmp_path, monkeypatch):
    fake = MagicMock(Image=np.asarray)  # the packages want a network or a server
    fake.init.return_value = fake
    monkeypatch.setitem(sys.modules, name, fake)
    write(tmp_path, score_config, tracker=name)
    write(tmp_path, score_config, RECORDS[:1], step=10, tracker=name)
    kinds = [one[0] for one in fake.mock_calls]
    assert kinds == ["init", "log", "log", "log", "finish", "init", "log", "log", "finish"]
    assert fake.log.call_args_list[:2] == [call({"loss": 0.5}, step=5), call({"zeta": 1.0, "loss": 0.25}, step=10)]
    shown = np.squeeze(fake.log.call_args_list[2].args[0]["preview"])
    assert np.array_equal(shown, np.stack([PICTURE] * 3, -1))
    first, second = (one.kwargs for one in fake.init.call_args_list)
    assert first == second, "a resumed run goes on under the same name"
    assert first["project"] == "proxdm"
    assert first["config"]["optimiser"]["lr"] == score_config.optimiser.lr


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_named_with_its_remedy(name, score_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install 'proxdm\[{name}\]'"):
        RunLog(tmp_path, name, score_config, 0)
