"""Run folders: a training run on disk, and the checkpoints inside it.

```
RUN/
  config.json               the resolved configuration
  log.jsonl                 one JSON object a line
  checkpoints/
    step-00001000/          the state after 1000 optimiser steps
      model.safetensors     weights
      ema-0.9999.safetensors  their moving averages, one file a decay
      optimizer.safetensors AdamW's moments
      config.json           the configuration again
      state.json            position and counters, versions, names and sizes of the other files
  previews/                 grids of samples
  prior.safetensors         what replaces the network at high noise (:mod:`proxdm.priors`), at the end
  grids.json                tuned grids by sampler and N, of `proxdm tune`
```

Nothing is pickled. A checkpoint is written under a temporary name, synced and renamed, so whatever ends a process, a
folder called `step-...` is whole; a folder that is not (a copy that was cut short) is recognised by the sizes in
`state.json` and passed over. Every file carries a SHA-256 of its tensors, checked when it is read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from proxdm.checkpoints import portable
from proxdm.checkpoints.portable import CONFIG_FILE, MODEL_FILE, ModelFile, write_config
from proxdm.config import Config, ConfigError, ModelConfig, differences, from_dict, from_json
from proxdm.errors import CheckpointError, OutputError
from proxdm.runtime.files import JsonLines, naming, write_text

T = TypeVar("T")

CHECKPOINTS = "checkpoints"
LOG_FILE = "log.jsonl"
STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.safetensors"
LOCK_FILE = ".lock"
PRIOR_FILE = "prior.safetensors"
GRIDS_FILE = "grids.json"

_UNFINISHED = ".unfinished-"

MAY_CHANGE = ("logging.", "training.steps", "training.patience", "training.micro_batch", "training.compile",
              "training.device", "data.root", "imports", "sampler")  # fmt: skip
"""Fields, or beginnings of fields, that a resumed run may change: none of them alters the steps already taken."""


@dataclass(frozen=True)
class TrainingState:
    """Position and counters of a run. All randomness of a training is a function of (seed, step), so this is all."""

    step: int  # Optimiser steps taken
    seconds: float = 0.0  # Time spent training, over all processes of the run one after the other
    skipped: int = 0  # Steps whose loss or gradient was not finite
    counters: tuple[float, ...] = ()  # Further numbers that the trainer wants back
    versions: str = ""  # Versions of the packages that wrote it
    data: str = ""  # SHA-256 of the samples that it was trained on
    validation: float | None = None  # Squared error on held samples, where it was taken
    best: tuple[int, float] | None = None  # Step and value of the lowest one so far
    horizon: int = 0  # Steps that the phases of the loss are laid over: those of the beginning; 0 of older runs


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path  # Its folder, `.../step-00001000`
    state: TrainingState

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.state.step

    def read(self, name: str) -> dict[str, Tensor]:
        """Return a weight set, `raw` or `ema-0.9999`, or the tensors of the `optimizer`, named `MOMENT.PARAMETER`."""
        return portable.read_tensors(portable.read_model_file(self.path / _tensor_file(name)))


def averages(folder: Path) -> list[str]:
    """Return the names of the moving averages, in order, that the `config.json` of a folder has, if it is there."""
    try:
        training = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["training"]
        return [f"ema-{decay}" for decay in training["ema"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _tensor_file(name: str) -> str:
    return MODEL_FILE if name == "raw" else f"{name}.safetensors"


def is_run(folder: Path) -> bool:
    """Return whether the folder is a training run."""
    return (folder / CONFIG_FILE).is_file() and (folder / CHECKPOINTS).is_dir()


def create_run(folder: Path, config: object) -> None:
    """Make the folder of a new run, described by a dataclass; raise an OutputError, nothing touched, if it is taken."""
    check_free(folder)
    with naming(folder):
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    write_config(folder, config)


def check_free(folder: Path) -> None:
    """Raise an OutputError unless the folder is not there, or empty, or a killed process began to make a run of it."""
    begun = re.compile(rf"{re.escape(LOCK_FILE)}|{CHECKPOINTS}|\.{re.escape(CONFIG_FILE)}\..*\.part")
    if is_run(folder):
        what = "holds a run already; continue it with --resume, or"
    elif folder.exists() and not folder.is_dir():
        what = "is a file, not a folder;"
    elif folder.exists() and not all(begun.fullmatch(entry.name) for entry in folder.iterdir()):
        what = "is there already and is not empty;"
    else:
        return
    raise OutputError(f"{folder} {what} choose another folder with --out")


def read_config(folder: Path, kind: type[T] = Config) -> T:  # type: ignore[assignment]
    """Return the configuration of a run, a `Config` or another dataclass; a CheckpointError says that there is none."""
    if not is_run(folder):
        raise CheckpointError(f"{folder} is not the folder of a training run (it has no {CONFIG_FILE} and checkpoints)")
    try:
        return from_json((folder / CONFIG_FILE).read_text(encoding="utf-8"), kind)
    except (ConfigError, OSError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be read: {error}") from error


def check_same_run(stored: object, wanted: object) -> None:
    """Raise a ConfigError that names all fields that differ, if some of them would alter what a run is."""
    different = [line for line in differences(stored, wanted) if not line.startswith(MAY_CHANGE)]
    if different:
        raise ConfigError(
            f"the run was started with another configuration: {', '.join(different)} (stored and wanted); leave these "
            "as they were, or start a new run with another --out"
        )


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the whole checkpoints of a run, the earliest first."""
    return [one for _, one in _examined(folder) if isinstance(one, Checkpoint)]


