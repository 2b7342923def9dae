"""Verbs that are killed again and again end as if they had not been: nothing lost, nothing half written.

PROXDM_KILLS=300 pytest tests/test_kills.py kills so often; by default a few times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from proxdm.checkpoints import store
from runs import ENVIRONMENT, exactly, tensors_of

KILLS = int(os.environ.get("PROXDM_KILLS", "8"))
TRAIN = ("train", "digits-score", "--training.steps", "60", "--training.batch-size", "16", "--out", "run",
         "--logging.checkpoint-every", "5", "--logging.preview-every", "0", "--logging.every", "10")  # fmt: skip
EVALUATE = ("evaluate", "run", "--features", "pixels", "-n", "600", "--steps", "4", "--chunk", "20",
            "--batch-size", "20", "--sampler", "ddim", "--metrics", "fid", "w2", "--out", "rows")  # fmt: skip
SAMPLE = ("sample", "run", "--steps", "10", "-n", "64", "--out", "pictures", "--sampler", "ddim", "--overwrite")
REPRODUCE = ("reproduce", "mnist", "--smoke", "--only", "mnist-score-ode", "--out", "paper")


def finish_in_spite_of_kills(verb, folder, rng, kills):
    """Begin a verb, or go on with it, kill it at a random time, and so on; then let it end."""
    for number in range(kills + 1):
        resume = ["--resume"] if verb is TRAIN and store.is_run(folder / "run") else []
        command = [sys.executable, "-m", "proxdm", *verb, *resume]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, **streams) as process:
            killed = False
            if number < kills:
                time.sleep(rng.uniform(0.2, 6.0))
                if killed := process.poll() is None:  # it may have been quicker
                    process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]))
            _, error = process.communicate()
        assert killed or process.returncode == 0, error.decode()[-2000:]


def outcome(folder):
    """What a user would look at: weights, rows, pictures."""
    last = store.latest(folder / "run")
    rows = [json.loads(line)["metrics"] for line in (folder / "rows" / "results.jsonl").read_text().splitlines()]
    pictures = {path.name: path.read_bytes() for path in (folder / "pictures").glob("*.png")}
    paper = folder / "paper"
    weights = [tensors_of(one.path) for one in (last, store.latest(paper / "runs/mnist-score"))]
    # Values alone: the digest of a scripted feature network depends on the folder that it was made in.
    panels = json.loads((paper / "figure/compare.json").read_text())["panels"]
    rows += [series["points"] for panel in panels for series in panel["series"]]
    return last.step, weights, rows, pictures


@pytest.mark.slow
def test_killed_verbs_end_as_undisturbed_ones(tmp_path):
    whole, killed, rng = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    for folder, kills in ((whole, 0), (killed, KILLS // 4)):
        folder.mkdir()
        for verb in (TRAIN, EVALUATE, SAMPLE, REPRODUCE):
            finish_in_spite_of_kills(verb, folder, rng, kills)
    (step, weights, rows, pictures), (other_step, others, other_rows, other_pictures) = map(outcome, (whole, killed))
    assert step == other_step == 60
    exactly(weights, others)
    assert rows == other_rows
    assert len(other_rows) == 2
    assert pictures == other_pictures
    left = [path.name for path in killed.rglob("*") if ".part" in path.name or "unfinished" in path.name]
    assert left == []
