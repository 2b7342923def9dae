"""Weights published with the paper (arXiv 2507.08956), read from its `.pth` files.

Such a file is a dict with one or more weight sets (`model_state_dict`: the last weights, named `model` here;
`ema0.9999_model_state_dict`: their moving average, named `ema0.9999`) and perhaps `optimizer_state_dict` and
`train_losses`. Every key of a weight set carries the prefix `model.`; :data:`KEY_MAP` turns it into ours, one to one.

A wrong preset is recognised. Files are read with `weights_only=True`: nothing in them is ever executed.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from proxdm.checkpoints.portable import first_difference, without_wrappers
from proxdm.config import ModelConfig
from proxdm.errors import CheckpointError
from proxdm.models import LearnedModel
from proxdm.networks import UNet, UNetConfig
from proxdm.presets import PRESETS, get_preset

OFFICIAL_WEIGHTS = "ema0.9999"
"""The weight set that the paper's results were made with."""

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
class OfficialFile:
    """What an official file holds."""

    weight_sets: Mapping[str, Mapping[str, Tensor]]  # State dicts under our names, by the name of the weight set
    network: UNetConfig  # Architecture, read off the shapes; its dropout is the default, for weights do not show it

    @property
    def kind(self) -> Literal["score", "prox"]:
        """`score` or `prox`."""
        return "score" if self.network.conditioning == "time" else "prox"

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(tensor.numel() for tensor in next(iter(self.weight_sets.values())).values())

    def __str__(self) -> str:
        channels = f"{self.network.channels} channels, {self.network}"
        return f"a {self.kind} network of {self.parameters:,} parameters ({channels})"


def read_official(path: str | Path) -> OfficialFile:
    """Return what an official file holds, without building a network."""
    path = Path(path)
    content = _read(path)
    sets: dict[str, Mapping[str, Tensor]] = {}
    for key, value in content.items():
        if isinstance(key, str) and key.endswith(_SUFFIX):
            sets[key.removesuffix(_SUFFIX).rstrip("_") or "model"] = _renamed(path, key, value)
    if not sets:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise CheckpointError(f"{path} has no weights (a key that ends in {_SUFFIX}); its keys are {keys}")
    try:
        network = infer_network(next(iter(sets.values())))
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path} is not one of the paper's checkpoints, a DDPM U-Net: {error}") from error
    return OfficialFile(sets, network)


def build_official(path: str | Path, config: ModelConfig, weights: str = OFFICIAL_WEIGHTS) -> LearnedModel:
    """Return a model of that configuration with the weights of an official file, in evaluation mode, on the CPU."""
    file = read_official(path)
    if weights not in file.weight_sets:
        raise CheckpointError(f"{path} has no weights named {weights!r}; it has {', '.join(file.weight_sets)}")
    state, model = file.weight_sets[weights], config.build()
    if (problem := first_difference(state, model.network.state_dict())) is not None:
        presets = ", ".join(_fitting_presets(file.network)) or "no preset"
        raise CheckpointError(f"{path} does not fit the model: {problem}; the file holds {file}, which fits {presets}")
    model.network.load_state_dict(state)
    return model.eval()


def _fitting_presets(network: UNetConfig) -> list[str]:
    """Return the names of the presets with this architecture; what weights do not show may differ."""
    networks = {name: get_preset(name).model.network for name in PRESETS}
    return [
        name
        for name, own in networks.items()
        if isinstance(own, UNetConfig)
        and network == replace(own, dropout=network.dropout, checkpoint=network.checkpoint)
    ]


def infer_network(state: Mapping[str, Tensor]) -> UNetConfig:
    """Return the architecture of a DDPM U-Net with these parameters (our names); dropout stays at its default."""
    width, channels = state["head.weight"].shape[:2]
    widths: list[list[int]] = [[]]
    attention: set[int] = set()
    for i in range(1 + max((int(key.split(".")[1]) for key in state if key.startswith("down.")), default=-1)):
        if f"down.{i}.conv.weight" in state:
            widths.append([])
            continue
        widths[-1].append(state[f"down.{i}.conv1.weight"].shape[0])
        if f"down.{i}.attention.out.weight" in state:
            attention.add(len(widths) - 1)
    out_channels = state["tail.2.weight"].shape[0]
    config = UNetConfig(
        channels=channels,
        width=width,
        mult=tuple(level[0] // width for level in widths),
        attention=tuple(sorted(attention)),
        num_res_blocks=len(widths[0]),
        conditioning="time-lam" if "embedding.lam.out.weight" in state else "time",
        out_channels=None if out_channels == channels else out_channels,
    )
    with torch.device("meta"):
        expected = UNet(config).state_dict()
    if (problem := first_difference(state, expected)) is not None:
        raise CheckpointError(problem)
    return config


def _renamed(path: Path, name: str, weights: object) -> dict[str, Tensor]:
    if not isinstance(weights, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        raise CheckpointError(f"{path}: {name} should map names to tensors, and does not")
    renamed: dict[str, Tensor] = {}
    for key, value in without_wrappers(weights).items():
        ours = key
        for pattern, replacement in KEY_MAP:
            ours = re.sub(pattern, replacement, ours)
        if ours in renamed:
            raise CheckpointError(f"{path} has two parameters that become {ours}, the second is {key}")
        renamed[ours] = value
    return renamed


def _read(path: Path) -> Mapping[str, object]:
    """Return the dict in the file, its tensors still on the disk where the format allows it."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; name the .pth file that you downloaded")
    with path.open("rb") as file:
        archive = file.read(2) == b"PK"  # the old format has no checksums
    damaged, content = None, None
    try:
        if archive:  # PyTorch does not look at the checksums, and a damaged download would become damaged images
            with zipfile.ZipFile(path) as opened:
                damaged = opened.testzip()
        if damaged is None:
            with warnings.catch_warnings(action="ignore"):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
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
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged (checksum of {damaged} is wrong); download it again")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of weights")
    return content