def latest(folder: Path) -> Checkpoint | None:
    """Return the latest whole checkpoint of a run, or None if it has none."""
    return next(reversed(checkpoints(folder)), None)


def passed_over(folder: Path) -> str | None:
    """Return a line on broken checkpoints that are later than the latest whole one, or None if there are none."""
    broken = list(takewhile(lambda one: isinstance(one[1], str), reversed(_examined(folder))))
    newest = latest(folder)
    named = "; ".join(f"{path}: {why}" for path, why in reversed(broken))
    taken = "" if newest is None else f"; taken is {newest.path}"
    return f"passed over {named}{taken}" if named else None


def _examined(folder: Path) -> list[tuple[Path, Checkpoint | str]]:
    """Return the folders of a run's checkpoints, the earliest first, with the checkpoint or what is wrong with it."""
    paths = [path for path in (folder / CHECKPOINTS).glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
    return [(path, examine(path)) for path in sorted(paths, key=lambda path: int(path.name.removeprefix("step-")))]


def examine(path: Path) -> Checkpoint | str:
    """Return the checkpoint in a folder, or what is wrong with it: a file is missing, or not of its size."""
    try:
        content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        for name, size in content["files"]:
            if not (path / name).is_file():
                return f"{name} is missing"
            if (there := (path / name).stat().st_size) != size:
                return f"{name} has {there:,} of {size:,} bytes"
        return Checkpoint(path, from_dict(content["state"], TrainingState))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{STATE_FILE} cannot be read ({getattr(error, 'strerror', None) or error})"


def save_checkpoint(
    folder: Path,
    config: object,
    state: TrainingState,
    weights: Mapping[str, Mapping[str, Tensor]],
    optimizer: Mapping[str, Tensor],
    *,
    keep: int = 0,
    model: ModelConfig | None = None,
) -> Checkpoint:
    """Write a checkpoint of a run, whole and synced to disk; then remove earlier ones.

    The latest `keep` stay, all if that is 0, and the one of the lowest error on held samples.

    Weight sets are `raw` and `ema-DECAY`; `model` is what their files say of the model where `config` is no `Config`.
    Where the disk is full an OutputError says so, and earlier checkpoints are untouched.
    """
    target = folder / CHECKPOINTS / f"step-{state.step:08d}"
    part = target.with_name(f"{_UNFINISHED}{target.name}-{os.getpid()}")
    described = config if isinstance(config, Config) else model
    try:
        part.mkdir()
        for name, tensors in weights.items():
            portable.write_model_file(ModelFile(part / _tensor_file(name), described, name, state.step), tensors)
        portable.write_model_file(ModelFile(part / OPTIMIZER_FILE, None, "optimizer", state.step), optimizer)
        write_config(part, config)
        sizes = sorted((path.name, path.stat().st_size) for path in part.iterdir())
        content = json.dumps({"state": asdict(state), "files": sizes}, indent=2, allow_nan=False)
        write_text(part / STATE_FILE, content + "\n")
        _sync_folder(part)
        if target.exists():  # a folder that is not whole: a whole one would have been the latest
            _remove(target)
        part.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        why = error.strerror or error
        raise OutputError(f"the checkpoint {target} cannot be written ({why}); make room, then resume") from error
    if keep:
        for old in checkpoints(folder)[:-keep]:
            if state.best is None or old.step != state.best[0]:
                _remove(old.path)
    return Checkpoint(target, state)


def clean(folder: Path) -> None:
    """Remove what a process that was killed left half written, or half removed, in a run."""
    for path in (folder / CHECKPOINTS).glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in [*folder.glob(".*.part"), *folder.glob("*/.*.part")]:
        path.unlink(missing_ok=True)


def truncate_log(folder: Path, step: int) -> None:
    """Remove from the log of a run what comes after a step, and a last line that was cut short."""
    path = folder / LOG_FILE
    if path.exists():
        kept = takewhile(lambda line: line["step"] <= step, read_log(folder))
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the log of a run, one dictionary a line, up to a line that is being written."""
    return JsonLines(folder / LOG_FILE).records()


def _remove(path: Path) -> None:
    """Remove a checkpoint; what remains if the process ends meanwhile no longer looks like one."""
    doomed = path.with_name(f"{_UNFINISHED}{path.name}-old-{os.getpid()}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
