"""Logs: JSON lines, and trackers that get the numbers."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from proxdm.checkpoints import store
from proxdm.config import ConfigError
from proxdm.training.log import RunLog

RECORDS = [
    {"step": 5, "phase": "l1", "zeta": None, "loss": 0.5},
    {"step": 10, "phase": "proximal-matching", "zeta": 1.0, "loss": 0.25},
]


def with_tracker(config, name):
    return replace(config, logging=replace(config.logging, tracker=name))


def write(folder, config, records=RECORDS, step=0):
    log = RunLog(folder, config, step)
    for record in records:
        log.write(record)
    log.close()


def test_lines_are_json(score_config, tmp_path):
    write(tmp_path, score_config)
    assert store.read_log(tmp_path) == RECORDS
    write(tmp_path, score_config, RECORDS[:1])
    assert len(store.read_log(tmp_path)) == 3, "a log is continued, not replaced"
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, score_config, [{"step": 1, "loss": float("nan")}])


def test_tensorboard_gets_the_numbers_and_forgets_what_is_redone(score_config, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = with_tracker(score_config, "tensorboard")
    write(tmp_path, config)
    write(tmp_path, config, [{"step": 10, "loss": 0.125}], step=5)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(5, 0.5), (10, 0.125)]
    assert "step" not in events.Tags()["scalars"]
    assert "phase" not in events.Tags()["scalars"]


class FakeTracker:
    """Stands for the modules wandb and trackio, which want a network or a server."""

    def __init__(self):
        self.calls = []

    def init(self, **names):
        self.calls.append(("init", names))
        return self

    def log(self, record, step):
        self.calls.append(("log", step, record))

    def finish(self):
        self.calls.append(("finish",))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_online_trackers_get_the_numbers_under_one_identity(name, score_config, tmp_path, monkeypatch):
    fake = FakeTracker()
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(init=fake.init, log=fake.log, finish=fake.finish))
    config = with_tracker(score_config, name)
    write(tmp_path, config)
    write(tmp_path, config, RECORDS[:1], step=10)
    kinds = [call[0] for call in fake.calls]
    assert kinds == ["init", "log", "log", "finish", "init", "log", "finish"]
    assert fake.calls[1] == ("log", 5, {"loss": 0.5})
    assert fake.calls[2] == ("log", 10, {"zeta": 1.0, "loss": 0.25})
    first, second = fake.calls[0][1], fake.calls[4][1]
    assert first == second, "a resumed run goes on under the same name"
    assert first["project"] == "proxdm"
    assert first["config"]["optimiser"]["lr"] == config.optimiser.lr


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_named_with_its_remedy(name, score_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install 'proxdm\[{name}\]'"):
        RunLog(tmp_path, with_tracker(score_config, name), 0)
