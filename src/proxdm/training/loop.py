"""The training loop: steps, log, previews, checkpoints, resume, signals.

:func:`train` takes any model, data, draws and objective; :func:`train_config` makes them from a configuration.
Everything random is a function of (seed, step) (:mod:`proxdm.runtime.seeds`), so on the CPU a resumed run equals an
uninterrupted one to the last bit, and several processes give the weights of one up to rounding, but for dropout, whose
random numbers depend on how a batch is cut.
"""

from __future__ import annotations

import platform
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from proxdm._version import __version__
from proxdm.checkpoints import store
from proxdm.checkpoints.load import open_source
from proxdm.checkpoints.portable import describe_model, first_difference, write_config
from proxdm.checkpoints.store import Checkpoint, TrainingState
from proxdm.conditioning import Draws, make_draws
from proxdm.config import Config, ConfigError
from proxdm.data.images import ImageData
from proxdm.data.load import Source, load_data
from proxdm.errors import CheckpointError, NonFiniteError
from proxdm.fitting import fit_model_prior, held_images, in_words
from proxdm.losses import Objective, ObjectiveConfig, Phase
from proxdm.models import LearnedModel
from proxdm.networks import parameter_count
from proxdm.networks.embeddings import retold
from proxdm.priors import PriorError, save_prior
from proxdm.runtime.files import digest_of, lock
from proxdm.runtime.processes import deferred_signals, find_place
from proxdm.runtime.seeds import WEIGHTS, derived_seed
from proxdm.training.log import RunLog, draw_preview, preview_sampler
from proxdm.training.settings import RunRecord, Settings, describe_run
from proxdm.training.stepper import Stepper, learning_rate
from proxdm.training.validation import Validation

_SIGNAL_CADENCE = 10
"""On several GPUs the processes ask each other for signals every so many steps: asking makes the host wait."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended."""

    folder: Path  # The run
    checkpoint: Path  # Its last checkpoint
    step: int  # Optimiser steps taken since the beginning of the run
    seconds: float  # Time spent training since the beginning of the run
    signal: int | None = None  # The signal that ended it early (SIGINT 2, SIGTERM 15), or None
    last: dict[str, Any] | None = None  # The last line of the log; None if this call wrote none


