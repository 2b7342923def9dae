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
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

from torch import Tensor

from proxdm.checkpoints.portable import (
    CONFIG_FILE,
    MODEL_FILE,
    ModelFile,
    read_model_file,
    read_tensors,
    write_model_file,
)
from proxdm.config import Config, ConfigError, ModelConfig, differences, from_dict, from_json, to_dict, to_json
from proxdm.errors import CheckpointError, OutputError
from proxdm.runtime.files import replacing
from proxdm.runtime.locks import lock

T = TypeVar("T")

CHECKPOINTS = "checkpoints"
LOG_FILE = "log.jsonl"
STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.safetensors"
LOCK_FILE = ".lock"

_STEP = re.compile(r"step-(\d{8,})")
_UNFINISHED = ".unfinished-"

MAY_CHANGE = ("logging.", "training.steps", "training.patience", "training.micro_batch", "training.compile",
              "training.device", "data.root", "imports", "sampler")  # fmt: skip
"""Fields, or beginnings of fields, that a resumed run may change: none of them alters the steps already taken."""


@dataclass(frozen=True)
class TrainingState:
    """Position and counters of a run. All randomness of a training is a function of (seed, step), so this is all.

    Attributes:
        step: Optimiser steps taken.
        seconds: Time spent training, over all processes of the run one after the other.
        skipped: Steps whose loss or gradient was not finite.
        counters: Further numbers that the trainer wants back (sums since the last line of the log).
        versions: Versions of the packages that wrote it.
    """

    step: int
    seconds: float = 0.0
    skipped: int = 0
    counters: tuple[float, ...] = ()
    versions: str = ""


@dataclass(frozen=True)
class _StateFile:
    state: TrainingState
    files: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path  # Its folder, `.../step-00001000`
    state: TrainingState  # Position and counters

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.state.step

    @property
    def config(self) -> Config:
        """The configuration of the run when this was written."""
        return _read_config(self.path, Config)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weight sets: the averages in the order of the configuration, then `raw`."""
        training = json.loads((self.path / CONFIG_FILE).read_text(encoding="utf-8"))["training"]
        return (*(f"ema-{decay}" for decay in training["ema"]), "raw")

    def read_optimizer(self) -> dict[str, Tensor]:
        """Return the optimiser's tensors (see :meth:`read`)."""
        return self.read("optimizer")

    def read(self, name: str) -> dict[str, Tensor]:
        """Return a weight set, e.g. `raw` or `ema-0.9999`, or the tensors of the `optimizer` (`MOMENT.PARAMETER`)."""
        return read_tensors(read_model_file(self.path / tensor_file(name)))


def tensor_file(name: str) -> str:
    """Return the file of a weight set or the optimiser: of `raw` `model.safetensors`, of others `NAME.safetensors`."""
    return MODEL_FILE if name == "raw" else f"{name}.safetensors"


def is_run(folder: Path) -> bool:
    """Return whether the folder is a training run."""
    return (folder / CONFIG_FILE).is_file() and (folder / CHECKPOINTS).is_dir()


def create_run(folder: Path, config: object) -> None:
    """Make the folder of a new run; an empty folder may be there."""
    check_free(folder)
    try:
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        write_config(folder, config)
    except OSError as error:
        raise OutputError(f"the run {folder} cannot be written ({error.strerror}); choose another --out") from error


