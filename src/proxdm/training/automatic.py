"""A configuration for any pictures: shape and flips are read from them, network and length follow from a budget.

Sides: the largest power of two that half of the pictures have, at most 32 on a CPU and 64 on a GPU. Flips: unless the
mean picture differs from its mirror image by more than chance. The widest network of :data:`WIDTHS` that takes
:data:`LEAST_STEPS` steps in the budget by the time of its own first steps, or else the narrowest.

Weights: where a model in the box has such samples and at least as many parameters as that network, the training starts
from it (:func:`from_box`), for a short training from random weights learns little more than colours. Any other model
can be named, and its network is taken.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from proxdm.checkpoints.load import BOX, find, open_source
from proxdm.checkpoints.portable import model_config
from proxdm.config import Config, ConfigError, LoggingConfig, ModelConfig, OptimiserConfig, TrainingConfig
from proxdm.data.archives import is_archive
from proxdm.data.hugging_face import is_saved_dataset
from proxdm.data.images import ImageData
from proxdm.data.known import DATASETS
from proxdm.data.load import DataConfig, has_labels, load_data
from proxdm.data.pictures import open_pictures
from proxdm.errors import DataError
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.pixels import is_image_shape
from proxdm.presets import AUTO, NEW
from proxdm.runtime.processes import choose_device, find_place
from proxdm.runtime.words import duration
from proxdm.training.estimate import step_seconds
from proxdm.training.loop import ingredients
from proxdm.training.stepper import Stepper

WIDTHS = (24, 32, 48, 64, 96, 128)
LEAST_STEPS = 6_000
"""Steps that the time must allow for a wider network."""

FEWEST = 50
"""Steps of a training whatever the budget."""

SHORT = 2_000
"""Steps from random weights below which pictures are rough."""

LOOKED_AT = 200
"""Pictures of a folder that are looked at for their sizes, colours and mirror images."""

SIDES = (8, 16, 32, 64)
_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Chosen:
    """A configuration, and a line on every choice with the flag that changes it."""

    config: Config
    lines: tuple[str, ...]
    init: str | None = None  # The model whose weights the training starts from


def seconds_of(budget: str) -> float:
    """Return the seconds of a text such as `30min`, `8h`, `90s`; a ConfigError says what is wrong with others."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)", budget.strip())
    if match is None or (seconds := float(match[1]) * _UNITS[match[2]]) < 10:
        raise ConfigError(f"--budget = {budget!r} must be a time of at least 10s, such as 30min or 8h")
    return seconds


def configure(
    name: str, budget: str | None = None, size: int | None = None, *, labels: bool = False, init: str | None = None
) -> Chosen:
    """Return the configuration of a score model for some data.

    Args:
        name: A folder or archive of pictures, an array, or a known data set.
        budget: Time of the training, such as `30min`; by default 30 minutes on a CPU, 2 hours on a GPU.
        size: Side of the pictures; by default what they have.
        labels: Whether the model is told of the classes: of a known data set, or the sub-folders of a folder.
        init: A model to start from, which says the network; `none` are new weights. By default one in the box, where
            one fits.

    Raises:
        DataError: The data are not there or cannot be used.
        ConfigError: The budget is none, the size is too small, or the model to start from is none of such samples.
        CheckpointError: The model to start from cannot be read.
    """
    device = choose_device("auto")
    seconds = seconds_of(budget or ("2h" if device.type == "cuda" else "30min"))
    if size is not None and (size < 8 or size % 4):
        raise ConfigError(f"--size = {size} must be a multiple of 4, at least 8")
    named = None if init in (None, NEW) else model_of(str(init))
    most = 64 if device.type == "cuda" else 32
    data, seen, said = look(name, size, most, labels, None if named is None else named.shape)
    lines = [said]
    if labels:
        some = [*seen.classes[:12], "..."] if len(seen.classes) > 12 else seen.classes
        lines.append(f"classes: {len(seen.classes)}, {', '.join(some)}")
    elif seen.classes or has_labels(name):
        lines.append("classes: there are some, and the model is told of none (--labels)")
    if is_image_shape(seen.shape):
        mirror = mirrors(seen)
        data = replace(data, flip="random" if mirror else "none")
        why, other = ("look like", "none") if mirror else ("differ from", "random")
        lines.append(f"flips: {data.flip}, for they {why} their mirror images (--data.flip {other})")
    if named is None:
        config, taken = _widest(data, seen, seconds, device)
        if init is None and name not in list(DATASETS):
            init = from_box(config.model)
            named = None if init is None else model_of(init)
    elif named.shape != seen.shape:
        sides = ("x".join(map(str, shape)) for shape in (named.shape, seen.shape))
        raise ConfigError("--init {} is a model of samples of {}, and the data are {}".format(init, *sides))
    if named is not None:
        config = _started(data, seen, named, device)
        taken = _seconds_a_step(config, seen)
    config, more = _of_length(config, seconds, taken, device)
    if named is not None:
        lines.append(f"weights: those of {init} to begin with (--init {NEW} for new ones, --init MODEL for others)")
    elif config.training.steps < SHORT:
        more.append(
            "note: that is short; pictures will be rough. A larger budget, or a smaller --size, makes them better"
        )
    shown = (*lines, *more) if find_place(config.training.device).is_main else ()
    return Chosen(config, shown, None if init == NEW else init)


