r"""One optimiser step: draw conditions, noise and data; accumulate gradients; clip; AdamW; averages.

The gradient of a step is that of the mean loss over the whole batch, however it is cut into micro-batches and
processes: every piece contributes its *sum* divided by the share of its process, and processes are averaged.

Nothing here makes the host wait for a GPU: sums, the finiteness of a step and its consequences stay on the device
until :meth:`Stepper.collect` is called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from proxdm.checkpoints.portable import model_config
from proxdm.conditioning import Conditions, Draws
from proxdm.config import ConfigError, ModelConfig, OptimiserConfig
from proxdm.data.batches import DataStream
from proxdm.data.images import ImageData
from proxdm.losses import Losses, Objective, ObjectiveConfig, Phase, losses, make_objective, matching_weight, phase_at
from proxdm.models import LearnedModel
from proxdm.pixels import to_model_range
from proxdm.runtime.processes import Place
from proxdm.runtime.seeds import CONDITIONS, DROPOUT, LABELS, NOISE, VALIDATION, derived_seed, step_generator
from proxdm.training.ema import WeightAverages
from proxdm.training.settings import Settings

VANISHED = 1e-3
"""Below this weight `exp(-MSE / zeta^2)` a sample no longer teaches proximal matching anything."""

VALIDATED = 2048
"""Samples that an error on held ones is the mean of."""

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_STEPS, _LOSS, _MSE, _VANISHED, _NORM, _SKIPPED, _IN_A_ROW, _LONGEST, _FIRST = range(9)


@dataclass(frozen=True)
class Window:
    """Means over the steps since the last collection."""

    steps: int  # Steps that were taken (those skipped are not among them)
    loss: float  # Mean loss
    mse: float  # Mean squared error of the prediction
    vanished: float  # Share of samples whose proximal-matching weight has vanished; 0 for other losses
    grad_norm: float  # Mean norm of the gradient, before clipping
    skipped: int  # Steps skipped since the beginning of the run, because loss or gradient was not finite
    longest: int  # The longest row of skipped steps, of those that end or go on in this window
    first: int  # Number of the step with which the last row of skipped steps began; meaningless if there is none


LEAST_RATE = 0.01
"""Share of the learning rate that `cosine` ends at, and stays at where a run is prolonged."""


def learning_rate(config: OptimiserConfig, phase: Phase, step: int, total: int) -> float:
    """Return the learning rate of an optimiser step of `total`, a pure function.

    That of the phase, times `(step + 1) / warmup` in the first `warmup` steps of the run, times what the schedule says.
    """
    rate = config.l1_lr if phase.loss == "l1" and config.l1_lr is not None else config.lr
    if config.schedule == "cosine":
        rate *= max(LEAST_RATE, (1 + math.cos(math.pi * min(1.0, (step + 0.5) / total))) / 2)
    elif config.schedule == "inverse-sqrt":
        rate *= max(1.0, (step + 1) / config.decay_from) ** -0.5
    return rate * min(1.0, (step + 1) / config.warmup) if config.warmup else rate


class Stepper:
    """Model, optimiser, averages and everything a step needs; `predict` None is that of model and objective.

    `counters`, `(9,)` on the device, are sums since the last collection, and the count of skipped steps. A ConfigError
    says that data and model differ in shape, that the draws do not fit the model, or that the processes cannot share
    the batch evenly.
    """

    def __init__(
        self,
        model: LearnedModel,
        data: ImageData,
        draws: Draws,
        objective: ObjectiveConfig,
        settings: Settings,
        place: Place,
        predict: Objective | None = None,
    ) -> None:
        training = settings.training
        known = model_config(model.config)
        if isinstance(known, ModelConfig) and tuple(data.shape) != tuple(known.shape):
            raise ConfigError(
                f"the data {data.name} have shape {tuple(data.shape)}, but model.shape = {known.shape}: set one "
                "to fit the other (data.pad, data.size, data.grey change the data)"
            )
        if model.classes and data.classes != model.classes:
            there = ", ".join(data.classes) or "none that are known"
            raise ConfigError(
                f"the model is told of the classes {', '.join(model.classes)}, and the data {data.name} have {there}; "
                "set data.labels, or name data of the same classes"
            )
        lam = draws.draw(1, torch.Generator().manual_seed(0)).lam
        if (lam is None) != (model.kind == "score"):
            raise ConfigError(
                f"the draws give {'t' if lam is None else '(t, lam)'}, which does not fit a {model.kind} model: score "
                "models are trained at t, prox models at the (t, lam) of a proximal sampler"
            )
        if training.batch_size % place.world:
            raise ConfigError(
                f"training.batch_size = {training.batch_size} cannot be shared evenly by {place.world} processes; "
                "take a multiple"
            )
        self.model = model.to(place.device)
        if training.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.draws, self.objective, self.settings, self.place = draws, objective, settings, place
        self.predict = predict or make_objective(model, objective)
        self._spread = place.spread(model)  # before the averages: it gives every process the weights of the first
        self.averages = WeightAverages(model.network, training.ema, warmup=training.ema_warmup)
        if training.compile:
            model.network.compile()
        self._trained = {name: p for name, p in model.network.named_parameters() if p.requires_grad}
        self.optimizer = _adamw(settings.optimiser, list(self._trained.values()))
        self.stream = DataStream(
            data, seed=training.seed, flip=settings.flip, device=place.device, augment=settings.augment
        )
        # Metal has no float64.
        wide = torch.float32 if place.device.type == "mps" else torch.float64
        self.counters = torch.zeros(9, dtype=wide, device=place.device)
        self.horizon = training.steps  # of the phases of the loss: as the run was begun, however long it becomes

    def phase(self, step: int) -> Phase:
        """Return the phase of optimiser step number `step`, from 0."""
        return phase_at(self.objective, step, self.horizon)

    def step(self, step: int, phase: Phase) -> None:
        """Take optimiser step number `step` (from 0), or skip it if loss or gradient is not finite."""
        self.model.train()
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.settings.optimiser, phase, step, self.horizon)
        self.optimizer.zero_grad(set_to_none=True)
        sums = self.place.sum(self._accumulate(step, phase))
        means = sums / self.settings.training.batch_size
        gradients = [p.grad for p in self._trained.values() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if (clip := self.settings.optimiser.clip) is not None:
            torch._foreach_mul_(gradients, (clip / norm.clamp(min=clip)))
        finite = torch.isfinite(norm) & torch.isfinite(means[0])
        self._count(step, finite, torch.cat([torch.ones_like(means[:1]), means, norm.to(means)[None]]))
        self._apply(finite, step)

    def _accumulate(self, step: int, phase: Phase) -> Tensor:
        """Leave the gradient of the whole batch in the parameters; return this process's sums (loss, MSE, vanished)."""
        training, place = self.settings.training, self.place
        share = training.batch_size // place.world
        x0 = self.stream.batch(step, training.batch_size, rank=place.rank, world_size=place.world)
        mine = slice(place.rank * share, (place.rank + 1) * share)
        drawn, noise = self._randomness(step, mine)
        labels = self._labels(step, mine)
        torch.manual_seed(derived_seed(training.seed, DROPOUT, step, place.rank))
        micro = min(training.micro_batch or share, share)
        sums = torch.zeros_like(self.counters[:3])
        for start in range(0, share, micro):
            rows = slice(start, start + micro)
            told = None if labels is None else labels[rows]
            last = start + micro >= share
            with nullcontext() if last or place.world == 1 else self._spread.no_sync():  # type: ignore[operator]
                found = self._losses(x0[rows], noise[:, rows], drawn[rows], told, phase)
                (found.loss.sum() / share).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([found.loss.detach().sum(), found.mse.sum(), _vanished(found.mse, phase)]).to(sums)
        return sums

    def _randomness(self, step: int, rows: slice) -> tuple[Conditions, Tensor]:
        """Return conditions and noise `(noises, rows, *shape)`: rows of what is drawn for the whole batch."""
        training, device = self.settings.training, self.place.device
        drawn = self.draws.draw(training.batch_size, step_generator(training.seed, CONDITIONS, step))[rows]
        generator = step_generator(training.seed, NOISE, step, device)
        shape = (self.predict.noises, training.batch_size, *self.stream.data.shape)
        return drawn, torch.randn(shape, generator=generator, device=device)[:, rows]

    def _labels(self, step: int, rows: slice) -> Tensor | None:
        """Return the classes of the batch, of which some are left out; None of a model that knows none."""
        training, place, classes = self.settings.training, self.place, len(self.model.classes)
        if not classes:
            return None
        labels = self.stream.labels(step, training.batch_size, rank=place.rank, world_size=place.world)
        assert labels is not None
        coins = torch.rand(training.batch_size, generator=step_generator(training.seed, LABELS, step))[rows]
        return torch.where((coins < training.label_dropout).to(place.device), classes, labels)

    def _losses(self, x0: Tensor, noise: Tensor, drawn: Conditions, labels: Tensor | None, phase: Phase) -> Losses:
        """Return the losses of some samples; `noise` is `(noises, *x0.shape)`."""
        # Schedules are computed in float64, on the host where the device has none.
        device = "cpu" if self.place.device.type == "mps" else self.place.device
        shown = [value.to(device, non_blocking=True) for value in (drawn.t, drawn.lam) if value is not None]
        return losses(*self.predict(partial(self._forward, labels=labels), x0, list(noise), *shown), phase)

    def _forward(self, x: Tensor, *conditions: Tensor, labels: Tensor | None) -> Tensor:
        """Return the raw output of the model, in autocast and in the wanted memory format."""
        training = self.settings.training
        if training.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.place.device.type, torch.bfloat16, enabled=training.bf16):
            out: Tensor = self._spread(x, *conditions, labels=labels)
        return out

    def _count(self, step: int, finite: Tensor, values: Tensor) -> None:
        counters, skipped = self.counters, (~finite).to(self.counters)
        counters[: len(values)] += torch.where(finite, values, torch.zeros_like(values))
        counters[_SKIPPED] += skipped
        counters[_IN_A_ROW] = (counters[_IN_A_ROW] + 1) * skipped
        counters[_LONGEST] = torch.maximum(counters[_LONGEST], counters[_IN_A_ROW])
        counters[_FIRST] = torch.where(counters[_IN_A_ROW] == 1, step, counters[_FIRST])

    def _apply(self, finite: Tensor, step: int) -> None:
        """Step the optimiser if the step is finite, and move the averages."""
        if self.optimizer.defaults["fused"]:
            # The fused kernel skips the step itself where it finds this flag: the host need not wait for it and look.
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif bool(finite):
            self.optimizer.step()
        self.averages.update(step)

    @torch.no_grad()
    def validate(self, held: ImageData, phase: Phase) -> float:
        """Return the mean squared error of the first average on held samples, at conditions that are always the same.

        About :data:`VALIDATED` of them: every sample as often as another, or of more some, evenly.
        """
        training, device, total, count = self.settings.training, self.place.device, 0.0, 0
        index = torch.arange(VALIDATED // len(held) * len(held)) % len(held)
        if len(held) > VALIDATED:
            index = torch.arange(VALIDATED) * len(held) // VALIDATED
        generator = step_generator(training.seed, VALIDATION, 0)
        self.model.eval()
        with self.averages.in_use():
            for rows in torch.split(index, min(training.batch_size, training.micro_batch or 256, 256)):
                x0 = to_model_range(held.images[rows].to(device))
                drawn = self.draws.draw(len(rows), generator)
                noise = torch.randn((self.predict.noises, *x0.shape), generator=generator).to(device)
                labels = held.labels[rows].to(device) if self.model.classes and held.labels is not None else None
                found = self._losses(x0, noise, drawn, labels, phase)
                total, count = total + float(found.mse.double().sum()), count + len(rows)
        return total / count

    def look(self) -> Window:
        """Return the means since the last :meth:`collect`. The host waits for the device here."""
        counters = self.counters.tolist()
        steps = round(counters[_STEPS])
        loss, mse, vanished, norm = (value / max(1, steps) for value in counters[_LOSS : _NORM + 1])
        skipped, _, longest, first = (round(value) for value in counters[_SKIPPED:])
        return Window(steps, loss, mse, vanished, norm, skipped, longest, first)

    @property
    def stumbling(self) -> bool:
        """Whether the last step was skipped. The host waits for the device here."""
        return bool(self.counters[_IN_A_ROW] > 0)

    def collect(self) -> Window:
        """Return the means since the last time, and start anew. The host waits for the device here."""
        window = self.look()
        self.counters[:_SKIPPED] = 0
        self.counters[_LONGEST] = self.counters[_IN_A_ROW]
        return window

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return AdamW's tensors, named `MOMENT.PARAMETER`; before the first step there are none."""
        return {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self._trained.items()
            for moment in _MOMENTS
            if parameter in self.optimizer.state
        }

    def load_optimizer_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Set AdamW's tensors to what :meth:`optimizer_state` gave."""
        state = {
            index: {moment: _laid_out_as(parameter, tensors[f"{moment}.{name}"]) for moment in _MOMENTS}
            for index, (name, parameter) in enumerate(self._trained.items())
            if f"step.{name}" in tensors
        }
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a copy of a moment in the memory layout of its parameter: the fused kernel takes both to have the same."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.ndim else value.clone()


def _vanished(mse: Tensor, phase: Phase) -> Tensor:
    """Return how many samples have a vanished proximal-matching weight; none for other losses."""
    return mse.new_zeros(()) if phase.zeta is None else (matching_weight(mse, phase.zeta) < VANISHED).sum().to(mse)


def _adamw(config: OptimiserConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.AdamW:
    def make(fused: bool | None) -> torch.optim.AdamW:
        return torch.optim.AdamW(parameters, config.lr, config.betas, config.eps, config.weight_decay, fused=fused)

    try:
        return make(fused=True)
    except RuntimeError:  # no fused kernel on this device
        return make(fused=None)
