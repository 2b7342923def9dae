"""The portable model file: one `.safetensors` that says by itself what network it holds.

The tensors are the network's parameters under their own names; the metadata of the file carry, as strings, the JSON
configuration (k-diffusion's habit) and a few facts. A folder with such a `model.safetensors` and the same
configuration in `config.json` is what the hub holds. Files are written under a temporary name, synced and renamed.

safetensors notices a file that is cut short, not one whose bytes have changed; a SHA-256 of the tensors in the
metadata does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxdm._version import __version__
from proxdm.checkpoints.official import first_difference
from proxdm.config import Config, ModelConfig
from proxdm.config.codec import from_json, to_json
from proxdm.errors import CheckpointError, OutputError, ProxdmError
from proxdm.models import LearnedModel
from proxdm.networks import build_network
from proxdm.runtime.digests import digest_of
from proxdm.runtime.files import replacing

FORMAT = 1
"""Number of the layout; files of higher numbers are refused."""

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

_KINDS: dict[str, type[Config] | type[ModelConfig]] = {"Config": Config, "ModelConfig": ModelConfig}
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class ModelFile:
    """What a portable model file says of itself.

    Attributes:
        path: The file.
        config: The whole training configuration, or of a model made otherwise its description alone; None where the
            file carries none (weights of a training checkpoint, whose run has the configuration).
        weights: Name of the weight set: `raw`, `ema-0.9999`, ...; None if the file does not say.
        step: Optimiser steps behind the weights, if known.
        origin: Where converted weights came from, in words.
        version: Version of the package that wrote it, if it says so.
        digest: SHA-256 of the tensors, if it has one.
        parameters: Number of parameters.
    """

    path: Path
    config: Config | ModelConfig | None
    weights: str | None = None
    step: int | None = None
    origin: str | None = None
    version: str | None = None
    digest: str | None = None
    parameters: int = 0


def model_config(config: Config | ModelConfig) -> ModelConfig:
    """Return the description of the model in a configuration."""
    return config.model if isinstance(config, Config) else config


def save_model(
    model: LearnedModel,
    path: str | Path,
    *,
    weights: str = "raw",
    step: int | None = None,
    origin: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model to one file, or to a folder as the hub has it.

    Args:
        model: The model; its `config` must describe it (a :class:`~proxdm.config.Config` or `ModelConfig`).
        path: A file that ends in `.safetensors`; anything else is a folder, in which `model.safetensors` and
            `config.json` are written.
        weights: Name of the weight set, for the record.
        step: Optimiser steps behind the weights, for the record.
        origin: Where they came from, for the record.
        overwrite: Whether existing files may be replaced.

    Returns:
        The `.safetensors` file.

    Raises:
        CheckpointError: The model has no configuration, or one that describes another network.
        OutputError: A file is there already, or cannot be written.
    """
    path = Path(path)
    config = _own_config(model)
    single = path.suffix == ".safetensors"
    folder, files = (path.parent, [path.name]) if single else (path, [CONFIG_FILE, MODEL_FILE])
    if not overwrite and (there := [name for name in files if (folder / name).exists()]):
        raise OutputError(f"{folder / there[0]} exists already; allow overwriting it, or choose another name")
    record = ModelFile(folder / files[-1], config, weights, step, origin)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not single:
            with replacing(folder / CONFIG_FILE) as part:
                part.write_text(to_json(config), encoding="utf-8")
        write_model_file(record, model.network.state_dict())
    except OSError as error:
        raise OutputError(f"{record.path} cannot be written: {error.strerror or error}") from error
    return record.path


def write_model_file(record: ModelFile, state: Mapping[str, Tensor]) -> None:
    """Write tensors with what `record` says of them to `record.path`, atomically.

    Args:
        record: Its version, digest and parameter count are filled in here.
        state: Parameters by name.
    """
    from safetensors.torch import save_file

    # Parameters that share memory cannot be stored twice; a copy of each can.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    record = replace(record, version=__version__, digest=digest_of(tensors))
    with replacing(record.path) as part:
        save_file(tensors, part, metadata=_metadata(record))


