"""Two processes give the weights of one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from proxdm.checkpoints import store
from proxdm.config import to_json
from proxdm.training import train_config
from runs import assert_same, changed

SCRIPT = """
import sys, torch
from pathlib import Path
from proxdm.config import from_json
from proxdm.data.images import ImageData
from proxdm.training import train_config

folder = Path(sys.argv[1])
config = from_json((folder / "config.json").read_text())
pictures = ImageData(torch.load(folder / "images.pt", weights_only=True), "noise")
result = train_config(config, folder / sys.argv[2], data=pictures, resume="--resume" in sys.argv, progress=False)
print(result.step)
torch.distributed.destroy_process_group()
"""


RESUME = """
import shutil, sys, torch
from pathlib import Path
from proxdm.config import from_json
from proxdm.data.images import ImageData
from proxdm.training import train_config

folder = Path(sys.argv[1])
config = from_json((folder / "config.json").read_text())
pictures = ImageData(torch.load(folder / "images.pt", weights_only=True), "noise")
train_config(config, folder / "whole", data=pictures, progress=False)
torch.distributed.barrier()
if torch.distributed.get_rank() == 0:
    shutil.copytree(folder / "whole", folder / "parts")
    shutil.rmtree(folder / "parts" / "checkpoints" / "step-00000012")
torch.distributed.barrier()
train_config(config, folder / "parts", data=pictures, resume=True, progress=False)
torch.distributed.destroy_process_group()
"""


def torchrun(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_resume_to_the_last_bit(prox_config, pictures, tmp_path):
    """With dropout, layouts, half precision, accumulation, averages and held samples all at once."""
    settings = {"channels_last": True, "bf16": True, "micro_batch": 3, "ema": (0.5, 0.99), "validation": 0.25}
    config = changed(prox_config, training={**settings, "steps": 12}, logging={"checkpoint_every": 6, "keep": 0})
    assert config.model.network.dropout > 0
    (tmp_path / "config.json").write_text(to_json(config))
    torch.save(pictures.images, tmp_path / "images.pt")
    (tmp_path / "script.py").write_text(RESUME)
    torchrun(tmp_path, "script.py", str(tmp_path))
    one, other = (store.latest(tmp_path / name) for name in ("whole", "parts"))
    assert one.step == other.step == 12
    assert_same(one.path, other.path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prox", "score"])
def test_two_processes_give_the_weights_and_the_log_of_one(kind, prox_config, score_config, pictures, tmp_path):
    config = prox_config if kind == "prox" else score_config
    # Dropout alone depends on the process; accumulation is on, so that it is tested under the other's eyes.
    network = replace(config.model.network, dropout=0.0)
    config = changed(config, model={"network": network}, training={"micro_batch": 3}, optimiser={"eps": 1e-6})
    (tmp_path / "config.json").write_text(to_json(config))
    torch.save(pictures.images, tmp_path / "images.pt")
    (tmp_path / "script.py").write_text(SCRIPT)
    one = train_config(config, tmp_path / "one", data=pictures, progress=False)
    torchrun(tmp_path, "script.py", str(tmp_path), "two")
    assert store.latest(tmp_path / "two").step == one.step == 12
    for weights in ("raw", "ema-0.9", "ema-0.5"):
        ours, theirs = (store.latest(tmp_path / name).read(weights) for name in ("one", "two"))
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-5, atol=1e-5)
    for a, b in zip(store.read_log(tmp_path / "one"), store.read_log(tmp_path / "two"), strict=True):
        assert (a["step"], a["images"], a["phase"]) == (b["step"], b["images"], b["phase"])
        assert (b["loss"], b["mse"], b["grad_norm"]) == pytest.approx((a["loss"], a["mse"], a["grad_norm"]), rel=1e-4)
    # One process may go on with what two have begun, and the other way round.
    longer = changed(config, training={"steps": 14})
    train_config(longer, tmp_path / "two", data=pictures, resume=True, progress=False)
    train_config(longer, tmp_path / "one", data=pictures, resume=True, progress=False)
    ours, theirs = (store.latest(tmp_path / name).read("raw") for name in ("one", "two"))
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-5, atol=2e-5)
