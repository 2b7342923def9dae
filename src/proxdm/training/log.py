"""What a run says: `log.jsonl` and previews always, and one of accelerate's experiment trackers where it is wanted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxdm import imaging
from proxdm.checkpoints.store import LOG_FILE
from proxdm.config import ConfigError, to_dict
from proxdm.generation import draw
from proxdm.imaging import Pixels
from proxdm.models import LearnedModel
from proxdm.runtime.files import replacing, write_text
from proxdm.samplers import Sampler, find_sampler
from proxdm.sweep import Method
from proxdm.training.settings import Settings

TRACKER_FILE = "tracker.json"
PROJECT = "proxdm"


class RunLog:
    """The log of a run, passed on to a tracker: `tensorboard` (in RUN/tensorboard), `wandb`, `trackio`, or `none`.

    A tracker is told the configuration, and forgets what came after `step`; a ConfigError says that it is missing.
    """

    def __init__(self, folder: Path, tracker: str, config: object, step: int) -> None:
        self.tracker = None if tracker == "none" else _start(tracker, folder, config, step)
        self._file = (folder / LOG_FILE).open("a", encoding="utf-8")

    def write(self, record: Mapping[str, str | int | float | None]) -> None:
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
        write_text(path, json.dumps({"id": uuid.uuid4().hex[:8]}) + "\n")
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])


def preview_sampler(model: LearnedModel, settings: Settings, shape: tuple[int, ...]) -> Sampler | None:
    """Return the sampler of the previews; None where none are wanted, or samples are neither pictures nor points."""
    if not settings.logging.preview_every or not imaging.can_draw(shape):
        return None
    sampler = find_sampler(settings.sampler or ("prox-hybrid" if model.kind == "prox" else "ode-euler"))
    sampler.check(model.schedule, sampler.grid(model.schedule, settings.logging.preview_steps))
    return sampler


def draw_preview(
    model: LearnedModel, sampler: Sampler, settings: Settings, shape: tuple[int, ...], path: Path
) -> Pixels:
    """Sample, always from the same noise, write a picture, and return it."""
    logging, seed = settings.logging, settings.training.seed
    model.eval()
    grid = sampler.grid(model.schedule, logging.preview_steps)
    state = draw(model, Method(sampler), grid, seed, range(logging.preview_samples), shape=shape)
    pixels = imaging.grid(state.x.float())
    with replacing(path) as part:
        metadata = {"sampler": repr(sampler), "steps": logging.preview_steps, "nfe": state.nfe, "seed": seed}
        imaging.save_png(pixels, part, metadata=metadata)
    return pixels