def check_free(folder: Path) -> None:
    """Check that a new run can be made in a folder: it is not there, or is empty, or a killed process began it."""
    if is_run(folder):
        raise OutputError(
            f"{folder} holds a run already; continue it with --resume, or choose another folder with --out"
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder; choose another folder with --out")
    begun = re.compile(rf"{re.escape(LOCK_FILE)}|{CHECKPOINTS}|\.{re.escape(CONFIG_FILE)}\..*\.part")
    if folder.exists() and not all(begun.fullmatch(entry.name) for entry in folder.iterdir()):
        raise OutputError(f"{folder} is there already and is not empty; choose another folder with --out")


@overload
def read_config(folder: Path) -> Config: ...
@overload
def read_config(folder: Path, kind: type[T]) -> T: ...
def read_config(folder: Path, kind: type[Any] = Config) -> Any:
    """Return the configuration of a run, a :class:`~proxdm.config.Config` or another dataclass."""
    if not is_run(folder):
        raise CheckpointError(f"{folder} is not the folder of a training run (it has no {CONFIG_FILE} and checkpoints)")
    return _read_config(folder, kind)


def _read_config(folder: Path, kind: type[T]) -> T:
    try:
        return from_json((folder / CONFIG_FILE).read_text(encoding="utf-8"), kind)
    except (ConfigError, OSError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be read: {error}") from error


def write_config(folder: Path, config: object) -> None:
    """Write the configuration of a run, in place of the one that was there."""
    with replacing(folder / CONFIG_FILE) as part:
        part.write_text(to_json(config), encoding="utf-8")


def check_same_run(stored: object, wanted: object) -> None:
    """Check that a run can go on with another configuration than the one it has."""
    different = [line for line in differences(stored, wanted) if not line.startswith(MAY_CHANGE)]
    if different:
        raise ConfigError(
            f"the run was started with another configuration: {', '.join(different)} (stored and wanted); leave these "
            "as they were, or start a new run with another --out"
        )


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the whole checkpoints of a run, the earliest first."""
    parent = folder / CHECKPOINTS
    if not parent.is_dir():
        return []
    found = (_whole(path) for path in sorted(parent.iterdir()) if _STEP.fullmatch(path.name))
    return sorted((one for one in found if one is not None), key=lambda one: one.step)


def latest(folder: Path) -> Checkpoint | None:
    """Return the latest whole checkpoint of a run, or None if it has none."""
    return next(reversed(checkpoints(folder)), None)


def save_checkpoint(
    folder: Path,
    config: object,
    state: TrainingState,
    weights: Mapping[str, Mapping[str, Tensor]],
    optimizer: Mapping[str, Tensor],
    *,
    keep: int = 0,
    model: object = None,
) -> Checkpoint:
    """Write a checkpoint of a run, then remove all but the latest `keep`."""
    from safetensors import SafetensorError

    target = folder / CHECKPOINTS / f"step-{state.step:08d}"
    part = target.with_name(f"{_UNFINISHED}{target.name}-{os.getpid()}")
    try:
        part.mkdir()
        described = next((one for one in (config, model) if isinstance(one, Config | ModelConfig)), None)
        for name, tensors in weights.items():
            write_model_file(ModelFile(part / tensor_file(name), described, name, state.step), tensors)
        write_model_file(ModelFile(part / OPTIMIZER_FILE, None, "optimizer", state.step), optimizer)
        write_config(part, config)
        sizes = tuple(sorted((path.name, path.stat().st_size) for path in part.iterdir()))
        with replacing(part / STATE_FILE) as file:
            file.write_text(json.dumps(to_dict(_StateFile(state, sizes)), indent=2, allow_nan=False) + "\n", "utf-8")
        _sync_folder(part)
        if target.exists():  # a folder that is not whole: a whole one would have been the latest
            _remove(target)
        part.rename(target)
        _sync_folder(target.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"the checkpoint {target} cannot be written ({reason}); make room, then resume") from error
    if keep:
        for old in checkpoints(folder)[:-keep]:
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
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line + "\n")
    with replacing(path) as part:
        part.write_text("".join(kept), encoding="utf-8")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the log of a run, one dictionary a line; a last line that is being written is left out."""
    path = folder / LOG_FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def locked(folder: Path) -> AbstractContextManager[None]:
    """Hold the run for this process; the lock goes with the process, however it ends."""
    return lock(folder / LOCK_FILE, wait=False)


def _whole(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a folder, or None if a file is missing or has another size than it should."""
    try:
        content = from_dict(json.loads((path / STATE_FILE).read_text(encoding="utf-8")), _StateFile)
        if all((path / name).stat().st_size == size for name, size in content.files):
            return Checkpoint(path, content.state)
    except (OSError, ValueError):
        pass
    return None


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
