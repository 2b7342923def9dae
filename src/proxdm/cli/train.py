"""`proxdm train`: train a model from a preset, with any field of its configuration as a flag."""

from __future__ import annotations

import json
import signal
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import torch
import tyro

from proxdm.checkpoints import store
from proxdm.checkpoints.load import find, remarks
from proxdm.cli import parse
from proxdm.cli.options import speaker
from proxdm.config import Config, ConfigError, overlay, to_json
from proxdm.data import DataError, ImageData, load_data
from proxdm.data.known import DATASETS
from proxdm.data.load import load_labels
from proxdm.errors import did_you_mean, one_line
from proxdm.presets import AUTO, NEW, PRESETS, get_preset
from proxdm.runtime.processes import find_place, leave_processes
from proxdm.runtime.registry import IMPORTED
from proxdm.runtime.words import duration

USAGE = """usage: {prog} DATA|PRESET [--budget 30min] [--size 32] [--labels] [--out RUN] [--resume] [--config FILE]
       [--init MODEL] [--dry-run] [--any.config.field VALUE]

Train a model. DATA is a folder or archive of pictures, an array, or a known data set: shape and flips are read from it,
the network and the number of steps follow from the budget. Of a PRESET the configuration is the preset's. The values of
FILE (JSON, TOML or YAML by its ending) take their place, and those of flags theirs. `{prog} DATA|PRESET --help` lists
every field with its value.
Several processes: `accelerate launch -m proxdm train` or `torchrun -m proxdm train` (on CPUs the latter); the first
line that a run prints says how many there are.

presets:
  {presets}

examples:
  {prog} pictures/ --budget 1h                  a folder of pictures; then: proxdm sample runs/pictures
  {prog} digits-prox-hybrid                     minutes on a laptop, needs no download
  {prog} pictures/ --init MODEL                 go on from a model: a run, a file, a name in the box
  {prog} pictures/ --labels                     one sub-folder a class; then: proxdm sample ... --class NAME
  {prog} digits-prox-hybrid --dry-run           what it would do, and how long it would take
  {prog} cifar10-score --training.bf16 --training.compile --out runs/fast
  {prog} cifar10-score --out runs/fast --resume"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What decides which values the configuration has by default."""

    out: Path | None = None  # Folder of the run.
    resume: bool = False  # Go on from the latest checkpoint of the run, with its configuration.
    budget: str | None = None  # Time of a training on DATA, such as 30min or 8h.
    size: int | None = None  # Side of the pictures of DATA.
    labels: bool = False  # Tell the model of classes: those of a known data set, or the sub-folders of a folder.
    # A model whose weights the training starts from: a run, a file, a .pth of the paper, a name in the box. Of DATA its
    # network is taken, and one in the box is the default where it fits; `none` are new weights.
    init: str | None = None
    # JSON, TOML or YAML file with values in place of the preset's; it need not have all of them.
    file: Annotated[Path | None, tyro.conf.arg(name="config", metavar="FILE")] = None


@dataclass(frozen=True, kw_only=True)
class Train(Request):
    """Train a model.

    The values shown are those of the preset (with --resume, of the run; with --config, of the file where it has them).
    """

    config: Annotated[Config, tyro.conf.arg(name="")]  # The resolved configuration.
    out: Path  # Folder of the run.
    dry_run: bool = False  # Show the configuration, its memory and its time, from a few real steps; nothing is written.


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the verb and return the exit status: 0, or 128 and the number of the signal that ended it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(prog=prog, presets="\n  ".join(PRESETS)), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    options = parse_request(arguments, prog)
    return dry_run(options) if options.dry_run else run(options, f"{prog} {arguments[0]}")


def parse_request(arguments: Sequence[str], prog: str) -> Train:
    """Return what the arguments ask for: preset, then file, then flags."""
    name, flags = arguments[0], list(arguments[1:])
    if name.startswith("-"):
        raise ConfigError(
            f"name the data or the preset before {name}: {prog} DATA|PRESET ...; the presets are {', '.join(PRESETS)}"
        )
    command = f"{prog} {name}"
    early, is_data = parse(Request, flags, command, partly=True), is_data_name(name)
    init = None if early.init == NEW else early.init
    out = early.out or Path("runs", Path(name).resolve().name if is_data else name)
    if is_data and not early.resume:
        from proxdm.training.automatic import configure

        _check_flags(flags, command)
        chosen = configure(name, early.budget, early.size, labels=early.labels, init=early.init)
        for line in chosen.lines:
            speaker(prog)(line)
        base, init = chosen.config, chosen.init
    elif (early.budget or early.size) and not is_data:
        preset_of(name)  # what is neither data nor a preset is said first
        raise ConfigError(f"--budget and --size are for data; the preset {name} says its steps: --training.steps")
    else:
        base = store.read_config(out) if early.resume else preset_of(name)
        if early.labels and not early.resume:
            told = parse(Train, flags, command, default=Train(config=base, out=out), partly=True).config
            base = base.of_classes(load_labels(told.data).names)
    if early.resume and base.preset != (AUTO if is_data else name):
        raise ConfigError(f"{out} is a run of the preset {base.preset!r}, not of {name!r}; name that one")
    if early.file is not None:
        base = overlay(base, _read_values(early.file))
    base = replace(base, imports=tuple(dict.fromkeys((*base.imports, *IMPORTED))))
    options = parse(Train, flags, command, default=Train(config=base, out=out))
    if early.init is None and init is not None and options.config.model != base.model:
        speaker(command)(f"weights: new ones after all, for another network is asked for than {init}'s")
        init = None
    return replace(options, init=init)


