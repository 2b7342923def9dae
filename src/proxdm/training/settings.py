"""How to train, and what a run says of itself in `config.json`."""

from __future__ import annotations

from dataclasses import dataclass, field, is_dataclass

from proxdm.conditioning import Draws
from proxdm.config import LoggingConfig, OptimiserConfig, TrainingConfig
from proxdm.data.images import ImageData
from proxdm.data.load import Flip
from proxdm.losses import ObjectiveConfig
from proxdm.models import LearnedModel
from proxdm.networks import parameter_count


@dataclass(frozen=True)
class Settings:
    """How to train."""

    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)  # AdamW, learning rates, clipping.
    # Length, batch, seed, averages, arithmetic, device.
    training: TrainingConfig = field(default_factory=TrainingConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)  # What is written, and how often.
    flip: Flip = "none"  # Horizontal flips of the data.
    augment: tuple[str, ...] = ()  # Transforms of torchvision (:mod:`proxdm.data.batches`).
    # Sampler of the previews; None is `ode-euler` for score models and `prox-hybrid` for prox models.
    sampler: str | None = None


@dataclass(frozen=True)
class RunRecord(Settings):
    """What `config.json` says of a run not made from a `Config`: settings, objective, and the rest in words."""

    model: str = ""  # Classes of model and network, number of parameters, forward process
    data: str = ""  # Name, number and shape of the samples
    draws: str = ""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


def describe_run(
    model: LearnedModel, data: ImageData, draws: Draws, objective: ObjectiveConfig, settings: Settings
) -> RunRecord:
    """Return the record of a run; a run is resumed only where the records agree in what alters the weights."""
    network, count = type(model.network), parameter_count(model)
    meaning = f"{model.kind} model ({model.parametrisation.name})"
    return RunRecord(
        **vars(settings),
        model=f"{meaning} of {network.__module__}.{network.__qualname__}, {count} parameters, {model.schedule!r}",
        data=f"{data.name}: {len(data)} of {'x'.join(map(str, data.shape))}",
        draws=repr(draws) if is_dataclass(draws) else type(draws).__name__,
        objective=objective,
    )