def model_of(source: str) -> ModelConfig:
    """Return the configuration of a score model to start from; a ConfigError says that it is none."""
    model = model_config(open_source(source).model.config)
    if not isinstance(model, ModelConfig) or model.kind != "score":
        raise ConfigError(f"--init {source} is no score model of proxdm, and of data a score model is trained")
    return model


def from_box(model: ModelConfig) -> str | None:
    """Return a model in the box with the samples and at least the parameters of a score model, if there is one."""
    box, least = {name: model_config(find(name).config) for name in BOX}, model.parameter_count()
    fit = [name for name, one in box.items() if (one.kind, one.shape) == ("score", model.shape)]
    fit = [name for name in fit if box[name].parameter_count() >= least]
    return min(fit, key=lambda name: len(box[name].classes), default=None)


def _of_length(config: Config, seconds: float, taken: float, device: torch.device) -> tuple[Config, list[str]]:
    """Return the configuration with the steps that fit into so many seconds, and lines on network and steps."""
    steps = max(FEWEST, math.floor(0.9 * seconds / taken / 10) * 10)
    config = replace(
        config,
        training=replace(config.training, steps=steps),
        optimiser=replace(config.optimiser, warmup=min(500, steps // 20)),
        logging=replace(config.logging, checkpoint_every=max(200, steps // 8), preview_every=max(200, steps // 4)),
    )
    about = f"about {duration(steps * taken)} on {device}"
    lines = [
        f"network: {config.model.network} (--budget, --model.network.width)",
        f"steps: {steps:,} of {config.training.batch_size} samples, {about} (--budget 2h, --training.steps)",
    ]
    return config, lines


def look(
    name: str, size: int | None, most: int, labels: bool = False, like: tuple[int, ...] | None = None
) -> tuple[DataConfig, ImageData, str]:
    """Return how to read data, some of them as they will be read (`like` a shape), and what was seen in words."""
    path = Path(name)
    if name in list(DATASETS) or is_saved_dataset(path) or not (path.is_dir() or is_archive(path)):
        config = DataConfig(name, size=size, labels=labels)
        data = load_data(config)
        return config, data, f"data: {len(data):,} samples of {'x'.join(map(str, data.shape))}"
    with open_pictures(path) as pictures:
        count = len(pictures.names)
        if count < 20:
            raise DataError(f"{name} has {count} pictures; 20 are the least to train on, and some hundreds are better")
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:LOOKED_AT].tolist()
        arrays = [found for _, found in pictures.decoded(sorted(order)) if not isinstance(found, DataError)]
    broken = len(order) - len(arrays)
    if not arrays:
        raise DataError(f"{name}: none of {len(order)} pictures that were looked at can be decoded")
    shorter = sorted(min(found.shape[1:]) for found in arrays)
    middle = shorter[(len(shorter) - 1) // 2]
    if like is not None:
        side, grey = size or like[-1], like[0] == 1
    else:
        side = size or max((s for s in SIDES if s <= min(middle, most)), default=SIDES[0])
        grey = all(found.shape[0] == 1 or bool((found == found[:1]).all()) for found in arrays)
    config = DataConfig(name, size=side, grey=grey, skip_broken=broken > 0, labels=labels)
    some = load_data(replace(config, limit=min(count, 2 * LOOKED_AT)))
    words = f"data: {count:,} pictures, shorter sides {shorter[0]} to {shorter[-1]}"
    if broken:
        words += f", {broken} of {len(order)} looked at are broken and left out"
    return config, some, f"{words}; {'grey' if grey else 'colour'}, cut to squares of {side} (--size)"


def mirrors(data: ImageData) -> bool:
    """Return whether the mean picture is its mirror image up to chance: a random half against the mirrored other."""
    flat = data.images[:5_000].float()
    half = len(flat) // 2
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
    first, second = flat[order[:half]].mean(0), flat[order[half:]].mean(0)
    chance = (first - second).square().mean()
    mirrored = (first - second.flip(-1)).square().mean()
    return bool(mirrored <= 3 * chance)


def _widest(data: DataConfig, seen: ImageData, seconds: float, device: torch.device) -> tuple[Config, float]:
    """Return the configuration with the widest network that the seconds allow, and the time of its step."""
    for width in WIDTHS:
        model = ModelConfig("score", seen.shape, _network(seen.shape, width, device))
        config = _config(data, seen, model, device, lr=1e-3 if width <= 48 else 5e-4)
        taken = _seconds_a_step(config, seen)
        if width > WIDTHS[0] and seconds / taken < LEAST_STEPS:
            break
        widest = config, taken
    return widest


def _started(data: DataConfig, seen: ImageData, model: ModelConfig, device: torch.device) -> Config:
    """Return the configuration that goes on from a model: its network, a lower learning rate."""
    network: Any = model.network
    if getattr(network, "classes", 0):
        model = replace(model, classes=(), network=replace(network, classes=0))
    return _config(data, seen, model, device, lr=3e-4, batch_size=128 if device.type == "cuda" else 32)


def _network(shape: tuple[int, ...], width: int, device: torch.device) -> UNetConfig | MLPConfig:
    """Return the network of a width for samples of a shape."""
    if is_image_shape(shape):
        patch = 2 if min(shape[1:]) >= 32 and device.type != "cuda" else 1
        inner = min(shape[1:]) // patch
        levels = max(1, min(3, int(math.log2(max(inner, 4))) - 1))
        while any(side % (patch * 2 ** (levels - 1)) for side in shape[1:]):
            levels -= 1
        return UNetConfig(shape[0], width, (1, 2, 2)[:levels], (levels - 1,), 1, 0.05, patch=patch)
    if len(shape) == 1:
        return MLPConfig(shape[0], 4 * width, 4, frequencies=5 if shape[0] <= 8 else 0)
    raise ConfigError(f"samples of shape {shape} are neither pictures nor points; write a preset for them")


def _config(
    data: DataConfig, seen: ImageData, model: ModelConfig, device: torch.device, *, lr: float, batch_size: int = 0
) -> Config:
    """Return the configuration of a model, of the classes of the data if they are told of."""
    cuda, image = device.type == "cuda", is_image_shape(seen.shape)
    training = TrainingConfig(
        LEAST_STEPS,
        batch_size or (128 if cuda else 64),
        ema=(0.999,),
        ema_warmup=True,
        channels_last=image,
        bf16=cuda,
    )
    config = Config(
        preset=AUTO,
        data=data,
        model=model,
        optimiser=OptimiserConfig(lr, None, 200, 1.0),
        training=training,
        logging=LoggingConfig(50, 1_000, 2, 1_000, 36),
    )
    return config.of_classes(seen.classes) if data.labels else config


def _seconds_a_step(config: Config, data: ImageData) -> float:
    """Return the time of a step, by a few of them."""
    model, _, draws, objective, settings = ingredients(config)
    place = find_place(config.training.device)
    seconds = step_seconds(Stepper(model, data, draws, objective, settings, place))[0]
    return max(1, place.largest(round(1e5 * seconds))) / 1e5  # all processes must come to the same configuration
