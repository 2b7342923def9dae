"""`kill -9` at any moment: no checkpoint is ever half there, and the run ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import random
import time

import pytest

from proxdm.checkpoints import store
from proxdm.training import train_config
from runs import assert_same, changed, log_of, tensors_of


def step_of(run):
    latest = store.latest(run)
    return 0 if latest is None else latest.step


@pytest.mark.slow
def test_killed_twenty_times_a_run_ends_like_one_that_was_not(prox_config, pictures, tmp_path):
    logging = {"every": 7, "checkpoint_every": 3, "keep": 2, "preview_every": 50}
    config = changed(prox_config, training={"steps": 400}, objective={"l1_steps": 100}, logging=logging)
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
            tensors_of(latest.path)
    assert steps == sorted(steps), "a kill lost a checkpoint"
    assert len(set(steps)) > 10, "most processes took steps before they were killed"
    result = train_config(config, run, resume=True, data=pictures, progress=False)
    assert_same(result.checkpoint, expected.checkpoint)
    assert log_of(run) == log_of(tmp_path / "whole")
    assert len(list((run / "checkpoints").iterdir())) == 2
