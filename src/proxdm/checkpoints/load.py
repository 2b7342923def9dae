"""One call from a name to a model: a run, a checkpoint, a model file or folder, or a repository on the hub.

Nothing here unpickles anything. The paper's `.pth` files need to be told what they hold and have a call of their own,
:func:`load_official`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from proxdm.checkpoints import hub
from proxdm.checkpoints.official import build_official
from proxdm.checkpoints.portable import (
    CONFIG_FILE,
    MODEL_FILE,
    ModelFile,
    build_model,
    model_config,
    read_model_file,
)
from proxdm.checkpoints.store import CHECKPOINTS, OPTIMIZER_FILE, STATE_FILE, latest
from proxdm.config import Config, ModelConfig
from proxdm.config.codec import from_json
from proxdm.errors import CheckpointError, ProxdmError
from proxdm.models import LearnedModel
from proxdm.presets import get_preset
from proxdm.runtime.device import choose_device
from proxdm.samplers import SAMPLERS, Sampler, find_sampler

Kind = Literal["run", "checkpoint", "folder", "file", "hub"]

RAW = "raw"
"""Name of the weights themselves, as opposed to their moving averages (`ema-0.9999`)."""

OFFICIAL_WEIGHTS = "ema0.9999"
"""The weight set of the paper's files that its results were made with."""

USUAL_STEPS = 20

_PICKLED = (".pth", ".pt", ".ckpt", ".pkl", ".bin")


@dataclass(frozen=True)
class Found:
    """A model that has been found but not read.

    Attributes:
        source: The name it was asked for by.
        kind: What stands behind that name.
        file: The weights that were chosen.
        config: Configuration of the model.
        weights: Name of the chosen weight set.
        weight_sets: Names of all weight sets there.
        checkpoint: Folder of the training checkpoint, of runs and checkpoints.
    """

    source: str
    kind: Kind
    file: ModelFile
    config: Config | ModelConfig
    weights: str
    weight_sets: tuple[str, ...]
    checkpoint: Path | None = None


def load(source: str | Path, weights: str | None = None, *, device: str | torch.device = "cpu") -> LearnedModel:
    """Return a trained model in evaluation mode, its configuration in `model.config`.

    Args:
        source: A run folder (its latest complete checkpoint is taken), a checkpoint folder, a `.safetensors` file, a
            folder with `model.safetensors`, or a repository on the Hugging Face Hub, `owner/name[@revision]`.
        weights: Weight set: `ema-0.9999` (a moving average), `raw` (the weights themselves). By default the first
            moving average there is, else the weights themselves.
        device: Where it goes; `auto` is a GPU where there is one.

    Raises:
        CheckpointError: There is nothing there, it is no model or a damaged one, it was written by a newer version, or
            it has no such weight set; the message says what was looked for, or lists what there is.
        HubError: The repository cannot be had.
    """
    return read(find(source, weights)).to(choose_device(device))


def load_official(
    path: str | Path, preset: str | None = None, weights: str = OFFICIAL_WEIGHTS, *, device: str | torch.device = "cpu"
) -> LearnedModel:
    """Return a model with the weights of one of the paper's `.pth` files (arXiv 2507.08956), in evaluation mode.

    Args:
        path: The file.
        preset: The preset it belongs to, e.g. `cifar10-prox-hybrid`; may be left out where the file still has the
            name that the authors gave it (:data:`proxdm.checkpoints.hub.OFFICIAL_MODELS`).
        weights: Weight set: `ema0.9999` or `model`.
        device: Where it goes; `auto` is a GPU where there is one.

    Raises:
        CheckpointError: The file is missing, damaged, or does not hold the network of the preset.
        ConfigError: There is no such preset.
    """
    config = official_config(Path(path), preset)
    model = build_official(path, config.model, weights)
    model.config = config
    return model.to(choose_device(device))