def is_data_name(name: str) -> bool:
    """Return whether an argument names data rather than a preset."""
    return name not in PRESETS and (Path(name).exists() or name in DATASETS)


def preset_of(name: str) -> Config:
    """Return the preset of a name; a ConfigError says that it is neither one nor data."""
    if name in PRESETS:
        return get_preset(name)
    raise ConfigError(
        f"{name!r} is neither data (a folder, archive, array or known set) nor a preset"
        f"{did_you_mean(name, [*PRESETS, *DATASETS])}; the presets are {', '.join(PRESETS)}, and an own one is made "
        "known by --import MODULE"
    )


def _check_flags(flags: list[str], prog: str) -> None:
    """Raise what is wrong with the names of flags before a network is chosen, which takes its time.

    Whether it will be a U-Net or an MLP is not known yet: what one of them takes is let through.
    """
    if any(flag in ("-h", "--help") for flag in flags):
        return
    errors = []
    for preset in ("digits-score", "dino-score"):
        try:
            parse(Train, flags, prog, default=Train(config=get_preset(preset), out=Path("out")))
            return
        except ValueError as error:
            errors.append(error)
    if all("unrecognized" in str(error) for error in errors):
        raise errors[0]


def _read_values(path: Path) -> dict[str, object]:
    """Return the values of a file: TOML or YAML by its ending, else JSON."""
    import yaml

    languages: dict[str, tuple[str, Callable[[str], Any]]] = {
        ".toml": ("TOML", tomllib.loads),
        ".yaml": ("YAML", yaml.safe_load),
        ".yml": ("YAML", yaml.safe_load),
    }
    kind, read = languages.get(path.suffix.lower(), ("JSON", json.loads))
    try:
        content = read(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not {kind}: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(f'{path} must hold an object, such as {{"training": {{"steps": 1000}}}}')
    return content


def run(options: Train, command: str) -> int:
    """Train, say where things are, and return the exit status."""
    from proxdm.training import train_config

    result = train_config(options.config, options.out, resume=options.resume, init=options.init)
    is_main = leave_processes()
    if result.signal is not None:
        if is_main:
            print(
                f"{signal.Signals(result.signal).name} at step {result.step} of {options.config.training.steps}; wrote "
                f"{result.checkpoint}. Go on with: {command} --out {quote(str(options.out))} --resume",
                file=sys.stderr,
            )
        return 128 + result.signal
    if is_main:
        for line in remarks(find(options.out)):
            print(line, file=sys.stderr)
        print(f"{result.step} steps, {duration(result.seconds)}; the model is in {result.checkpoint}")
        print(f"Sample from it with: proxdm sample {quote(str(options.out))}")
    return 0


def dry_run(options: Train) -> int:
    """Print the resolved configuration and what it needs; write nothing. Status 2 if the data cannot be used."""
    from proxdm.training import ingredients
    from proxdm.training.estimate import estimate
    from proxdm.training.stepper import Stepper

    config, status = options.config, 0
    print(to_json(config), end="", flush=True)
    model, source, draws, objective, settings = ingredients(config)
    try:
        data = load_data(source)
        words = f"{len(data):,} samples of {'x'.join(map(str, data.shape))}"
    except DataError as error:
        data = ImageData(torch.zeros(1, *config.model.shape), "zeros")
        known = config.data.name in DATASETS  # what is yet to be downloaded is no fault
        words, status = f"{'missing' if known else 'cannot be used'}: {error}", 0 if known else 2
    rows = {
        "run": f"{options.out} ({'resume' if options.resume else 'new'})",
        "data": words,
        **estimate(Stepper(model, data, draws, objective, settings, find_place(config.training.device))),
    }
    print("\n".join(f"{key:<12}{value}" for key, value in rows.items()))
    return status
