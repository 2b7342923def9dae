"""`kill -9` at any moment: no checkpoint is ever half there, and the run ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import replace

import pytest
import torch

from proxdm.checkpoints import store
from proxdm.checkpoints.portable import read_model_file, read_tensors
from proxdm.training import train_config


def log_of(folder):
    lines = store.read_log(folder)
    return [{key: value for key, value in line.items() if key not in ("images_per_s", "seconds")} for line in lines]


def step_of(run):
    latest = store.latest(run)
    return 0 if latest is None else latest.step


@pytest.mark.slow
def test_killed_twenty_times_a_run_ends_like_one_that_was_not(prox_config, pictures, tmp_path):
    config = replace(
        prox_config,
        training=replace(prox_config.training, steps=400),
        objective=replace(prox_config.objective, l1_steps=100),
        logging=replace(prox_config.logging, every=7, checkpoint_every=3, keep=2, preview_every=50),
    )
    expected = train_config(config, tmp_path / "whole", data=pictures, progress=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["proxdm.training", "accelerate", "safetensors.torch", "torch._dynamo", "pytest"])
    run, rng, steps, kills = tmp_path / "run", random.Random(0), [0], 0
    while kills < 20:
        names = {"resume": store.is_run(run), "data": pictures, "progress": False}
        process = context.Process(target=train_config, args=(config, run), kwargs=names)
        process.start()
        # Most kills fall into the work of this process, not into its start: wait for a checkpoint of its own.
        before, early = time.monotonic(), kills % 5 == 4
        while not early and process.is_alive() and step_of(run) <= steps[-1] and time.monotonic() - before < 60:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        kills += 1
        assert process.exitcode in (-9, 0), "a resumed process failed by itself"
        latest = store.latest(run)
        if latest is not None:
            steps.append(latest.step)
            for path in latest.path.glob("*.safetensors"):
                read_tensors(read_model_file(path))
    assert steps == sorted(steps), "a kill lost a checkpoint"
    assert len(set(steps)) > 10, "most processes took steps before they were killed"
    result = train_config(config, run, resume=True, data=pictures, progress=False)
    for path in expected.checkpoint.glob("*.safetensors"):
        ours, theirs = (
            read_tensors(read_model_file(folder / path.name)) for folder in (result.checkpoint, path.parent)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert log_of(run) == log_of(tmp_path / "whole")
    assert len(list((run / "checkpoints").iterdir())) == 2
