"""`proxdm features`: feature extractors for Fréchet distances, made from the data themselves."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from proxdm.cli import parse
from proxdm.data.load import DataConfig, Flip
from proxdm.errors import OutputError, did_you_mean
from proxdm.metrics.classifier import (
    EPOCHS,
    MOST_STEPS,
    ClassifierConfig,
    about,
    accuracy,
    default_flip,
    feature_module,
    load_labelled,
    train_classifier,
)
from proxdm.metrics.features import InputForm, load_extractor, load_module, save_module
from proxdm.runtime.device import choose_device
from proxdm.runtime.files import check_folder
from proxdm.runtime.words import duration

USAGE = """usage: {prog} train DATASET [--out FILE.pt] [--steps N] [--seed S] ...
       {prog} info FILE

Features that fit the data, for `proxdm evaluate --features FILE` and `proxdm stats --features FILE`: grey digits and
clothes, on which the FID's Inception network says little, and machines without its weights.

sub-commands:
  train  train a small classifier in minutes and keep its penultimate layer; `{prog} train --help`
  info   what a file of features holds

examples:
  {prog} train digits                 needs no download
  {prog} train fashion-mnist --out features/fashion-mnist.pt
  {prog} train pictures/ --size 32    a folder with one sub-folder a class"""


@dataclass(frozen=True)
class Train:
    """Train a small convolutional classifier and write its penultimate layer to a TorchScript file.

    The file says what it takes, what it was trained on and its test accuracy. Distances mean something only between
    features of the same file: statistics and results carry its SHA-256.
    """

    dataset: Positional[str]
    """A known data set with labels (digits, mnist, fashion-mnist, cifar10), or a folder or archive of pictures with one
    sub-folder a class."""

    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: features/DATASET.pt)")] = None
    """The .pt file to write."""

    steps: Annotated[int | None, arg(help_behavior_hint=f"(default: {EPOCHS} epochs, {MOST_STEPS} steps at most)")] = (
        None
    )
    """Optimiser steps."""

    batch_size: int = ClassifierConfig.batch_size
    """Images of a step."""

    lr: float = ClassifierConfig.lr
    """Largest learning rate, after a warm-up and before a cosine."""

    seed: int = 0
    """Seed of weights, order and shifts; on a CPU the same seed and number of threads give the same file."""

    flip: Annotated[Flip | None, arg(help_behavior_hint="(default: random for fashion-mnist and cifar10)")] = None
    """Horizontal flips in training: none, random or frozen."""

    root: str | None = None
    """Folder that holds the data set; by default PROXDM_DATA or ~/.cache/proxdm/data."""

    size: int | None = None
    """Cut pictures to their central square and resize them to this; by default they stay as large as they are."""

    pad: int | None = None
    """Pixels of black border; by default 2 for mnist and fashion-mnist, else 0."""

    grey: bool = False
    """One channel instead of three."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    bf16: bool = False
    """Train in bfloat16; features are taken in float32 all the same."""

    overwrite: bool = False
    """Replace what is there."""


@dataclass(frozen=True)
class Info:
    """Say what a file of features takes, what it was trained on, and its SHA-256."""

    file: Positional[Path]
    """A .pt or .pt2 file."""


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status.

    Args:
        arguments: What stands after the verb.
        prog: Name for help and messages.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(prog=prog), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise ValueError(f"unknown sub-command {name!r}{hint}; {prog} knows {', '.join(COMMANDS)}: see {prog} --help")
    return COMMANDS[name](rest, f"{prog} {name}")


def train(arguments: Sequence[str], prog: str) -> int:
    """Run `proxdm features train` and return the exit status.

    Args:
        arguments: What stands after the sub-command.
        prog: Name for help and messages.
    """
    options = parse(Train, arguments, prog)
    path = options.out or Path("features", f"{Path(options.dataset).name}.pt")
    _check_target(path, overwrite=options.overwrite)
    config = ClassifierConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=options.seed,
        flip=options.flip or default_flip(options.dataset),
        bf16=options.bf16,
    )
    device = choose_device(options.device)
    data, test = load_labelled(
        DataConfig(options.dataset, root=options.root, size=options.size, pad=options.pad, grey=options.grey)
    )
    check_folder(path.parent, [path.name], overwrite=options.overwrite)
    start = time.perf_counter()
    network = train_classifier(data, config, device=device, progress=True)
    found, seconds = accuracy(network, test), time.perf_counter() - start
    channels, side, _ = data.images.shape
    form = InputForm(f"{data.images.name}-classifier", (-1.0, 1.0), channels, side)
    save_module(feature_module(network), path, form, about=about(data, test, config, found))
    extractor = load_extractor(path, data.images.shape)
    print(
        f"{path}: {extractor.dim} features of {data.images.name}, {side}x{side}, {'grey' if channels == 1 else 'RGB'}; "
        f"test accuracy {found:.2%} of {len(test)} images, {len(data.names)} classes; {config.steps_for(len(data))} "
        f"steps on {len(data)} images, {duration(seconds)}; SHA-256 {extractor.weights[:12]}..."
    )
    print(f"Measure a model with them: proxdm evaluate RUN --features {path}")
    print(f"Reference statistics: proxdm stats {options.dataset} --features {path} --out STATS.npz")
    return 0


def info(arguments: Sequence[str], prog: str) -> int:
    """Run `proxdm features info` and return the exit status.

    Args:
        arguments: What stands after the sub-command.
        prog: Name for help and messages.
    """
    options = parse(Info, arguments, prog)
    found = load_module(options.file)
    low, high = found.form.input_range
    size = "any size" if found.form.size is None else f"{found.form.size}x{found.form.size}"
    rows = {
        "name": found.form.name,
        "takes": f"{found.form.channels} channel{'s' * (found.form.channels > 1)}, {size}, values {low:g} to {high:g}",
        "sha256": found.digest,
        **{key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in found.about.items()},
    }
    width = max(map(len, rows)) + 2
    print("\n".join(f"{key:<{width}}{value}" for key, value in rows.items()))
    return 0


COMMANDS: Mapping[str, Callable[[Sequence[str], str], int]] = {"train": train, "info": info}
"""The sub-commands."""


def _check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse names and files that would be refused after the work.

    Raises:
        OutputError: The name does not end in `.pt`, or there is something already.
    """
    if path.suffix != ".pt":
        raise OutputError(
            f"features are kept in TorchScript .pt files, got {path}; name it {path.stem or 'features'}.pt"
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder, not a file; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already; choose another name, or replace it with --overwrite")
