"""One call from a name to a model: a run, a checkpoint, a model file or folder, or a repository on the hub.

Nothing here unpickles anything. The paper's `.pth` files need to be told what they hold and have a call of their own,
:func:`load_official`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from proxdm.checkpoints import hub
from proxdm.checkpoints.official import OFFICIAL_WEIGHTS, build_official
from proxdm.checkpoints.portable import CONFIG_FILE, MODEL_FILE, ModelFile, build_model, parse_config, read_model_file
from proxdm.checkpoints.store import CHECKPOINTS, OPTIMIZER_FILE, STATE_FILE, latest
from proxdm.config import Config, ModelConfig
from proxdm.errors import CheckpointError
from proxdm.models import LearnedModel
from proxdm.presets import get_preset
from proxdm.runtime.device import choose_device

Kind = Literal["run", "checkpoint", "folder", "file", "hub"]

RAW = "raw"
"""Name of the weights themselves, as opposed to their moving averages (`ema-0.9999`)."""

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

    def read(self, network: nn.Module | None = None) -> LearnedModel:
        """Return the model in evaluation mode, on the CPU."""
        return build_model(self.file, self.config, network)


@dataclass(frozen=True)
class Opened:
    """A model, and which of its weights these are.

    Attributes:
        model: In evaluation mode, with its configuration.
        weights: Name of the weight set.
    """

    model: LearnedModel
    weights: str


def load(
    source: str | Path,
    weights: str | None = None,
    *,
    network: nn.Module | None = None,
    device: str | torch.device = "cpu",
) -> LearnedModel:
    """Return a trained model in evaluation mode, its configuration in `model.config`.

    Args:
        source: A run folder (its latest complete checkpoint is taken), a checkpoint folder, a `.safetensors` file, a
            folder with `model.safetensors`, or a repository on the Hugging Face Hub, `owner/name[@revision]`.
        weights: Weight set: `ema-0.9999` (a moving average), `raw` (the weights themselves). By default the first
            moving average there is, else the weights themselves.
        network: The network that takes the weights, `(x, t)` or `(x, t, lam)` to a tensor like x. Needed only where the
            file cannot say how it is made (:data:`proxdm.networks.NETWORKS`).
        device: Where it goes; `auto` is a GPU where there is one.

    Raises:
        CheckpointError: There is nothing there, it is no model or a damaged one, it was written by a newer version, its
            network is not known here, or it has no such weight set; the message says what was looked for, or lists
            what there is.
        HubError: The repository cannot be had.
    """
    return find(source, weights, external=network is not None).read(network).to(choose_device(device))


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
        CheckpointError: The file is missing, damaged, or does not hold the network of the preset; or no preset is
            given, and the name is not one of the authors'.
        ConfigError: There is no such preset.
    """
    named = {file: preset for preset, file in hub.OFFICIAL_MODELS.items()}.get(Path(path).name)
    if (name := preset or named) is None:
        raise CheckpointError(
            f"{path} may hold any network: say which with preset=, e.g. preset='cifar10-prox-hybrid' (--preset on the "
            "command line)"
        )
    config = get_preset(name)
    model = build_official(path, config.model, weights)
    model.config = config
    return model.to(choose_device(device))


def open_source(
    source: str | Path,
    weights: str | None = None,
    preset: str | None = None,
    *,
    device: str | torch.device = "cpu",
) -> Opened:
    """Return the model of any source, the paper's `.pth` files included: what the command line takes."""
    if is_official(source):
        chosen = weights or OFFICIAL_WEIGHTS
        return Opened(load_official(source, preset, chosen, device=device), chosen)
    if preset is not None:
        raise CheckpointError(
            f"preset = {preset!r} is for the paper's .pth files; {source} has a configuration of its own: leave it out"
        )
    found = find(source, weights)
    return Opened(found.read().to(choose_device(device)), found.weights)


def is_official(source: str | Path) -> bool:
    """Return whether a source is a pickled PyTorch file, as the paper's are."""
    return Path(source).suffix == ".pth"


def find(source: str | Path, weights: str | None = None, *, external: bool = False) -> Found:
    """Return where a model is and what it says of itself; its weights stay on disk."""
    path, name = Path(source), str(source)
    kind: Kind = "folder" if path.is_dir() else "file"
    checkpoint = None
    if path.is_dir():
        if (path / CHECKPOINTS).is_dir():
            if (newest := latest(path)) is None:
                raise CheckpointError(f"the run {path} has no complete checkpoint yet; looked in {path / CHECKPOINTS}")
            kind, checkpoint = "run", newest.path
        elif (path / STATE_FILE).is_file():
            kind, checkpoint = "checkpoint", path
        elif not (path / MODEL_FILE).is_file():
            names = sorted(entry.name for entry in path.iterdir())[:5]
            raise CheckpointError(
                f"{path} holds no model: looked for {CHECKPOINTS}/ (a run), {STATE_FILE} (a checkpoint) and "
                f"{MODEL_FILE}, and found {', '.join(names) or 'nothing'}"
            )
        paths = sorted((checkpoint or path).glob("*.safetensors"))
    elif path.suffix in _PICKLED:
        raise CheckpointError(
            f"{path} is a pickled PyTorch file, which is not read here; if it is one of the paper's, use "
            "proxdm.load_official(path, preset=...), or convert it: proxdm convert"
        )
    elif path.is_file():
        paths = [path]
    elif (repo := hub.parse_repo_id(name)) is not None:
        kind, paths = "hub", [hub.fetch_model(repo)]
    else:
        raise CheckpointError(
            f"there is no model {name!r}: looked for a run folder, a checkpoint folder or a .safetensors file of that "
            "name, and it is not the name of a repository on the hub (owner/name[@revision])"
        )
    files = _weight_sets([read_model_file(one, external=external) for one in paths if one.name != OPTIMIZER_FILE])
    chosen = next(iter(files)) if weights is None else weights
    if chosen not in files:
        raise CheckpointError(f"{name} has no weights named {chosen!r}; it has {', '.join(files)}")
    # What the file says of itself goes with its tensors; a configuration beside it may be of something else.
    config = files[chosen].config or _config_beside(files[chosen].path, external)
    return Found(name, kind, files[chosen], config, chosen, tuple(files), checkpoint)


def _weight_sets(files: list[ModelFile]) -> dict[str, ModelFile]:
    """Return the weight sets by name: the moving averages in the order of the configuration, then `raw`."""
    config = next((file.config for file in files if isinstance(file.config, Config)), None)
    order = [] if config is None else [f"ema-{decay}" for decay in config.training.ema]
    named = {file.weights or (RAW if file.path.name == MODEL_FILE else file.path.stem): file for file in files}
    first = [name for name in order if name in named]
    others = [name for name in named if name not in (*first, RAW)]
    return {name: named[name] for name in (*first, *others, RAW) if name in named}


def _config_beside(file: Path, external: bool) -> Config | ModelConfig:
    """Return the configuration in the `config.json` beside a file."""
    path = file.parent / CONFIG_FILE
    try:
        return parse_config(path.read_text(encoding="utf-8"), path, external=external)
    except FileNotFoundError:
        raise CheckpointError(
            f"{file} does not say what network it holds: it has no configuration in its metadata, and there is no "
            f"{CONFIG_FILE} beside it; put the {CONFIG_FILE} of its run there"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the configuration {path} cannot be read: {error}") from error
