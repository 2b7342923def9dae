"""Configurations with other values, objectives that are disturbed, and what runs leave behind, compared."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import torch

import proxdm
from proxdm.checkpoints import store
from proxdm.checkpoints.portable import read_model_file, read_tensors
from proxdm.losses import make_objective
from proxdm.runtime.processes import Place
from proxdm.training import ingredients
from proxdm.training.stepper import Stepper

CPU = Place(torch.device("cpu"))


def changed(config, **parts):
    """The configuration, or settings, with other values of its parts: `training={"steps": 3}`."""
    new = {part: dataclasses.replace(getattr(config, part), **values) for part, values in parts.items()}
    return dataclasses.replace(config, **new)


def stepper_of(config, data, place=CPU):
    """The first steps of a configuration."""
    model, _, draws, objective, settings = ingredients(config)
    return Stepper(model, data, draws, objective, settings, place)


class At:
    """The configuration's objective, with something that happens at some of its evaluations."""

    def __init__(self, config, event, *calls):
        self.objective = make_objective(config.model.build(), config.objective)
        self.noises, self.event, self.at, self.calls = self.objective.noises, event, set(calls), itertools.count()

    def __call__(self, *arguments):
        prediction, target = self.objective(*arguments)
        if next(self.calls) in self.at:
            prediction = self.event(prediction)
        return prediction, target


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(proxdm.__file__).parents[1])}
"""Of processes that are started in other folders."""


def run_python(folder, *arguments):
    """Run Python in a folder, in a process of its own, to the end."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def full_disk(*arguments, **options):
    """In place of a function that writes."""
    raise OSError(errno.ENOSPC, "No space left on device")


def log_of(folder):
    """The lines of a log without what depends on the machine."""
    lines = store.read_log(folder)
    return [{key: value for key, value in line.items() if key not in ("images_per_s", "seconds")} for line in lines]


def tensors_of(checkpoint):
    return {path.name: read_tensors(read_model_file(path)) for path in sorted(checkpoint.glob("*.safetensors"))}


def exactly(first, second):
    """Tensors, dictionaries of them, or the weights of modules are equal to the last bit."""
    first, second = (one.state_dict() if isinstance(one, torch.nn.Module) else one for one in (first, second))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def assert_same(first, second):
    """Weights, averages and optimiser of two checkpoints are equal to the last bit."""
    first, second = tensors_of(first), tensors_of(second)
    assert first.keys() >= {"model.safetensors", "optimizer.safetensors"}
    exactly(first, second)
