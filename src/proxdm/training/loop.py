"""The training loop: steps, log, previews, checkpoints, resume, signals.

What is minimised is injected (:class:`proxdm.losses.Objective`); averages, logging and cadences are data in the
configuration. Everything random is a function of (seed, step) (:mod:`proxdm.runtime.seeds`), so on the CPU a resumed
run equals an uninterrupted one to the last bit, and several processes give the weights of one up to rounding.
"""

from __future__ import annotations

import platform
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from proxdm._version import __version__
from proxdm.checkpoints import store
from proxdm.checkpoints.store import Checkpoint, TrainingState
from proxdm.config import Config, ConfigError
from proxdm.data.images import ImageData
from proxdm.data.load import load_data
from proxdm.errors import CheckpointError, NonFiniteError
from proxdm.losses import Objective, Phase, phase_at
from proxdm.runtime.processes import find_place
from proxdm.runtime.signals import Caught, caught_signals
from proxdm.training.log import RunLog
from proxdm.training.previews import can_preview, save_preview
from proxdm.training.rates import learning_rate
from proxdm.training.stepper import Stepper

_SIGNAL_CADENCE = 10
"""On several GPUs the processes ask each other for signals every so many steps: asking makes the host wait."""


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        folder: The run.
        checkpoint: Its last checkpoint.
        step: Optimiser steps taken since the beginning of the run.
        seconds: Time spent training since the beginning of the run.
        signal: The signal that ended it early (SIGINT 2, SIGTERM 15), or None.
        last: The last line of the log; None if this call wrote none.
    """

    folder: Path
    checkpoint: Path
    step: int
    seconds: float
    signal: int | None = None
    last: dict[str, Any] | None = None


def train(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    data: ImageData | None = None,
    objective: Objective | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a model, or go on training it.

    Under `accelerate launch` or `torchrun` every process calls this; the first writes the files, and all of them must
    see the folder. torch's global random state is afterwards what it was before.

    Args:
        config: The run.
        out: Its folder; must be new or empty without `resume`.
        resume: Go on from the latest checkpoint.
        data: Training images in place of those that `config.data` names.
        objective: What is predicted, and with what it is compared; None is the configuration's.
        progress: Show a progress bar (only where there is a terminal).

    Returns:
        How it ended; after SIGINT or SIGTERM a checkpoint has been written and `signal` is set.

    Raises:
        OutputError: The folder holds a run already, or something else, or cannot be written; nothing was touched.
        CheckpointError: There is nothing to resume, or the checkpoint is damaged.
        ConfigError: The run was started with another configuration, or data, model and processes do not fit.
        DataError: The data are not there.
        NonFiniteError: Loss or gradient was not finite in `training.patience` steps in a row.
    """
    folder = Path(out)
    place = find_place(config.training.device)
    if not resume:
        store.check_free(folder)
    else:
        store.check_same_run(store.read_config(folder), config)
    images = load_data(config.data) if data is None else data
    devices = [place.device] if place.device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices))
        stepper = Stepper(config, images, place, objective)
        place.wait()  # nobody may see the folder that the first process makes before having looked at what was there
        if place.is_main:
            if not resume:
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(store.locked(folder))
            store.clean(folder) if resume else store.create_run(folder, config)
        place.wait()
        trainer = Trainer(config, folder, stepper, progress=progress)
        if resume:
            trainer.restore()
        caught = stack.enter_context(caught_signals())
        return trainer.run(caught)


