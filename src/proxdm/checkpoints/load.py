"""One call from a name to a model: a run, a checkpoint, a model file or folder, or a repository on the hub.

Nothing here unpickles anything. The paper's `.pth` files need to be told what they hold and have a call of their own,
:func:`load_official`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from proxdm.checkpoints import hub, portable, store
from proxdm.checkpoints.official import OFFICIAL_WEIGHTS, build_official
from proxdm.checkpoints.portable import CONFIG_FILE, MODEL_FILE, ModelFile
from proxdm.checkpoints.store import CHECKPOINTS, GRIDS_FILE, PRIOR_FILE, STATE_FILE
from proxdm.config import Config, ModelConfig
from proxdm.errors import CheckpointError, did_you_mean
from proxdm.models import LearnedModel
from proxdm.presets import get_preset
from proxdm.priors import Prior, load_prior
from proxdm.runtime.hooks import hook
from proxdm.runtime.processes import choose_device

Kind = Literal["run", "checkpoint", "folder", "file", "hub", "box"]

BOX = {path.stem: path for path in sorted((Path(__file__).parents[1] / "box").glob("*.safetensors"))}
"""Small trained models that come with the package, by name: see `box/README.md`."""

STALE = 0.05
"""Share of the first weights in an average from which on samples of it are noticeably worse than they need be."""

_PICKLED = (".pth", ".pt", ".ckpt", ".pkl", ".bin")


@dataclass(frozen=True)
class Found:
    """A model that has been found but not read."""

    source: str  # The name it was asked for by
    kind: Kind  # What stands behind that name
    file: ModelFile  # The weights that were chosen
    config: Config | ModelConfig  # Configuration of the model
    weights: str  # Name of the chosen weight set
    weight_sets: tuple[str, ...]  # Names of all weight sets there
    checkpoint: Path | None = None  # Folder of the training checkpoint, of runs and checkpoints

    @property
    def run(self) -> Path | None:
        """Folder of the run that the checkpoint is of."""
        return None if self.checkpoint is None else self.checkpoint.parent.parent

    def beside(self, name: str) -> Path | None:
        """Return a file of the run, if it is there."""
        return self.run / name if self.run is not None and (self.run / name).is_file() else None


class Opened(NamedTuple):
    """A model in evaluation mode, with its configuration, the name of its weight set, and what is to be said of it."""

    model: LearnedModel
    weights: str
    remarks: tuple[str, ...] = ()


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
            folder with `model.safetensors`, a repository on the Hugging Face Hub, `owner/name[@revision]`, a model in
            the box (:data:`BOX`), or `hf:FOLDER`, a pipeline of diffusers.
        weights: Weight set: `ema-0.9999` (a moving average), `raw` (the weights themselves). By default the first
            moving average there is, else the weights themselves.
        network: The network that takes the weights, `(x, t)` or `(x, t, lam)` to a tensor like x. Needed only where the
            file cannot say how it is made (:data:`proxdm.networks.NETWORKS`).
        device: Where it goes; `auto` is a GPU where there is one.

    Raises:
        CheckpointError: There is nothing there, it is no model, a damaged one or of a newer version, its network is not
            known here, or it has no such weight set; the message says what was looked for, or lists what there is.
        HubError: The repository cannot be had.
    """
    if other_library(source) is not None:
        return open_source(source, weights, device=device).model
    return build(find(source, weights, external=network is not None), network).to(choose_device(device))


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
    if Path(path).is_dir():
        raise CheckpointError(f"{path} is a folder, not one of the paper's .pth files; a run is a model already")
    name = preset or {file: name for name, file in hub.OFFICIAL_MODELS.items()}.get(Path(path).name)
    if name is None:
        raise CheckpointError(f"{path} may hold any network: say which with preset= (--preset), such as 'mnist-score'")
    config = get_preset(name)
    model = build_official(path, config.model, weights)
    model.config = config
    return model.to(choose_device(device))


