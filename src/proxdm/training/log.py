"""What a run says: `log.jsonl` always, and an experiment tracker where one is wanted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from proxdm.checkpoints.store import LOG_FILE
from proxdm.config import Config, ConfigError, to_dict
from proxdm.runtime.files import replacing

TRACKER_FILE = "tracker.json"
PROJECT = "proxdm"

Record = Mapping[str, str | int | float | None]


class Tracker(Protocol):
    """A program that draws curves."""

    def log(self, record: Record, step: int) -> None:
        """Take the numbers of a line of the log."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class RunLog:
    """The log of a run.

    Args:
        folder: The run.
        config: Its configuration; says which tracker to use.
        step: Steps taken so far; a tracker forgets what came after.

    Raises:
        ConfigError: The tracker's package is not installed.
    """

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        self.tracker = make_tracker(folder, config, step)
        self._file = (folder / LOG_FILE).open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append one line, `record["step"]` among its entries, and pass its numbers on to the tracker."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        if self.tracker is not None:
            self.tracker.log(record, int(record["step"] or 0))

    def close(self) -> None:
        """Close file and tracker."""
        self._file.close()
        if self.tracker is not None:
            self.tracker.close()


def make_tracker(folder: Path, config: Config, step: int) -> Tracker | None:
    """Return the tracker that the configuration names, or None.

    Raises:
        ConfigError: Its package is not installed.
    """
    name = config.logging.tracker
    makers: dict[str, Callable[[Path, Config, int], Tracker]] = {
        "tensorboard": _TensorBoard,
        "wandb": _WandB,
        "trackio": _Trackio,
    }
    if name == "none":
        return None
    try:
        return makers[name](folder, config, step)
    except ImportError as error:
        raise ConfigError(
            f"logging.tracker = {name!r} needs a package that is not installed ({error}): pip install 'proxdm[{name}]'"
        ) from error


def _numbers(record: Record) -> dict[str, int | float]:
    return {key: value for key, value in record.items() if isinstance(value, int | float) and key != "step"}


def _identity(folder: Path) -> str:
    """Return the identifier of a run in trackers, the same after a resume."""
    path = folder / TRACKER_FILE
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps({"id": uuid.uuid4().hex[:8]}) + "\n", encoding="utf-8")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return str(content["id"])


class _TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, record: Record, step: int) -> None:
        for key, value in _numbers(record).items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """Weights & Biases, project `proxdm`."""

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        import wandb

        identity = _identity(folder)
        self._run: Any = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=identity,
            resume="allow",
            dir=str(folder),
            config=to_dict(config),
            allow_val_change=True,
        )

    def log(self, record: Record, step: int) -> None:
        self._run.log(_numbers(record), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """Trackio, project `proxdm`."""

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        import trackio

        name = f"{folder.name}-{_identity(folder)}"
        self._module: Any = trackio
        trackio.init(project=PROJECT, name=name, resume="allow", config=to_dict(config))

    def log(self, record: Record, step: int) -> None:
        self._module.log(_numbers(record), step=step)

    def close(self) -> None:
        self._module.finish()