def ingredients(
    config: Config, data: Source | None = None
) -> tuple[LearnedModel, Source, Draws, ObjectiveConfig, Settings]:
    """Return the model with the first weights of the seed, data, draws, objective and settings of a configuration."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(derived_seed(config.training.seed, WEIGHTS))
        model = config.model.build()
    sampler = repr(config.preview_sampler)
    drawn = config.data.flip, config.data.augment
    settings = Settings(config.optimiser, config.training, config.logging, *drawn, sampler)
    source = config.data if data is None else data
    return model, source, make_draws(config.conditioning, model.schedule), config.objective, settings


def start_from(model: LearnedModel, source: str | Path) -> None:
    """Give a model the weights of another of the same network; raise a ConfigError if it is of another.

    Of classes with other names nothing is taken over: each begins as "no class".
    """
    other = open_source(source).model
    state = other.network.state_dict()
    if other.classes != model.classes:
        state = retold(state, len(model.classes))
    if (problem := first_difference(state, model.network.state_dict(), str(source), "configuration")) is not None:
        raise ConfigError(f"--init {source} has another network than the run would: {problem}")
    model.network.load_state_dict(state)


def train_config(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    data: Source | None = None,
    predict: Objective | None = None,
    progress: bool = True,
    init: str | Path | None = None,
) -> TrainingResult:
    """Train the model of a configuration: :func:`train` of its :func:`ingredients`, whose arguments these are.

    `init` is a model whose weights it starts from, anything that :func:`proxdm.load` knows or one of the paper's files.
    """
    parts = ingredients(config, data)
    if init is not None and not resume:
        start_from(parts[0], init)
    return train(*parts, out, resume=resume, predict=predict, progress=progress, config=config)


def train(
    model: LearnedModel,
    data: Source,
    draws: Draws,
    objective: ObjectiveConfig,
    settings: Settings,
    out: str | Path,
    *,
    resume: bool = False,
    predict: Objective | None = None,
    progress: bool = True,
    config: Config | None = None,
) -> TrainingResult:
    """Train a model, or go on training it.

    Under `accelerate launch` or `torchrun` every process calls this; the first writes the files, and all of them must
    see the folder. torch's global random state is afterwards what it was before. The weights of a checkpoint go by the
    names that the network gives them: `network.load_state_dict(store.latest(Path(out)).read("ema-0.9999"))`.

    Args:
        model: A score or prox model around any network; trained in place, on the device of the settings, and in
            evaluation mode afterwards.
        data: Samples `(n, *)`: a tensor, an array, a `torch.utils.data.Dataset` of tensors or (tensor, label) pairs,
            the name of a data set or a path, as :func:`proxdm.data.load.load_data` takes them.
        draws: Where the network is trained, in t or (t, lam): :func:`proxdm.conditioning.make_draws`.
        objective: Loss and its phases.
        settings: Optimiser, length, batch, seed, averages, arithmetic, logging.
        out: Folder of the run; must be new or empty without `resume`.
        resume: Go on from the latest checkpoint; the model may have any weights, and gets those of the checkpoint.
        predict: What is predicted, and with what it is compared; None is that of model and objective.
        progress: Say what is done, with a progress bar where there is a terminal.
        config: Stands in the files of the run as its description; None describes the arguments.

    Returns:
        How it ended; after SIGINT, SIGTERM, SIGHUP or SIGUSR1 a checkpoint has been written and `signal` is set.

    Raises:
        OutputError: The folder holds a run already, or something else, or cannot be written; nothing was touched.
        CheckpointError: There is nothing to resume, or the checkpoint is damaged.
        ConfigError: The run was started with another configuration, or data, model and processes do not fit.
        DataError: The data are not there.
        NonFiniteError: Loss or gradient was not finite in `training.patience` steps in a row.
    """
    folder, place = Path(out), find_place(settings.training.device)
    if not resume:
        store.check_free(folder)
    elif config is not None:
        stored: Config = store.read_config(folder)
        # Where the samples are may change, and under which name, as long as they are the same: see `restore`.
        store.check_same_run(replace(stored, data=replace(stored.data, name=config.data.name)), config)
    whole = load_data(data)
    samples, held = whole.held_out(settings.training.validation)
    record = config or describe_run(model, whole, draws, objective, settings)
    del whole  # its memory is not needed beside that of the parts
    if resume and isinstance(record, RunRecord):
        store.check_same_run(store.read_config(folder, RunRecord), record)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([place.device] if place.device.type == "cuda" else []))
        stepper = Stepper(model, samples, draws, objective, settings, place, predict)
        trainer = Trainer(stepper, folder, record, progress=progress, held=held)
        place.wait()  # nobody may see the folder that the first process makes before having looked at what was there
        if place.is_main:
            if not resume:
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock(folder / store.LOCK_FILE, wait=False))
            store.clean(folder) if resume else store.create_run(folder, record)
        place.wait()
        if resume:
            trainer.restore()
        return trainer.run(stack.enter_context(deferred_signals()))


class Trainer:
    """The loop around a stepper; `record` is what the files of the run say of it."""

    def __init__(
        self,
        stepper: Stepper,
        folder: Path,
        record: Config | RunRecord,
        *,
        progress: bool,
        held: ImageData | None = None,
    ) -> None:
        self.stepper, self.folder, self.record = stepper, folder, record
        self.settings, self.place = stepper.settings, stepper.place
        self.progress = progress and self.place.is_main
        self.step = 0
        self.checkpoint: Checkpoint | None = None
        self.last: dict[str, Any] | None = None
        self._sampler = preview_sampler(stepper.model, self.settings, stepper.stream.data.shape)
        self._log: RunLog | None = None
        self._seconds_before = 0.0
        self._logged_step = 0
        self._due = False
        every, patience = self.settings.logging.checkpoint_every, self.settings.training.stop_after
        self.validation = Validation(stepper, held, every, patience)
        self.digest = digest_of({"samples": stepper.stream.data.images.cpu()})

    def restore(self) -> None:
        """Go back to the latest checkpoint of the run; to the beginning if it has none."""
        found, stepper, training = store.latest(self.folder), self.stepper, self.settings.training
        over = store.passed_over(self.folder)
        if found is None and over is not None:
            raise CheckpointError(
                f"the run {self.folder} has no whole checkpoint to go on from ({over}); copy it again, or remove these "
                "folders to begin anew"
            )
        if over is not None and self.place.is_main:
            _say(f"warning: {over}")
        if found is not None:
            if found.step > training.steps:
                raise ConfigError(
                    f"training.steps = {training.steps}, but {self.folder} has taken {found.step} steps already; set "
                    f"it to {found.step} or more"
                )
            try:
                stepper.model.network.load_state_dict(found.read("raw"))
                for decay in training.ema:
                    stepper.averages.load(decay, found.read(f"ema-{decay}"))
                stepper.load_optimizer_state(found.read("optimizer"))
            except (CheckpointError, RuntimeError, KeyError) as error:
                raise CheckpointError(
                    f"the checkpoint {found.path} cannot be resumed ({error}); remove that folder to go on from the "
                    "one before it"
                ) from error
            stepper.counters.copy_(torch.tensor(found.state.counters, dtype=stepper.counters.dtype))
            self.checkpoint, self.step, self._logged_step = found, found.step, found.step
            self._seconds_before = found.state.seconds
            self.validation.value, self.validation.best = found.state.validation, found.state.best
            self._check_data(found.state.data)
            # The phases of the loss stay where they were when the run was begun.
            horizon = found.state.horizon or store.read_config(self.folder, type(self.record)).training.steps
            stepper.horizon = horizon
            has_phases = stepper.objective.loss != "mse" or self.settings.optimiser.schedule == "cosine"
            if self.progress and horizon != training.steps and has_phases:
                _say(f"the phases of loss and learning rate stay as for {horizon:,} steps; the last one goes on")
        if self.place.is_main:
            write_config(self.folder, self.record)
            store.truncate_log(self.folder, self.step)

    def _check_data(self, before: str) -> None:
        """Say that the samples are others than before; refuse that where they have another name too."""
        if before in ("", self.digest):
            return
        store.check_same_run(store.read_config(self.folder, type(self.record)), self.record)
        if self.place.is_main:
            _say("warning: the samples are not those that the run was begun with")

    def run(self, signals: list[int]) -> TrainingResult:
        """Take the remaining steps, or as many as are taken before a signal comes."""
        total, number = self.settings.training.steps, 0
        self._started = self._logged_at = time.perf_counter()
        if self.place.is_main:
            self._log = RunLog(self.folder, self.settings.logging.tracker, self.record, self.step)
        if self.progress:
            self._introduce()
        try:
            hide = None if self.progress else True
            with tqdm(
                total=total, initial=self.step, desc=self.folder.name, unit="step", dynamic_ncols=True, disable=hide
            ) as bar:
                while self.step < total and not number and not self.validation.is_over(self.step):
                    self._one_step(bar)
                    number = self._signal(signals)
                if self.checkpoint is None or self.checkpoint.step != self.step:
                    self._save()
        finally:
            if self._log is not None:
                self._log.close()
        assert self.checkpoint is not None
        early = number if self.step < total else None
        if self.progress and (line := self.validation.words(self.step, self.folder / store.CHECKPOINTS)):
            _say(line)
        if self.place.is_main and not early and self.settings.logging.prior:
            self._fit_prior()
        self.place.wait()
        self.stepper.model.eval()
        return TrainingResult(self.folder, self.checkpoint.path, self.step, self._seconds(), early or None, self.last)

    def _introduce(self) -> None:
        """Say what is about to happen, on how many processes, and where to watch it."""
        model, data, world = self.stepper.model, self.stepper.stream.data, self.place.world
        parameters, share = parameter_count(model), self.settings.training.batch_size // world
        _say(
            f"{type(model).__name__} of {parameters:,} parameters, {len(data):,} samples; {world} "
            f"process{'es' * (world > 1)} x {share} samples ({self.place.device}); log in "
            f"{self.folder / store.LOG_FILE}"
        )

    def _one_step(self, bar: tqdm[Any]) -> None:
        logging, total = self.settings.logging, self.settings.training.steps
        phase = self.stepper.phase(self.step)
        self.stepper.step(self.step, phase)
        self.step += 1
        bar.update()
        ends = self.step == total
        if ends or self.step % logging.every == 0 or self.stepper.phase(self.step) != phase:
            self._write_line(phase, bar)
        elif self.place.device.type == "cpu":  # looking is free there
            self._check_finite()
        if logging.preview_every and (ends or self.step % logging.preview_every == 0):
            self._preview(bar)
        self._due = self._due or self.step % logging.checkpoint_every == 0
        # What was skipped may be the beginning of the end: then the checkpoint before stays the last good one.
        if ends or (self._due and not self.stepper.stumbling):
            self._save()

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _write_line(self, phase: Phase, bar: tqdm[Any]) -> None:
        self._check_finite()
        window, now = self.stepper.collect(), time.perf_counter()
        images, taken = self.settings.training.batch_size, window.steps > 0
        self.last = {
            "step": self.step,
            "images": self.step * images,
            "phase": phase.loss,
            "zeta": phase.zeta,
            "lr": learning_rate(self.settings.optimiser, phase, self.step - 1, self.stepper.horizon),
            "loss": window.loss if taken else None,
            "mse": window.mse if taken else None,
            "vanished": window.vanished if taken and phase.zeta is not None else None,
            "grad_norm": window.grad_norm if taken else None,
            "skipped": window.skipped,
            **({} if self.validation.value is None else {"validation": self.validation.value}),
            "images_per_s": round((self.step - self._logged_step) * images / (now - self._logged_at), 2),
            "seconds": round(self._seconds(), 3),
        }
        self._logged_step, self._logged_at = self.step, now
        if self._log is not None:
            self._log.write(self.last)
        if self.progress and bar.disable and taken:  # no terminal: a line is all there is to see
            said = f"{phase.loss} {window.loss:.4f}, {self._seconds():.0f} s"
            _say(f"step {self.step} of {self.settings.training.steps}: {said}")
        if taken:
            bar.set_postfix_str(f"{phase} {window.loss:.4f}", refresh=False)

    def _check_finite(self) -> None:
        window, training = self.stepper.look(), self.settings.training
        if window.longest < training.patience:
            return
        good = (
            f"the last good checkpoint is {self.checkpoint.path}" if self.checkpoint else "there is no checkpoint yet"
        )
        raise NonFiniteError(
            f"loss or gradient was not finite in {window.longest} steps in a row, from step {window.first} on (its "
            f"batch: seed {training.seed}, step {window.first}); {good}; start a new run with a lower optimiser.lr or "
            "a lower optimiser.clip"
        )

    def _preview(self, bar: tqdm[Any]) -> None:
        """Draw samples of the first average; a model that cannot sample yet is no reason to stop."""
        if self._log is None or self._sampler is None:
            return
        stepper, path = self.stepper, self.folder / "previews" / f"step-{self.step:08d}.png"
        try:
            with stepper.averages.in_use():
                shape = stepper.stream.data.shape
                pixels = draw_preview(stepper.model, self._sampler, self.settings, shape, path)
            self._log.picture(pixels, self.step)
        except NonFiniteError as error:
            bar.write(f"no preview at step {self.step}: {error}", file=sys.stderr)

    def _save(self) -> None:
        stepper, training, self._due = self.stepper, self.settings.training, False
        self.validation.take(self.step)
        state = TrainingState(
            step=self.step,
            seconds=round(self._seconds(), 3),
            skipped=stepper.look().skipped,
            counters=tuple(stepper.counters.tolist()),
            data=self.digest,
            validation=self.validation.value,
            best=self.validation.best,
            horizon=stepper.horizon,
            versions=f"proxdm {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        )
        self.checkpoint = Checkpoint(self.folder / store.CHECKPOINTS / f"step-{self.step:08d}", state)
        if self.place.is_main:
            weights = {f"ema-{decay}": stepper.averages.state(decay) for decay in training.ema}
            weights["raw"] = stepper.model.network.state_dict()
            optimizer, keep = stepper.optimizer_state(), self.settings.logging.keep
            described = describe_model(stepper.model, stepper.stream.data.shape)
            store.save_checkpoint(self.folder, self.record, state, weights, optimizer, keep=keep, model=described)

    def _fit_prior(self) -> None:
        """Fit the prior of the data, and find where the first average gains over it; no reason for a run to fail."""
        stepper, path = self.stepper, self.folder / store.PRIOR_FILE
        if path.is_file() and self.last is None:  # a finished run was resumed
            return
        stepper.model.eval()
        try:
            with stepper.averages.in_use():
                held = self.validation.held or held_images(getattr(self.record, "data", None))
                prior = fit_model_prior(stepper.model, stepper.stream.data, held=held)
            save_prior(prior, path, overwrite=True)
        except PriorError as error:
            _say(f"no prior: {error}")
            return
        if self.progress:
            _say(f"{path}: {in_words(prior)}")

    def _signal(self, signals: list[int]) -> int:
        """Return the signal that any process has received, the same answer in all of them; 0 if none."""
        asks = self.place.world == 1 or self.place.device.type == "cpu" or self.step % _SIGNAL_CADENCE == 0
        return self.place.largest(signals[0] if signals else 0) if asks else 0
