"""A resumed run is the uninterrupted one; nothing of a run is lost or passed over without a word."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal

import pytest
import torch

from proxdm.checkpoints import store
from proxdm.checkpoints.load import find, remarks, share_of_start
from proxdm.config import ConfigError
from proxdm.errors import CheckpointError, NonFiniteError
from proxdm.runtime.processes import deferred_signals
from proxdm.training import train_config
from runs import At, assert_same, changed


def drawn_settings(seed):
    """Settings of a training, drawn at random."""
    rng = random.Random(seed)
    return {
        "channels_last": rng.random() < 0.6,
        "bf16": rng.random() < 0.4,
        "micro_batch": rng.choice([None, 2, 3]),
        "ema": rng.choice([(), (0.9,), (0.5, 0.99)]),
        "ema_warmup": rng.random() < 0.5,
        "validation": rng.choice([0.0, 0.25]),
        "compile": seed == 4,  # one is enough: it takes ten seconds
        "seed": rng.randrange(100),
    }


@pytest.mark.parametrize("seed", range(8))
def test_every_setting_resumes_to_the_last_bit(score_config, prox_config, pictures, tmp_path, seed):
    """Layouts, bf16, accumulation, averages, held samples, compiled networks, rates, augmentations, classes: weights,
    averages and moments of 12 steps, and of the last 6 again."""
    config, rng = score_config if seed % 2 else prox_config, random.Random(-seed)
    config = changed(config, training={**drawn_settings(seed), "steps": 12}, logging={"checkpoint_every": 6, "keep": 0})
    augment = rng.choice([(), ("RandomAffine(degrees=20)",)])
    optimiser = {"schedule": rng.choice(["constant", "cosine", "inverse-sqrt"]), "decay_from": 5}
    config = changed(config, optimiser=optimiser, data={"augment": augment})
    if rng.random() < 0.5:
        config = config.of_classes(("a", "b", "c"))
        pictures = dataclasses.replace(pictures, labels=torch.arange(37) % 3, classes=("a", "b", "c"))
    train_config(config, tmp_path / "whole", data=pictures, progress=False)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-00000012")
    train_config(config, tmp_path / "parts", resume=True, data=pictures, progress=False)
    one, other = (store.latest(tmp_path / name) for name in ("whole", "parts"))
    assert one.step == other.step == 12
    assert_same(one.path, other.path)


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(score_config, pictures, tmp_path):
    config = changed(score_config, training={"steps": 4}, logging={"checkpoint_every": 2})
    train_config(config, tmp_path / "run", data=pictures, progress=False)
    log = (tmp_path / "run" / store.LOG_FILE).read_text()
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        CheckpointError, match=r"no whole checkpoint.*step-00000002: model.safetensors has 100 of"
    ) as error:
        train_config(config, tmp_path / "run", resume=True, data=pictures, progress=False)
    assert "step-00000004" in str(error.value)
    assert (tmp_path / "run" / store.LOG_FILE).read_text() == log
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2
    with pytest.raises(CheckpointError, match="no complete checkpoint yet; passed over"):
        find(tmp_path / "run")


def test_falling_back_to_an_earlier_checkpoint_is_said(score_config, pictures, tmp_path, capsys):
    config = changed(score_config, training={"steps": 4, "ema": (0.9,)}, logging={"checkpoint_every": 2})
    train_config(config, tmp_path / "run", data=pictures, progress=False)
    (tmp_path / "run" / "checkpoints" / "step-00000004" / "ema-0.9.safetensors").unlink()
    (line,) = [line for line in remarks(find(tmp_path / "run")) if "passed over" in line]
    assert "step-00000004: ema-0.9.safetensors is missing; taken is" in line
    train_config(config, tmp_path / "run", resume=True, data=pictures, progress=False)
    assert "passed over" in capsys.readouterr().err


def test_checkpoints_of_a_bad_stretch_do_not_displace_good_ones(score_config, pictures, tmp_path):
    """Weights become infinite after step 4: no checkpoint of the skipped steps is written."""
    config = changed(score_config, training={"steps": 50, "patience": 6}, logging={"checkpoint_every": 2, "keep": 2})

    predict = At(config, lambda prediction: prediction * float("nan"), *range(4, 50))
    with pytest.raises(NonFiniteError, match=r"from step 4 on.*last good checkpoint is .*step-00000004"):
        train_config(config, tmp_path / "run", data=pictures, predict=predict, progress=False)
    assert [one.step for one in store.checkpoints(tmp_path / "run")] == [2, 4]


def test_a_prolonged_run_keeps_its_phases(prox_config, pictures, tmp_path, capsys):
    config = changed(prox_config, training={"steps": 6}, objective={"l1_steps": 2}, logging={"every": 1})
    train_config(config, tmp_path / "run", data=pictures, progress=False)
    longer = changed(config, training={"steps": 9})
    for _ in range(2):
        train_config(longer, tmp_path / "run", resume=True, data=pictures)
        longer = changed(config, training={"steps": 12})
    assert "stay as for 6 steps" in capsys.readouterr().err
    zetas = [line["zeta"] for line in store.read_log(tmp_path / "run")]
    assert zetas == [None, None, 2.0, 2.0, *[1.0] * 8]


@pytest.mark.parametrize("name, ignored", [("SIGTERM", False), ("SIGHUP", False), ("SIGUSR1", False), ("SIGHUP", True)])
def test_signals_are_noted_once_but_an_ignored_one_stays_ignored(name, ignored):
    """As SIGHUP is under nohup."""
    number, seen = getattr(signal, name), []
    before = signal.signal(number, signal.SIG_IGN if ignored else lambda *_: seen.append("second"))
    try:
        with deferred_signals() as received:
            signal.raise_signal(number)
            signal.raise_signal(number)
        assert (received, seen) == (([], []) if ignored else ([number], ["second"]))
    finally:
        signal.signal(number, before)


def test_an_average_that_holds_its_start_is_said(score_config, pictures, tmp_path):
    config = changed(score_config, training={"steps": 4, "ema": (0.99,), "ema_warmup": False})
    train_config(config, tmp_path / "run", data=pictures, progress=False)
    (line,) = remarks(find(tmp_path / "run"))
    assert f"{100 * share_of_start(0.99, 4, warmup=False):.0f} % of the average ema-0.99" in line
    assert "--weights raw" in line
    assert remarks(find(tmp_path / "run", "raw")) == ()
    warm = changed(config, training={"ema_warmup": True})
    train_config(warm, tmp_path / "warm", data=pictures, progress=False)
    assert remarks(find(tmp_path / "warm")) == ()


def test_the_place_of_the_data_may_change_their_pictures_may_not_in_silence(score_config, pictures, tmp_path, capsys):
    config = changed(score_config, training={"steps": 2}, data={"name": "one"})
    train_config(config, tmp_path / "run", data=pictures, progress=False)
    moved = changed(config, training={"steps": 3}, data={"name": "two"})
    train_config(moved, tmp_path / "run", resume=True, data=pictures, progress=False)
    other = dataclasses.replace(pictures, images=255 - pictures.images)
    with pytest.raises(ConfigError, match=r"data\.name"):
        train_config(changed(config, training={"steps": 4}), tmp_path / "run", resume=True, data=other, progress=False)
    assert capsys.readouterr().err == ""
    train_config(changed(moved, training={"steps": 4}), tmp_path / "run", resume=True, data=other, progress=False)
    assert "the samples are not those that the run was begun with" in capsys.readouterr().err