def official_config(path: Path, preset: str | None) -> Config:
    """Return the preset of an official file: the given one, or the one that its name stands for.

    Raises:
        CheckpointError: None is given, and the name is not one of the authors'.
        ConfigError: There is no such preset.
    """
    name = preset or hub.preset_of_official(path)
    if name is None:
        raise CheckpointError(
            f"{path} may hold any network: say which with preset=, e.g. preset='cifar10-prox-hybrid' (--preset on the "
            "command line)"
        )
    return get_preset(name)


@dataclass(frozen=True)
class Opened:
    """A model, and which of its weights these are.

    Attributes:
        model: In evaluation mode, with its configuration.
        weights: Name of the weight set.
    """

    model: LearnedModel
    weights: str


def open_source(
    source: str | Path,
    weights: str | None = None,
    preset: str | None = None,
    *,
    device: str | torch.device = "cpu",
) -> Opened:
    """Return the model of any source, the paper's `.pth` files included: what the command line takes.

    Args:
        source: As :func:`load`, or a `.pth` file.
        weights: Weight set; None is the usual one.
        preset: Of `.pth` files, as in :func:`load_official`.
        device: Where it goes; `auto` is a GPU where there is one.

    Raises:
        CheckpointError: As :func:`load` and :func:`load_official`; or a preset is given for another kind of source.
        HubError: The repository cannot be had.
    """
    if is_official(source):
        chosen = weights or OFFICIAL_WEIGHTS
        return Opened(load_official(source, preset, chosen, device=device), chosen)
    if preset is not None:
        raise CheckpointError(
            f"preset = {preset!r} is for the paper's .pth files; {source} has a configuration of its own: leave it out"
        )
    found = find(source, weights)
    return Opened(read(found).to(choose_device(device)), found.weights)


def is_official(source: str | Path) -> bool:
    """Return whether a source is a pickled PyTorch file, as the paper's are."""
    return Path(source).suffix == ".pth"


def find(source: str | Path, weights: str | None = None) -> Found:
    """Return where a model is and what it says of itself; its weights stay on disk.

    Args:
        source: As :func:`load`.
        weights: Weight set; None is the usual one.

    Raises:
        CheckpointError: As :func:`load`.
        HubError: The repository cannot be had.
    """
    path, name = Path(source), str(source)
    if path.is_dir():
        return _find_in_folder(name, path, weights)
    if path.suffix in _PICKLED:
        raise CheckpointError(
            f"{path} is a pickled PyTorch file, which is not read here; if it is one of the paper's, use "
            "proxdm.load_official(path, preset=...), or convert it: proxdm convert"
        )
    if path.is_file():
        return _find_file(name, "file", path, weights)
    if (repo := hub.parse_repo_id(name)) is not None:
        return _find_on_hub(name, repo, weights)
    raise CheckpointError(
        f"there is no model {name!r}: looked for a run folder, a checkpoint folder or a .safetensors file of that "
        "name, and it is not the name of a repository on the hub (owner/name[@revision])"
    )


def read(found: Found) -> LearnedModel:
    """Return the model that was found, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: Its weights are damaged or are not those of its configuration.
    """
    return build_model(found.file, found.config)


def default_sampler(config: Config | ModelConfig) -> Sampler:
    """Return the sampler of a model unless one says otherwise: the one it was trained for.

    Score models: `euler-maruyama`. Prox models: the rule of their training draws, else `prox-hybrid`.
    """
    if model_config(config).kind == "score":
        return find_sampler("euler-maruyama")
    trained = config.conditioning.rule if isinstance(config, Config) else None
    return find_sampler(trained or "prox-hybrid")


def default_steps(config: Config | ModelConfig) -> int:
    """Return the number of steps to sample with unless one says otherwise: 20, or the nearest that was trained on."""
    trained = config.conditioning.steps if isinstance(config, Config) and config.conditioning.draw == "knots" else ()
    return min(trained, key=lambda steps: abs(steps - USUAL_STEPS), default=USUAL_STEPS)