class Trainer:
    """The loop around a stepper.

    Args:
        config: The run.
        folder: Its folder, made already.
        stepper: Takes the steps.
        progress: Show a progress bar.
    """

    def __init__(self, config: Config, folder: Path, stepper: Stepper, *, progress: bool) -> None:
        self.config, self.folder, self.stepper, self.place = config, folder, stepper, stepper.place
        self.progress = progress and self.place.is_main
        self.step = 0
        self.checkpoint: Checkpoint | None = None
        self.last: dict[str, Any] | None = None
        self._log: RunLog | None = None
        self._seconds_before = 0.0
        self._started = self._logged_at = time.perf_counter()
        self._logged_step = 0

    def restore(self) -> None:
        """Go back to the latest checkpoint of the run; to the beginning if it has none.

        Raises:
            CheckpointError: The checkpoint is damaged.
            ConfigError: The run has gone beyond `training.steps` already.
        """
        found = store.latest(self.folder)
        if found is not None:
            if found.step > self.config.training.steps:
                raise ConfigError(
                    f"training.steps = {self.config.training.steps}, but {self.folder} has taken {found.step} steps "
                    f"already; set it to {found.step} or more"
                )
            self._load(found)
        if self.place.is_main:
            store.write_config(self.folder, self.config)
            store.truncate_log(self.folder, self.step)

    def _load(self, found: Checkpoint) -> None:
        try:
            self.stepper.model.network.load_state_dict(found.read("raw"))
            for decay in self.config.training.ema:
                self.stepper.averages.load(decay, found.read(f"ema-{decay}"))
            self.stepper.load_optimizer_state(found.read_optimizer())
        except (CheckpointError, RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"the checkpoint {found.path} cannot be resumed ({error}); remove that folder to go on from the one "
                "before it"
            ) from error
        self.stepper.set_counters(found.state.counters)
        self.checkpoint, self.step, self._logged_step = found, found.step, found.step
        self._seconds_before = found.state.seconds

    def run(self, caught: Caught) -> TrainingResult:
        """Take the remaining steps, or as many as are taken before a signal comes.

        Args:
            caught: Where a signal shows.
        """
        total = self.config.training.steps
        self._started = self._logged_at = time.perf_counter()
        if self.place.is_main:
            self._log = RunLog(self.folder, self.config, self.step)
        self._introduce()
        number = 0
        try:
            with tqdm(
                total=total,
                initial=self.step,
                desc=self.folder.name,
                unit="step",
                dynamic_ncols=True,
                disable=None if self.progress else True,
            ) as bar:
                while self.step < total and not number:
                    self._one_step(bar)
                    number = self._signal(caught)
                if self.checkpoint is None or self.checkpoint.step != self.step:
                    self._save()
        finally:
            if self._log is not None:
                self._log.close()
        self.place.wait()
        assert self.checkpoint is not None
        early = number if self.step < total else None
        return TrainingResult(self.folder, self.checkpoint.path, self.step, self._seconds(), early or None, self.last)

    def _introduce(self) -> None:
        """Say what is about to happen and where to watch it: without a terminal there is no bar for a long time."""
        if not self.progress:
            return
        images, parameters = len(self.stepper.stream.data), sum(p.numel() for p in self.stepper.model.parameters())
        print(
            f"{self.config.model.kind} model of {parameters:,} parameters, {images:,} images, {self.place.device}; "
            f"log in {self.folder / store.LOG_FILE}",
            file=sys.stderr,
            flush=True,
        )

    def _one_step(self, bar: tqdm[Any]) -> None:
        logging, total = self.config.logging, self.config.training.steps
        phase = self._phase(self.step)
        self.stepper.step(self.step, phase)
        self.step += 1
        bar.update()
        ends = self.step == total
        if ends or self.step % logging.every == 0 or self._phase(self.step) != phase:
            self._write_line(phase, bar)
        elif self.place.device.type == "cpu":  # looking is free there
            self._check_finite()
        if logging.preview_every and (ends or self.step % logging.preview_every == 0):
            self._preview(bar)
        if ends or self.step % logging.checkpoint_every == 0:
            self._save()
            if self.progress and bar.disable and self.last is not None and self.last["loss"] is not None:
                said = f"{self.last['phase']} {self.last['loss']:.4f}, {self._seconds():.0f} s"
                print(f"step {self.step} of {total}: {said}", file=sys.stderr, flush=True)

    def _phase(self, step: int) -> Phase:
        return phase_at(self.config.objective, step, self.config.training.steps)

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _write_line(self, phase: Phase, bar: tqdm[Any]) -> None:
        self._check_finite()
        window, now = self.stepper.collect(), time.perf_counter()
        images, taken = self.config.training.batch_size, window.steps > 0
        self.last = {
            "step": self.step,
            "images": self.step * images,
            "phase": phase.loss,
            "zeta": phase.zeta,
            "lr": learning_rate(self.config.optimiser, phase, self.step - 1),
            "loss": window.loss if taken else None,
            "mse": window.mse if taken else None,
            "vanished": window.vanished if taken and phase.zeta is not None else None,
            "grad_norm": window.grad_norm if taken else None,
            "skipped": window.skipped,
            "images_per_s": round((self.step - self._logged_step) * images / (now - self._logged_at), 2),
            "seconds": round(self._seconds(), 3),
        }
        self._logged_step, self._logged_at = self.step, now
        if self._log is not None:
            self._log.write(self.last)
        if taken:
            bar.set_postfix_str(f"{phase} {window.loss:.4f}", refresh=False)

    def _check_finite(self) -> None:
        window, training = self.stepper.look(), self.config.training
        if window.longest < training.patience:
            return
        path = None if self.checkpoint is None else self.checkpoint.path
        good = "there is no checkpoint yet" if path is None else f"the last good checkpoint is {path}"
        raise NonFiniteError(
            f"loss or gradient was not finite in {window.longest} steps in a row, from step {window.first} on (its "
            f"batch: seed {training.seed}, step {window.first}); {good}; start a new run with a lower optimiser.lr or "
            "a lower optimiser.clip"
        )

    def _preview(self, bar: tqdm[Any]) -> None:
        """Write a grid of samples of the first average; a model that cannot sample yet is no reason to stop."""
        if not self.place.is_main or not can_preview(self.config):
            return
        decay = next(iter(self.config.training.ema), None)
        path = self.folder / "previews" / f"step-{self.step:08d}.png"
        try:
            with self.stepper.averages.in_use(decay):
                save_preview(self.stepper.model, self.config, path)
        except NonFiniteError as error:
            bar.write(f"no preview at step {self.step}: {error}", file=sys.stderr)

    def _save(self) -> None:
        state = TrainingState(
            step=self.step,
            seconds=round(self._seconds(), 3),
            skipped=self.stepper.look().skipped,
            counters=self.stepper.counters(),
            versions=f"proxdm {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        )
        if self.place.is_main:
            stepper = self.stepper
            weights = {f"ema-{decay}": stepper.averages.state(decay) for decay in self.config.training.ema}
            weights["raw"] = stepper.model.network.state_dict()
            self.checkpoint = store.save_checkpoint(
                self.folder, self.config, state, weights, stepper.optimizer_state(), keep=self.config.logging.keep
            )
        else:
            self.checkpoint = Checkpoint(self.folder / store.CHECKPOINTS / f"step-{self.step:08d}", state)

    def _signal(self, caught: Caught) -> int:
        """Return the signal that any process has caught, the same answer in all of them; 0 if none."""
        if self.place.world > 1 and self.place.device.type != "cpu" and self.step % _SIGNAL_CADENCE:
            return 0
        return self.place.largest(caught.number)
