"""Weights published with the paper (arXiv 2507.08956), read from its `.pth` files.

Such a file is a dict with one or more weight sets (`model_state_dict`: the last weights, named `model` here;
`ema0.9999_model_state_dict`: their moving average, named `ema0.9999`) and perhaps `optimizer_state_dict` and
`train_losses`. Every key of a weight set carries the prefix `model.`; :data:`KEY_MAP` turns it into ours, one to one.

A file says what network it holds, so a wrong preset is recognised. Files are read with `weights_only=True`: nothing
in them is ever executed.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from proxdm.errors import CheckpointError
from proxdm.models import LearnedModel
from proxdm.networks import UNetConfig, build_network
from proxdm.presets import PRESETS, get_preset

KEY_MAP: tuple[tuple[str, str], ...] = (
    (r"^model\.(time)_embedding\.embedding_mlp\.", r"embedding.\1."),
    (r"^model\.(lam)b_embedding\.embedding_mlp\.", r"embedding.\1."),
    (r"^(embedding\.\w+)\.0\.", r"\1.hidden."),
    (r"^(embedding\.\w+)\.2\.", r"\1.out."),
    (r"^model\.unet\.", ""),
    (r"^(down|middle|up)blocks\.", r"\1."),
    (r"\.main\.", ".conv."),
    (r"\.block1\.0\.", ".norm1."),
    (r"\.block1\.2\.", ".conv1."),
    (r"\.temb_proj\.1\.", ".condition."),
    (r"\.block2\.0\.", ".norm2."),
    (r"\.block2\.3\.", ".conv2."),
    (r"\.attn\.group_norm\.", ".attention.norm."),
    (r"\.attn\.proj_q\.", ".attention.query."),
    (r"\.attn\.proj_k\.", ".attention.key."),
    (r"\.attn\.proj_v\.", ".attention.value."),
    (r"\.attn\.proj\.", ".attention.out."),
)
"""Renames, applied in order to every key of a weight set: (regular expression, replacement)."""

_SUFFIX = "model_state_dict"


@dataclass(frozen=True)
class OfficialInfo:
    """What an official file holds.

    Attributes:
        path: The file.
        network: The architecture, read off the shapes; its dropout is the default, for weights do not show it.
        parameters: Number of parameters of the network.
        weight_sets: Names of the weight sets in the file, e.g. `("model", "ema0.9999")`.
        train_losses: Number of losses that were recorded in training; 0 if there are none.
    """

    path: Path
    network: UNetConfig
    parameters: int
    weight_sets: tuple[str, ...]
    train_losses: int

    @property
    def kind(self) -> str:
        """`score` or `prox`."""
        return "score" if self.network.conditioning == "time" else "prox"

    def __str__(self) -> str:
        net = self.network
        return (
            f"a {self.kind} network of {self.parameters:,} parameters ({net.channels} channels, width {net.width}, "
            f"mult {'-'.join(map(str, net.mult))}, attention on levels {list(net.attention)}, "
            f"{net.num_res_blocks} residual blocks a level)"
        )


class ModelConfig(Protocol):
    """What describes a model here: anything that builds one."""

    def build(self) -> LearnedModel:
        """Return the model, freshly initialised."""
        ...


def official_key(key: str) -> str:
    """Return our name of the parameter that the official code calls `key`."""
    for pattern, replacement in KEY_MAP:
        key = re.sub(pattern, replacement, key)
    return key


def describe_official(path: str | Path) -> OfficialInfo:
    """Return what an official file holds, without building a network.

    Args:
        path: The `.pth` file.

    Raises:
        CheckpointError: It is missing, damaged, or no official checkpoint.
    """
    content = _read(Path(path))
    return _describe(Path(path), content, next(iter(_weight_sets(Path(path), content))))


def load_official_state(path: str | Path, weights: str = "ema0.9999") -> tuple[dict[str, Tensor], OfficialInfo]:
    """Return one weight set of an official file under our names, with what the file holds.

    Args:
        path: The `.pth` file.
        weights: Name of the weight set: `ema0.9999`, `model`.

    Raises:
        CheckpointError: The file is missing, damaged, or no official checkpoint, or has no such weight set.
    """
    content = _read(Path(path))
    sets = _weight_sets(Path(path), content)
    if weights not in sets:
        raise CheckpointError(f"{path} has no weights named {weights!r}; it has {', '.join(sets)}")
    info = _describe(Path(path), content, weights)
    # A copy: the tensors read are a view of the file, which may change or go.
    return {key: value.clone() for key, value in _renamed(Path(path), sets[weights]).items()}, info


def build_official(path: str | Path, model_config: ModelConfig, weights: str = "ema0.9999") -> LearnedModel:
    """Return a model of that configuration with the weights of an official file, in evaluation mode, on the CPU.

    Args:
        path: The `.pth` file.
        model_config: Description of the model; its `build()` returns a ScoreModel or a ProxModel.
        weights: Name of the weight set: `ema0.9999`, `model`.

    Raises:
        CheckpointError: As :func:`load_official_state`; or the weights do not fit the model, and the message names
            the first parameter that differs, what network the file holds and the presets that it fits.
    """
    state, info = load_official_state(path, weights)
    model = model_config.build()
    if (problem := first_difference(state, model.network.state_dict())) is not None:
        presets = ", ".join(fitting_presets(info.network)) or "no preset"
        raise CheckpointError(f"{path} does not fit the model: {problem}; the file holds {info}, which fits {presets}")
    model.network.load_state_dict(state)
    return model.eval()


def first_difference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Return the first difference of keys or shapes between two state dicts in words, or None.

    Args:
        state: What a file holds.
        expected: What the network has.
    """
    for key, tensor in expected.items():
        if key not in state:
            return f"the network's {key} {tuple(tensor.shape)} is not in the file"
        if state[key].shape != tensor.shape:
            return f"{key} is {tuple(state[key].shape)} in the file and {tuple(tensor.shape)} in the network"
    extra = next((key for key in state if key not in expected), None)
    return None if extra is None else f"the file's {extra} {tuple(state[extra].shape)} is not in the network"


