"""Errors on held samples: what is held, what is kept, when it stops, and that a resumed run does the same."""

import pytest
import torch

from proxdm.checkpoints import store
from proxdm.config import ConfigError
from proxdm.data.images import ImageData
from proxdm.errors import DataError
from proxdm.losses import Phase
from proxdm.training import train_config
from runs import changed, stepper_of

TOO_LARGE = {"lr": 0.5, "warmup": 0, "clip": None}
"""A rate at which the error does not fall for long."""


def holding(config, **changes):
    training = {"steps": 40, "validation": 0.25, "ema": (0.9,), **changes}
    logging = {"checkpoint_every": 5, "keep": 1, "preview_every": 0, "every": 5, "prior": False}
    return changed(config, training=training, logging=logging)


def test_what_is_held_out():
    data = ImageData(torch.arange(20.0)[:, None], "numbers", labels=torch.arange(20))
    kept, held = data.held_out(0.25)
    assert held.images[:, 0].tolist() == held.labels.tolist() == [3, 7, 11, 15, 19]
    assert sorted([*kept.labels.tolist(), *held.labels.tolist()]) == list(range(20))
    assert data.held_out(0) == (data, None)
    with pytest.raises(DataError, match=r"a share of 0.01 of 20 samples is none"):
        data.held_out(0.01)


def test_the_error_is_that_of_the_average_and_always_on_the_same(score_config, pictures):
    stepper = stepper_of(holding(score_config), pictures)
    first = stepper.validate(pictures, Phase("mse"))
    stepper.step(0, stepper.phase(0))
    assert stepper.validate(pictures, Phase("mse")) != first
    with torch.no_grad():
        for parameter in stepper.model.network.parameters():  # the average is what counts
            parameter.zero_()
    after = stepper.validate(pictures, Phase("mse"))
    assert after == stepper.validate(pictures, Phase("mse"))
    assert after != first


def test_the_best_checkpoint_is_kept_and_said(score_config, pictures, tmp_path, capsys):
    config = changed(holding(score_config), optimiser=TOO_LARGE)
    result = train_config(config, tmp_path / "run", data=pictures)
    states = {one.step: one.state for one in store.checkpoints(tmp_path / "run")}
    best = states[40].best
    assert best[0] in states
    assert set(states) == {best[0], 40}
    assert states[best[0]].validation == best[1]
    assert min(line["validation"] for line in store.read_log(tmp_path / "run") if "validation" in line) >= best[1]
    if best[0] != result.step:
        assert f"lowest at step {best[0]}, {best[1]:.5f}" in capsys.readouterr().err


def test_it_stops_where_nothing_is_gained_and_a_resumed_run_does_too(score_config, pictures, tmp_path):
    config = changed(holding(score_config, stop_after=2, steps=400), optimiser=TOO_LARGE)
    whole = train_config(config, tmp_path / "whole", data=pictures, progress=False)
    assert whole.step < 400
    state = store.latest(tmp_path / "whole").state
    assert whole.step == state.best[0] + 10
    again = train_config(config, tmp_path / "whole", data=pictures, progress=False, resume=True)
    assert again.step == whole.step
    shorter = store.checkpoints(tmp_path / "whole")[0]
    assert shorter.step == state.best[0]


def test_settings_that_mean_nothing_are_refused(score_config):
    with pytest.raises(ConfigError, match="stop_after = 3 needs held samples"):
        holding(score_config, validation=0.0, stop_after=3)
    with pytest.raises(ConfigError, match=r"validation = 0.9 must lie in"):
        holding(score_config, validation=0.9)
