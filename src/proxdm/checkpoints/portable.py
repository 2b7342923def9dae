"""The portable model file: one `.safetensors` that says by itself what network it holds.

The tensors are the network's parameters under their own names; the metadata of the file carry, as strings, the JSON
configuration (k-diffusion's habit) and a few facts. A folder with such a `model.safetensors` and the same
configuration in `config.json` is what the hub holds. Files are written under a temporary name, synced and renamed.

safetensors notices a file that is cut short, not one whose bytes have changed; a SHA-256 of the tensors in the
metadata does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxdm._version import __version__
from proxdm.config import Config, ConfigError, ModelConfig, from_dict, to_dict, to_json
from proxdm.config.codec import parse_json
from proxdm.errors import CheckpointError, ProxdmError
from proxdm.models import PARAMETRISATIONS, SCORE_PARAMETRISATIONS, LearnedModel
from proxdm.networks import NETWORKS, ExternalNetwork
from proxdm.priors.base import Prior
from proxdm.priors.files import KEY as PRIOR_KEY
from proxdm.priors.files import PREFIX as PRIOR_PREFIX
from proxdm.priors.files import write_prior
from proxdm.runtime.files import check_new, digest_of, replacing, write_text

FORMAT = 1
"""Number of the layout; files of higher numbers are refused."""

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

_OTHER_FILES: dict[bytes | tuple[bytes, ...], str] = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; run `git lfs pull`",
    (b"PK", b"\x80"): "is a pickled PyTorch file under another name; if it is one of the paper's, "
    "proxdm.load_official reads it",
}


@dataclass(frozen=True)
class ModelFile:
    """What a portable model file says of itself."""

    path: Path
    config: Config | ModelConfig | None  # Of the training, or of the model alone; None where the file does not say
    weights: str | None = None  # Name of the weight set: `raw`, `ema-0.9999`, ...
    step: int | None = None  # Optimiser steps behind the weights
    origin: str | None = None  # Where converted weights came from, in words
    version: str | None = None  # Version of the package that wrote it
    digest: str | None = None  # SHA-256 of the tensors
    parameters: int = 0  # Number of parameters
    grids: str | None = None  # JSON of the tuned grids that are stored with it
    prior: str | None = None  # What stands in the metadata of the prior that is stored with it


def model_config(config: Config | ModelConfig) -> ModelConfig:
    """Return the description of the model in a configuration."""
    return config.model if isinstance(config, Config) else config


def describe_model(model: LearnedModel, shape: Sequence[int]) -> ModelConfig | None:
    """Return the description of a model of samples of a shape; None if its schedule or parametrisation is in no table.

    A network that does not say its settings in `network.config` is an :class:`~proxdm.networks.ExternalNetwork`.
    """
    if isinstance(model.config, Config | ModelConfig):
        return model_config(model.config)
    network: Any = getattr(model.network, "config", None)
    kind, meaning = type(model.network), model.parametrisation
    if type(network) not in NETWORKS.values():
        network = ExternalNetwork(f"{kind.__module__}.{kind.__qualname__}")
    if meaning not in (*SCORE_PARAMETRISATIONS.values(), *PARAMETRISATIONS.values()):
        return None
    try:
        config = ModelConfig(model.kind, tuple(shape), network, meaning.name, model.schedule, model.classes)
        to_dict(config)
    except ProxdmError:
        return None
    return config


def save_model(
    model: LearnedModel,
    path: str | Path,
    *,
    shape: tuple[int, ...] | None = None,
    weights: str = "raw",
    step: int | None = None,
    origin: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model to one file, or to a folder as the hub has it, and return the `.safetensors` file.

    Args:
        model: The model. Its `config`, a :class:`~proxdm.config.Config` or `ModelConfig`, must describe it; if it is
            None, the file says which class the network is of, and is loaded with `load(path, network=...)`.
        path: A file that ends in `.safetensors`; anything else is a folder, in which `model.safetensors` and
            `config.json` are written.
        shape: Shape of one sample, of models without configuration.
        weights: Name of the weight set, for the record.
        step: Optimiser steps behind the weights, for the record.
        origin: Where they came from, for the record.
        overwrite: Whether existing files may be replaced.

    Raises:
        CheckpointError: The model's configuration describes another network, or it has none and there is no shape.
        OutputError: A file is there already, or cannot be written.
    """
    path, config = Path(path), model.config
    if config is None and shape is not None:
        config = describe_model(model, shape)
    if not isinstance(config, Config | ModelConfig):
        raise CheckpointError(
            f"the model has no configuration to store (its config is {model.config!r}); set model.config to its "
            "ModelConfig, or, where schedule and parametrisation have names, give the shape of a sample: shape="
        )
    described = model_config(config)
    if not isinstance(described.network, ExternalNetwork):
        with torch.random.fork_rng(devices=[]):
            expected = described.build().network.state_dict()
        if (problem := first_difference(model.network.state_dict(), expected, "model", "configuration")) is not None:
            raise CheckpointError(f"the model's configuration describes another network than it has: {problem}")
    files = [path] if path.suffix == ".safetensors" else [path / CONFIG_FILE, path / MODEL_FILE]
    check_new(*files, overwrite=overwrite)
    if len(files) == 2:
        write_config(path, config)
    grids = json.dumps(model.grids) if model.grids else None
    record = ModelFile(files[-1], config, weights, step, origin, grids=grids)
    write_model_file(record, model.network.state_dict(), model.prior)
    return files[-1]