def read_model_file(path: Path) -> ModelFile:
    """Return what a safetensors file says of itself; the tensors stay on disk.

    Raises:
        CheckpointError: The file is missing, cut short or not of this format, or written by a newer version.
    """
    with _opened(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
        parameters = sum(_numel(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    try:
        number, step = int(metadata.get("proxdm_format", FORMAT)), metadata.get("step")
        steps = None if step is None else int(step)
    except ValueError as error:
        raise CheckpointError(f"the metadata of {path} are damaged ({error}); get the file again") from error
    if number > FORMAT:
        raise CheckpointError(
            f"{path} has format {number}, written by proxdm {metadata.get('proxdm_version', '(unknown)')}; this is "
            f"proxdm {__version__}, which reads formats up to {FORMAT}: upgrade it"
        )
    return ModelFile(
        path=path,
        config=_config(path, metadata),
        weights=metadata.get("weights"),
        step=steps,
        origin=metadata.get("origin"),
        version=metadata.get("proxdm_version"),
        digest=metadata.get("sha256"),
        parameters=parameters,
    )


def read_tensors(record: ModelFile) -> dict[str, Tensor]:
    """Return the tensors of a file, checked against its digest if it has one.

    Raises:
        CheckpointError: The content has changed since it was written.
    """
    with _opened(record.path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if record.digest is not None and digest_of(tensors) != record.digest:
        raise CheckpointError(f"{record.path} is damaged: its numbers do not have the checksum stored with them")
    return tensors


def build_model(record: ModelFile, config: Config | ModelConfig) -> LearnedModel:
    """Return the model of a configuration with the weights of a file, in evaluation mode, on the CPU.

    No random numbers are drawn.

    Args:
        record: The file.
        config: Description of the model; becomes its `config`.

    Raises:
        CheckpointError: The file is damaged, or its tensors are not those of the network.
    """
    state = read_tensors(record)
    with torch.device("meta"):
        model = model_config(config).build()
    if (problem := first_difference(state, model.network.state_dict())) is not None:
        raise CheckpointError(f"{record.path} does not fit its configuration: {problem}")
    floats = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    model.network.load_state_dict(floats, assign=True)
    model.config = config
    return model.eval()


def _numel(shape: list[int]) -> int:
    return torch.Size(shape).numel()


def _own_config(model: LearnedModel) -> Config | ModelConfig:
    config = model.config
    if not isinstance(config, Config | ModelConfig):
        raise CheckpointError(
            f"the model has no configuration to store (its config is {config!r}); set model.config to the ModelConfig "
            "that describes it"
        )
    with torch.device("meta"):
        expected = build_network(model_config(config).network).state_dict()
    if (problem := first_difference(model.network.state_dict(), expected)) is not None:
        words = problem.replace("in the file", "in the model").replace("the file's", "the model's")
        words = words.replace("in the network", "in the network it describes")
        raise CheckpointError(f"the model's configuration describes another network than it has: {words}")
    return config


def _metadata(record: ModelFile) -> dict[str, str]:
    entries: dict[str, Any] = {
        "format": "pt",
        "proxdm_format": FORMAT,
        "proxdm_version": record.version,
        "config_kind": None if record.config is None else type(record.config).__name__,
        "config": None if record.config is None else to_json(record.config),
        "weights": record.weights,
        "step": record.step,
        "origin": record.origin,
        "sha256": record.digest,
    }
    return {key: str(value) for key, value in entries.items() if value is not None}


def _config(path: Path, metadata: Mapping[str, str]) -> Config | ModelConfig | None:
    if (text := metadata.get("config")) is None:
        return None
    kind = _KINDS.get(metadata.get("config_kind", "Config"))
    try:
        if kind is None:
            raise CheckpointError(f"the kind {metadata['config_kind']!r} is unknown")
        return from_json(text, kind)
    except ProxdmError as error:
        writer = metadata.get("proxdm_version")
        newer = f"; it was written by proxdm {writer}, and this is {__version__}" if writer != __version__ else ""
        raise CheckpointError(f"the configuration in {path} cannot be read: {error}{newer}") from error


def _opened(path: Path) -> Any:
    """Return the open safetensors file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            raise CheckpointError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull`") from error
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise CheckpointError(
                f"{path} is a pickled PyTorch file under another name, not safetensors; if it is one of the paper's, "
                "proxdm.load_official reads it"
            ) from error
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) is cut short, damaged, or not a safetensors file ({error}); get "
            "it again"
        ) from error
