"""Two processes give the weights of one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from proxdm.checkpoints import store
from proxdm.config import to_json
from proxdm.training import train_config
from runs import assert_same, changed, run_python

SCRIPT = """
import shutil, sys, torch
from pathlib import Path
from proxdm.config import from_json
from proxdm.data.images import ImageData
from proxdm.training import train_config

folder = Path(sys.argv[1])
config = from_json((folder / "config.json").read_text())
pictures = ImageData(torch.load(folder / "images.pt", weights_only=True), "noise")
train_config(config, folder / "two", data=pictures, progress=False)
if "--resume" in sys.argv:
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        shutil.copytree(folder / "two", folder / "parts")
        shutil.rmtree(folder / "parts" / "checkpoints" / "step-00000012")
    torch.distributed.barrier()
    train_config(config, folder / "parts", data=pictures, resume=True, progress=False)
torch.distributed.destroy_process_group()
"""


def train_by_two(folder, config, pictures, *arguments):
    (folder / "config.json").write_text(to_json(config))
    torch.save(pictures.images, folder / "images.pt")
    (folder / "script.py").write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run_python(folder, *launcher, "script.py", folder, *arguments)


@pytest.mark.slow
def test_two_processes_resume_to_the_last_bit(prox_config, pictures, tmp_path):
    """With dropout, layouts, half precision, accumulation, averages and held samples all at once."""
    settings = {"channels_last": True, "bf16": True, "micro_batch": 3, "ema": (0.5, 0.99), "validation": 0.25}
    config = changed(prox_config, training={**settings, "steps": 12}, logging={"checkpoint_every": 6, "keep": 0})
    assert config.model.network.dropout > 0
    train_by_two(tmp_path, config, pictures, "--resume")
    one, other = (store.latest(tmp_path / name) for name in ("two", "parts"))
    assert one.step == other.step == 12
    assert_same(one.path, other.path)


def assert_near(folder, atol, *weights):
    """The runs `one` and `two` end with nearly the same numbers."""
    for name in weights:
        ours, theirs = (store.latest(folder / run).read(name) for run in ("one", "two"))
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-5, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prox", "score"])
def test_two_processes_give_the_weights_and_the_log_of_one(kind, request, pictures, tmp_path):
    config = request.getfixturevalue(f"{kind}_config")
    # Dropout alone depends on the process; accumulation is on, so that it is tested under the other's eyes.
    network = replace(config.model.network, dropout=0.0)
    config = changed(config, model={"network": network}, training={"micro_batch": 3}, optimiser={"eps": 1e-6})
    one = train_config(config, tmp_path / "one", data=pictures, progress=False)
    train_by_two(tmp_path, config, pictures)
    assert store.latest(tmp_path / "two").step == one.step == 12
    assert_near(tmp_path, 1e-5, "raw", "ema-0.9", "ema-0.5")
    for a, b in zip(store.read_log(tmp_path / "one"), store.read_log(tmp_path / "two"), strict=True):
        assert (a["step"], a["images"], a["phase"]) == (b["step"], b["images"], b["phase"])
        assert (b["loss"], b["mse"], b["grad_norm"]) == pytest.approx((a["loss"], a["mse"], a["grad_norm"]), rel=1e-4)
    # One process may go on with what two have begun, and the other way round.
    longer = changed(config, training={"steps": 14})
    for name in ("one", "two"):
        train_config(longer, tmp_path / name, data=pictures, resume=True, progress=False)
    assert_near(tmp_path, 2e-5, "raw")