def open_source(
    source: str | Path, weights: str | None = None, preset: str | None = None, *, device: str | torch.device = "cpu"
) -> Opened:
    """Return the model of any source and its weight set, as :func:`load` or, of `.pth` files, :func:`load_official`."""
    if (pipeline := other_library(source)) is not None:
        opened: Opened = hook("open_pipeline")(pipeline, weights, preset, choose_device(device))
        return opened
    if Path(source).suffix == ".pth":
        chosen = weights or OFFICIAL_WEIGHTS
        return Opened(load_official(source, preset, chosen, device=device), chosen)
    if preset is not None:
        raise CheckpointError(f"preset = {preset!r} is for .pth files; {source} has a configuration: leave it out")
    found = find(source, weights)
    return Opened(build(found).to(choose_device(device)), found.weights, remarks(found))


def other_library(source: str | Path) -> str | None:
    """Return the FOLDER or repository of `hf:FOLDER`, a pipeline of diffusers; None of all other sources."""
    return str(source)[3:] if str(source).startswith("hf:") else None


def remarks(found: Found) -> tuple[str, ...]:
    """Return a line on an average that still holds much of its start, and on later checkpoints that are not whole."""
    lines = []
    config, step = found.config, found.file.step
    if isinstance(config, Config) and found.weights.startswith("ema-") and step is not None:
        training, decay = config.training, float(found.weights.removeprefix("ema-"))
        share = share_of_start(decay, step, warmup=training.ema_warmup)
        if share > STALE:
            lines.append(
                f"warning: {100 * share:.0f} % of the average {found.weights} are still the first weights, after "
                f"{step:,} steps; take --weights raw, or train longer or with --training.ema-warmup"
            )
    if found.kind == "run" and (over := store.passed_over(Path(found.source))) is not None:
        lines.append(f"warning: {over}")
    return tuple(lines)


def share_of_start(decay: float, steps: int, *, warmup: bool) -> float:
    """Return the weight that the first weights still have in an average after so many steps, in [0, 1]."""
    if not warmup:
        return decay**steps
    # (1 + n) / (10 + n) reaches the decay at n = (10 decay - 1) / (1 - decay); before, the product telescopes.
    turn = min(steps, math.ceil(max(0.0, (10 * decay - 1) / (1 - decay))))
    early = math.exp(math.lgamma(turn + 1) - math.lgamma(turn + 10) + math.lgamma(10))
    return early * decay ** (steps - turn)


def build(found: Found, network: nn.Module | None = None) -> LearnedModel:
    """Return the model, with the prior that is stored with it or, of a run, beside it."""
    model = portable.build_model(found.file, found.config, network)
    model.prior = stored_prior(found)
    if not model.grids and (path := found.beside(GRIDS_FILE)) is not None:
        model.grids = portable.read_grids(path.read_text(encoding="utf-8"), path)
    return model


def stored_prior(found: Found) -> Prior | None:
    """Return the prior that is stored with a model, or beside it."""
    path = found.beside(PRIOR_FILE) if found.file.prior is None else found.file.path
    return None if path is None else load_prior(path)


def store_with(source: str, weights: str | None, name: str) -> tuple[Path, Found | None]:
    """Return where something of a model is to be kept: a file `name` beside a run, or, with Found, in the model."""
    pipeline = other_library(source)
    if pipeline is not None and Path(pipeline).is_dir():
        return Path(pipeline) / name, None
    found = None if pipeline is not None or source.endswith(".pth") else find(source, weights)
    if found is None or found.kind in ("hub", "box"):
        raise CheckpointError(f"{source} is not this machine's to change: name a file for the result with --out")
    return (found.file.path, found) if found.run is None else (found.run / name, None)


def rewrite(model: LearnedModel, found: Found) -> None:
    """Write a model file or folder again, with the prior and the grids that the model has now."""
    file = found.file
    path = file.path.parent if found.kind == "folder" else file.path
    portable.save_model(model, path, weights=found.weights, step=file.step, origin=file.origin, overwrite=True)


