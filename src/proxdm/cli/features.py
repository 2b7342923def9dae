"""`proxdm features`: feature extractors for Fréchet distances, made from the data themselves."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Fixed, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, Suppress, arg, subcommand

from proxdm.cli.stats import Pictures
from proxdm.data.known import Split
from proxdm.metrics.classifier import ClassifierConfig, accuracy, feature_module, load_labelled, train_classifier
from proxdm.metrics.features import InputForm, load_extractor, load_module, save_module, sides
from proxdm.metrics.statistics import check_target
from proxdm.runtime.files import check_folder
from proxdm.runtime.processes import choose_device
from proxdm.runtime.words import duration


@dataclass(frozen=True)
class Labelled(Pictures):
    """A data set with labels as options."""

    # A known data set with labels (digits, mnist, fashion-mnist, cifar10), or a folder or archive of pictures with one
    # sub-folder a class.
    name: Annotated[Positional[str], arg(metavar="DATASET")]
    split: Suppress[Fixed[Split]] = "train"


@dataclass(frozen=True)
class Train:
    """Train a small convolutional classifier and write its penultimate layer to a TorchScript file.

    The file says what it takes, what it was trained on and its test accuracy. Distances mean something only between
    features of the same file: statistics and results carry its SHA-256.
    """

    data: OmitArgPrefixes[Labelled]
    config: OmitArgPrefixes[ClassifierConfig]
    # The .pt file to write.
    out: Annotated[Path | None, arg(aliases=("-o",), help_behavior_hint="(default: features/DATASET.pt)")] = None
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps.
    overwrite: bool = False  # Replace what is there.


@dataclass(frozen=True)
class Info:
    """Say what a file of features takes, what it was trained on, and its SHA-256."""

    file: Positional[Path]  # A .pt or .pt2 file.


@dataclass(frozen=True)
class Features:
    """Features that fit the data, for `proxdm evaluate --features FILE` and `proxdm stats --features FILE`.

    For grey digits and clothes, on which the FID's Inception network says little, and for machines without its weights.
    Examples: `proxdm features train digits` needs no download; `proxdm features train pictures/ --size 32` takes a
    folder with one sub-folder a class.
    """

    command: OmitSubcommandPrefixes[Annotated[Train, subcommand("train")] | Annotated[Info, subcommand("info")]]


def run(options: Features, prog: str) -> int:
    """Run the verb and return the exit status."""
    command = options.command
    return info(command) if isinstance(command, Info) else train(command)


def train(options: Train) -> int:
    """Run `proxdm features train` and return the exit status."""
    path = options.out or Path("features", f"{Path(options.data.name).name}.pt")
    check_target(path, ".pt", overwrite=options.overwrite)
    device = choose_device(options.device)
    images, test = load_labelled(options.data)
    config = options.config.resolved(images.name, len(images))
    check_folder(path.parent, [path.name], overwrite=options.overwrite)
    start = time.perf_counter()
    network = train_classifier(images, config, device=device, progress=True)
    about = {
        "dataset": images.name,
        "preprocessing": images.preprocessing,
        "classes": list(images.classes),
        "images": len(images),
        "test_images": len(test),
        "test_accuracy": accuracy(network, test),
        **asdict(config),
    }
    form = InputForm(f"{images.name}-classifier", (-1.0, 1.0), images.shape[0], images.shape[1], about)
    save_module(feature_module(network), path, form)
    extractor = load_extractor(path, images.shape)
    print(
        f"{path}: {extractor.dim} features of {images.name}, {sides(images.shape)}, {len(images.classes)} classes; "
        f"test accuracy {about['test_accuracy']:.2%} of {len(test)} images; {config.steps} steps on {len(images)} "
        f"images, {duration(time.perf_counter() - start)}; SHA-256 {extractor.weights[:12]}..."
    )
    print(f"Measure a model with them: proxdm evaluate RUN --features {path}")
    print(f"Reference statistics: proxdm stats {options.data.name} --features {path} --out STATS.npz")
    return 0


def info(options: Info) -> int:
    """Run `proxdm features info` and return the exit status."""
    _, form = load_module(options.file)
    low, high = form.input_range
    size = "any size" if form.size is None else f"{form.size}x{form.size}"
    takes = f"channels: {form.channels}, {size}, values {low:g} to {high:g}"
    for key, value in {"name": form.name, "takes": takes, "sha256": form.sha256, **form.about}.items():
        print(f"{key:<16}{', '.join(map(str, value)) if isinstance(value, list) else value}")
    return 0