def fitting_samplers(kind: Literal["score", "prox"]) -> list[str]:
    """Return the names of the samplers that take a model of this kind."""
    return [name for name, sampler in SAMPLERS.items() if (sampler.operator == "prox") == (kind == "prox")]


def _find_in_folder(name: str, path: Path, weights: str | None) -> Found:
    if (path / CHECKPOINTS).is_dir():
        if (checkpoint := latest(path)) is None:
            raise CheckpointError(f"the run {path} has no complete checkpoint yet; looked in {path / CHECKPOINTS}")
        return _choose(name, "run", _weight_files(checkpoint.path), weights, checkpoint=checkpoint.path)
    if (path / STATE_FILE).is_file():
        return _choose(name, "checkpoint", _weight_files(path), weights, checkpoint=path)
    if not (path / MODEL_FILE).is_file():
        raise CheckpointError(
            f"{path} holds no model: looked for {CHECKPOINTS}/ (a run), {STATE_FILE} (a checkpoint) and {MODEL_FILE}, "
            f"and found {_listing(path)}"
        )
    return _choose(name, "folder", _weight_files(path), weights)


def _find_file(name: str, kind: Kind, path: Path, weights: str | None) -> Found:
    record = read_model_file(path)
    return _choose(name, kind, {record.weights or _set_name(path): record}, weights)


def _find_on_hub(name: str, repo: hub.RepoId, weights: str | None) -> Found:
    if repo.name == hub.OFFICIAL_REPO:
        raise CheckpointError(
            f"{repo} holds the paper's .pth files; get one with `proxdm download models NAME`, and load it with "
            "proxdm.load_official"
        )
    try:
        path = hub.fetch(repo, MODEL_FILE)
    except hub.HubError as error:
        raise hub.HubError(f"there is no file or folder {name} here, and {error}") from error
    found = _find_file(name, "hub", path, None)
    return found if weights is None else _choose(name, "hub", {found.weights: found.file}, weights)


def _choose(
    name: str, kind: Kind, files: dict[str, ModelFile], weights: str | None, *, checkpoint: Path | None = None
) -> Found:
    """Return the wanted one of several weight sets, by default the first."""
    chosen = next(iter(files)) if weights is None else weights
    if chosen not in files:
        raise CheckpointError(f"{name} has no weights named {chosen!r}; it has {', '.join(files)}")
    file = files[chosen]
    # What the file says of itself goes with its tensors; a configuration beside it may be of something else.
    config = file.config or _config_beside(file.path)
    if config is None:
        raise CheckpointError(
            f"{file.path} does not say what network it holds: it has no configuration in its metadata, and there is no "
            f"{CONFIG_FILE} beside it; put the {CONFIG_FILE} of its run there"
        )
    return Found(name, kind, file, config, chosen, tuple(files), checkpoint)


def _weight_files(folder: Path) -> dict[str, ModelFile]:
    """Return the weight sets of a folder by name: the moving averages in the order of the configuration, then `raw`."""
    paths = sorted(path for path in folder.glob("*.safetensors") if path.name != OPTIMIZER_FILE)
    records = [read_model_file(path) for path in paths]
    config = next((record.config for record in records if isinstance(record.config, Config)), None)
    order = [] if config is None else [f"ema-{decay}" for decay in config.training.ema]
    named = {record.weights or _set_name(record.path): record for record in records}
    return dict(sorted(named.items(), key=lambda item: (item[0] == RAW, item[0] not in order, _rank(item[0], order))))


def _rank(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else 0


def _set_name(path: Path) -> str:
    return RAW if path.name == MODEL_FILE else path.stem


def _config_beside(path: Path) -> Config | ModelConfig | None:
    """Return the configuration in the `config.json` beside a file, or None if there is none."""
    path = path.parent / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return from_json(text, Config) if '"model"' in text else from_json(text, ModelConfig)
    except (ProxdmError, OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the configuration {path} cannot be read: {error}") from error


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
