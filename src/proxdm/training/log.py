"""What a run says: `log.jsonl` always, and one of accelerate's experiment trackers where one is wanted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxdm.checkpoints.store import LOG_FILE
from proxdm.config import ConfigError, to_dict
from proxdm.imaging import Pixels
from proxdm.runtime.files import replacing

TRACKER_FILE = "tracker.json"
PROJECT = "proxdm"

Record = Mapping[str, str | int | float | None]


class RunLog:
    """The log of a run.

    Args:
        folder: The run.
        tracker: `none`, `tensorboard` (event files in RUN/tensorboard), `wandb` or `trackio` (project `proxdm`).
        config: What the run is, a dataclass; goes to the tracker.
        step: Steps taken so far; a tracker forgets what came after.

    Raises:
        ConfigError: The tracker's package is not installed.
    """

    def __init__(self, folder: Path, tracker: str, config: object, step: int) -> None:
        self.tracker = None if tracker == "none" else _start(tracker, folder, config, step)
        self._file = (folder / LOG_FILE).open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append one line, `record["step"]` among its entries, and pass its numbers on to the tracker."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        if self.tracker is not None:
            numbers = {key: value for key, value in record.items() if isinstance(value, int | float) and key != "step"}
            self.tracker.log(numbers, step=record["step"])

    def picture(self, pixels: Pixels, step: int) -> None:
        """Pass a picture, `(H, W)` or `(H, W, 3)`, on to the tracker."""
        if self.tracker is None:
            return
        rgb = pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, -1)
        if self.tracker.name == "trackio":  # accelerate's has no log_images
            import trackio

            self.tracker.log({"preview": trackio.Image(rgb)}, step=step)
        else:
            names = {"dataformats": "NHWC"} if self.tracker.name == "tensorboard" else {}
            self.tracker.log_images({"preview": rgb[None]}, step=step, **names)

    def close(self) -> None:
        """Close file and tracker."""
        self._file.close()
        if self.tracker is not None:
            self.tracker.finish()


def _start(name: str, folder: Path, config: object, step: int) -> Any:
    """Return a tracker of accelerate that goes on with the run of this folder, under the same identifier."""
    from accelerate import tracking

    try:
        if name == "tensorboard":
            tracker = tracking.TensorBoardTracker(name, folder, purge_step=step + 1)
        elif name == "wandb":
            names = {"name": folder.name, "id": _identity(folder), "dir": str(folder), "allow_val_change": True}
            tracker = tracking.WandBTracker(PROJECT, resume="allow", config=to_dict(config), **names)
        else:
            names = {"name": f"{folder.name}-{_identity(folder)}"}
            tracker = tracking.TrackioTracker(PROJECT, resume="allow", config=to_dict(config), **names)
        tracker.start()
    except ImportError as error:
        raise ConfigError(
            f"logging.tracker = {name!r} needs a package that is not installed ({error}): pip install 'proxdm[{name}]'"
        ) from error
    return tracker


def _identity(folder: Path) -> str:
    """Return the identifier of a run in trackers, the same after a resume."""
    path = folder / TRACKER_FILE
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps({"id": uuid.uuid4().hex[:8]}) + "\n", encoding="utf-8")
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])