def write_config(folder: Path, config: object) -> None:
    """Write the configuration of a folder, in place of the one that was there."""
    write_text(folder / CONFIG_FILE, to_json(config))


def write_model_file(record: ModelFile, state: Mapping[str, Tensor], prior: Prior | None = None) -> None:
    """Write tensors with what `record` says of them to `record.path`, atomically; version and digest are filled in."""
    from safetensors.torch import save_file

    # Parameters that share memory cannot be stored twice; a copy of each can.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    more, said = ({}, None) if prior is None else write_prior(prior)
    tensors |= more
    entries: dict[str, Any] = {
        "format": "pt",
        "proxdm_format": FORMAT,
        "proxdm_version": __version__,
        "config_kind": None if record.config is None else type(record.config).__name__,
        "config": None if record.config is None else to_json(record.config),
        "weights": record.weights,
        "step": record.step,
        "origin": record.origin,
        "sha256": digest_of(tensors),
        PRIOR_KEY: said,
        "grids": record.grids,
    }
    with replacing(record.path) as part:
        save_file(tensors, part, metadata={key: str(value) for key, value in entries.items() if value is not None})


def read_model_file(path: Path, *, external: bool = False) -> ModelFile:
    """Return what a safetensors file says of itself; `external`: its network will be given, and need not be known."""
    with _opened(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
        names = [key for key in file.keys() if not key.startswith(PRIOR_PREFIX)]  # noqa: SIM118
        parameters = sum(torch.Size(file.get_slice(key).get_shape()).numel() for key in names)
    try:
        number, step = int(metadata.get("proxdm_format", FORMAT)), metadata.get("step")
        steps = None if step is None else int(step)
    except ValueError as error:
        raise CheckpointError(f"the metadata of {path} are damaged ({error}); get the file again") from error
    version = metadata.get("proxdm_version")
    if number > FORMAT:
        raise CheckpointError(
            f"{path} has format {number}, written by proxdm {version or '(unknown)'}; this is proxdm {__version__}, "
            f"which reads formats up to {FORMAT}: upgrade it"
        )
    config = None
    if (text := metadata.get("config")) is not None:
        newer = f"; it was written by proxdm {version}, and this is {__version__}" if version != __version__ else ""
        config = parse_config(text, path, external=external, note=newer)
    weights, origin, digest, grids = (metadata.get(key) for key in ("weights", "origin", "sha256", "grids"))
    return ModelFile(path, config, weights, steps, origin, version, digest, parameters, grids, metadata.get(PRIOR_KEY))


def parse_config(text: str, path: Path, *, external: bool = False, note: str = "") -> Config | ModelConfig:
    """Return the configuration in the JSON of a file; `note` ends the message of the CheckpointError if it has none."""
    try:
        data = parse_json(text)
        model = data.get("model", data)
        if isinstance(model, str):  # a run of :func:`proxdm.training.train`
            raise ConfigError(
                f"it describes the model in words only ({model}), and the file of weights does not; make the model, "
                "and call model.network.load_state_dict(store.latest(run).read('raw'))"
            )
        if external and (name := model["network"]["type"]) not in NETWORKS:
            model["network"] = {"type": "external", "name": name}
        return from_dict(data, Config) if "model" in data else from_dict(data, ModelConfig)
    except (ProxdmError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the configuration in {path} cannot be read: {error}{note}") from error


def read_tensors(record: ModelFile) -> dict[str, Tensor]:
    """Return the tensors of a file; raise a CheckpointError if it has a digest and they do not have it."""
    with _opened(record.path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if record.digest is not None and digest_of(tensors) != record.digest:
        raise CheckpointError(f"{record.path} is damaged: its numbers do not have the checksum stored with them")
    return tensors


def build_model(record: ModelFile, config: Config | ModelConfig, network: nn.Module | None = None) -> LearnedModel:
    """Return the model of a configuration, or a given network, with the weights of a file; draw no random numbers."""
    state = {key: value for key, value in read_tensors(record).items() if not key.startswith(PRIOR_PREFIX)}
    try:
        with torch.random.fork_rng(devices=[]):
            model = model_config(config).build(network)
    except ValueError as error:
        raise CheckpointError(f"{record.path}: {error}") from error
    expected = model.network.state_dict()
    if state.keys() != expected.keys():  # a network may have such names itself
        state = without_wrappers(state)
    if (problem := first_difference(state, expected)) is not None:
        raise CheckpointError(f"{record.path} does not fit its configuration: {problem}")
    model.network.load_state_dict(state)
    model.config = config
    if record.grids is not None:
        model.grids = read_grids(record.grids, record.path)
    return model.eval()


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefixes that DistributedDataParallel and torch.compile put before every key."""
    for prefix in ("module.", "_orig_mod."):
        if state and all(key.startswith(prefix) for key in state):
            return without_wrappers({key.removeprefix(prefix): value for key, value in state.items()})
    return dict(state)


def read_grids(text: str, path: Path) -> dict[str, dict[int, str]]:
    """Return the tuned grids of a file; raise a CheckpointError if they are none."""
    try:
        return {
            sampler: {int(n): str(grid) for n, grid in grids.items()} for sampler, grids in json.loads(text).items()
        }
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"the tuned grids in {path} cannot be read ({error}); tune again: proxdm tune") from error


def first_difference(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], holder: str = "file", other: str = "network"
) -> str | None:
    """Return the first difference of keys or shapes between two state dicts in words, or None."""
    for key, tensor in expected.items():
        if key not in state:
            return f"the {other}'s {key} {tuple(tensor.shape)} is not in the {holder}"
        if state[key].shape != tensor.shape:
            return f"{key} is {tuple(state[key].shape)} in the {holder} and {tuple(tensor.shape)} in the {other}"
    extra = next((key for key in state if key not in expected), None)
    return None if extra is None else f"the {holder}'s {extra} {tuple(state[extra].shape)} is not in the {other}"


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(32)
        size = path.stat().st_size
        damage = f"({size:,} bytes) is cut short, damaged, or not a safetensors file ({error}); get it again"
        words = next((words for magic, words in _OTHER_FILES.items() if start.startswith(magic)), damage)
        raise CheckpointError(f"{path} {words}") from error