def find(source: str | Path, weights: str | None = None, *, external: bool = False) -> Found:
    """Return where a model is and what it says of itself; `external`: its network will be given."""
    path, name = Path(source), str(source)
    if other_library(source) is not None:
        raise CheckpointError(
            f"{name} is a pipeline of another library: sample, prior, tune and evaluate take it, and to be stored as a "
            "file of ours it would have to be a network of ours"
        )
    checkpoint: Path | None = None
    kind: Kind
    if path.is_dir():
        kind, checkpoint = _in_folder(path)
        paths = sorted((checkpoint or path).glob("*.safetensors"))
    elif path.suffix in (".npy", ".npz"):
        raise CheckpointError(f"{path} is an array, not a model: a run, a .safetensors file or owner/name is meant")
    elif path.suffix in _PICKLED:
        raise CheckpointError(
            f"{path} is a pickled PyTorch file, which is not read here; one of the paper's is read by "
            "proxdm.load_official(path, preset=...) and converted by `proxdm convert`"
        )
    elif path.is_file():
        kind, paths = "file", [path]
    elif name in BOX:
        kind, paths = "box", [BOX[name]]
    elif (repo := hub.parse_repo_id(name)) is not None:
        kind, paths = "hub", [hub.fetch_model(repo)]
    else:
        raise CheckpointError(
            f"there is no model {name!r}{did_you_mean(name, BOX)}: looked for a run folder, a checkpoint folder or a "
            f".safetensors file of that name, in the box ({', '.join(BOX)}), and it is not the name of a repository on "
            "the hub (owner/name[@revision])"
        )
    if not (paths := [one for one in paths if one.name != store.OPTIMIZER_FILE]):
        raise CheckpointError(f"{name} holds no weights: looked for raw.safetensors and an average, ema-*.safetensors")
    files = _weight_sets([portable.read_model_file(one, external=external) for one in paths])
    chosen = next(iter(files)) if weights is None else weights
    if chosen not in files:
        raise CheckpointError(f"{name} has no weights named {chosen!r}; it has {', '.join(files)}")
    # What the file says of itself goes with its tensors; a configuration beside it may be of something else.
    config = files[chosen].config or _config_beside(files[chosen].path, external)
    return Found(name, kind, files[chosen], config, chosen, tuple(files), checkpoint)


def _in_folder(path: Path) -> tuple[Kind, Path | None]:
    """Return what a folder is, and its training checkpoint."""
    if (path / CHECKPOINTS).is_dir():
        if (newest := store.latest(path)) is None:
            why = store.passed_over(path) or f"looked in {path / CHECKPOINTS}"
            raise CheckpointError(f"the run {path} has no complete checkpoint yet; {why}")
        return "run", newest.path
    if (path / STATE_FILE).is_file():
        return "checkpoint", path
    if (path / MODEL_FILE).is_file():
        return "folder", None
    names = ", ".join(sorted(entry.name for entry in path.iterdir())[:5])
    raise CheckpointError(
        f"{path} holds no model: looked for {CHECKPOINTS}/ (a run), {STATE_FILE} (a checkpoint) and {MODEL_FILE}, and "
        f"found {names or 'nothing'}"
    )


def _weight_sets(files: list[ModelFile]) -> dict[str, ModelFile]:
    """Return the weight sets by name: the moving averages in the order of the configuration, then `raw`."""
    named = {file.weights or ("raw" if file.path.name == MODEL_FILE else file.path.stem): file for file in files}
    order = (*store.averages(files[0].path.parent), *(name for name in named if name != "raw"), "raw")
    return {name: named[name] for name in order if name in named}


def _config_beside(file: Path, external: bool) -> Config | ModelConfig:
    path = file.parent / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{file} does not say what network it holds: its metadata have no configuration, and there is no readable "
            f"{CONFIG_FILE} beside it ({error}); put the {CONFIG_FILE} of its run there"
        ) from error
    return portable.parse_config(text, path, external=external)