def fitting_presets(network: UNetConfig) -> tuple[str, ...]:
    """Return the names of the presets with this architecture; dropout, which weights do not show, may differ.

    Args:
        network: Architecture, as :func:`describe_official` finds it.
    """

    def same(name: str) -> bool:
        other = get_preset(name).model.network
        return isinstance(other, UNetConfig) and network == replace(
            other, dropout=network.dropout, checkpoint=network.checkpoint
        )

    return tuple(name for name in PRESETS if same(name))


def infer_network(state: Mapping[str, Tensor]) -> UNetConfig:
    """Return the architecture that a state dict (our names) belongs to; dropout stays at its default.

    Args:
        state: Parameters of a :class:`~proxdm.networks.UNet`.

    Raises:
        CheckpointError: It belongs to no such network; the message names the first parameter that is amiss.
    """
    try:
        config = _read_off(state)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"the parameters are not those of a DDPM U-Net ({error})") from error
    with torch.device("meta"):
        expected = build_network(config).state_dict()
    if (problem := first_difference(state, expected)) is not None:
        raise CheckpointError(f"the parameters are not those of a DDPM U-Net: {problem}")
    return config


def _read_off(state: Mapping[str, Tensor]) -> UNetConfig:
    width, channels = state["head.weight"].shape[:2]
    widths: list[list[int]] = [[]]
    attention: set[int] = set()
    blocks = {int(key.split(".")[1]) for key in state if key.startswith("down.")}
    for i in sorted(blocks):
        if f"down.{i}.conv.weight" in state:
            widths.append([])
            continue
        widths[-1].append(state[f"down.{i}.conv1.weight"].shape[0])
        if f"down.{i}.attention.out.weight" in state:
            attention.add(len(widths) - 1)
    out_channels = state["tail.2.weight"].shape[0]
    return UNetConfig(
        channels=channels,
        width=width,
        mult=tuple(level[0] // width for level in widths),
        attention=tuple(sorted(attention)),
        num_res_blocks=len(widths[0]),
        conditioning="time-lam" if "embedding.lam.out.weight" in state else "time",
        out_channels=None if out_channels == channels else out_channels,
    )


def _describe(path: Path, content: Mapping[str, object], weights: str) -> OfficialInfo:
    sets = _weight_sets(path, content)
    state = _renamed(path, sets[weights])
    try:
        network = infer_network(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not one of the paper's checkpoints: {error}") from error
    losses = content.get("train_losses")
    return OfficialInfo(
        path=path,
        network=network,
        parameters=sum(tensor.numel() for tensor in state.values()),
        weight_sets=tuple(sets),
        train_losses=len(losses) if isinstance(losses, (list, tuple, Tensor)) else 0,
    )


def _renamed(path: Path, weight_set: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in weight_set.items():
        if (ours := official_key(key)) in renamed:
            raise CheckpointError(f"{path} has two parameters that become {ours}, the second is {key}")
        renamed[ours] = value
    return renamed


def _weight_sets(path: Path, content: Mapping[str, object]) -> dict[str, Mapping[str, Tensor]]:
    """Return the weight sets by name: the prefix of `model_state_dict`, or `model` where there is none."""
    sets: dict[str, Mapping[str, Tensor]] = {}
    for key, value in content.items():
        if isinstance(key, str) and key.endswith(_SUFFIX):
            if not isinstance(value, Mapping) or not all(
                isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
            ):
                raise CheckpointError(f"{path}: {key} should map names to tensors, and does not")
            sets[key.removesuffix(_SUFFIX).rstrip("_") or "model"] = value
    if not sets:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointError(f"{path} has no weights (a key that ends in {_SUFFIX}); its keys are {keys}")
    return sets


def _read(path: Path) -> Mapping[str, object]:
    """Return the dict in the file, its tensors still on the disk where the format allows it."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; name the .pth file that you downloaded")
    _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise CheckpointError(
                f"{path} holds an object other than tensors and plain data ({found[1]}); nothing of it was executed, "
                "and it is not loaded: get the file from a source that you trust"
            ) from None
        raise CheckpointError(f"{path} is not a PyTorch checkpoint; name the .pth file itself") from error
    except Exception as error:  # bytes that are no checkpoint raise almost anything: KeyError, EOFError, RuntimeError
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) is not a PyTorch checkpoint, or is cut short; download it again"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of weights")
    return content


def _check_zip(path: Path) -> None:
    """Check the file's own checksums: PyTorch does not, and a damaged download would become damaged images."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":  # the old format has no checksums
            return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is cut short or damaged ({path.stat().st_size:,} bytes: {error}); download it again"
        ) from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (checksum of {damaged} is wrong); download it again")
