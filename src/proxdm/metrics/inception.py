r"""The FID Inception network, without the TensorFlow graph it comes from.

InceptionV3 (Szegedy et al. 2016, arXiv 1512.00567) as in the graph of 2015-12-05 on which every FID rests (Heusel et
al. 2017), with the weights that pytorch-fid ported. It differs from torchvision's network in its pooling branches:
average pools do not count the padding, and the last block takes a maximum instead of an average. Parameters have
torchvision's names, so that the weights fit.

Images are `(B, 3, 299, 299)` in [-1, 1], features the `(B, 2048)` spatial means before the classifier.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxdm.errors import ProxdmError, one_line
from proxdm.runtime.digests import sha256_of

WEIGHTS_FILE = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS_FILE}"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Checksum of the weights that published FIDs use."""

DIM = 2048
SIZE = 299

Pool = Literal["average", "max", "max, half"]
"""Pooling branch: an average without the padding, a maximum, or a maximum that halves the picture."""


class FeatureError(ProxdmError, ValueError):
    """A feature extractor cannot be loaded, or does not fit the images."""


class _Conv(NamedTuple):
    """A convolution of a branch: channels, kernel (height, width), stride. Strided ones are not padded."""

    channels: int
    height: int
    width: int
    stride: int = 1


class _Fork(NamedTuple):
    """Two convolutions of the same input at the end of a branch, their outputs joined."""

    a: _Conv
    b: _Conv


def _square(channels: int, kernel: int, stride: int = 1) -> _Conv:
    return _Conv(channels, kernel, kernel, stride)


_Branches = dict[str, list[_Conv | _Fork]]
_WIDE, _TALL = _Conv(384, 1, 3), _Conv(384, 3, 1)


def _block_a() -> _Branches:
    return {
        "branch1x1": [_square(64, 1)],
        "branch5x5": [_square(48, 1), _square(64, 5)],
        "branch3x3dbl": [_square(64, 1), _square(96, 3), _square(96, 3)],
    }


def _block_b() -> _Branches:
    return {
        "branch3x3": [_square(384, 3, 2)],
        "branch3x3dbl": [_square(64, 1), _square(96, 3), _square(96, 3, 2)],
    }


def _block_c(inner: int) -> _Branches:
    wide, tall = _Conv(inner, 1, 7), _Conv(inner, 7, 1)
    return {
        "branch1x1": [_square(192, 1)],
        "branch7x7": [_square(inner, 1), wide, _Conv(192, 7, 1)],
        "branch7x7dbl": [_square(inner, 1), tall, wide, tall, _Conv(192, 1, 7)],
    }


def _block_d() -> _Branches:
    return {
        "branch3x3": [_square(192, 1), _square(320, 3, 2)],
        "branch7x7x3": [_square(192, 1), _Conv(192, 1, 7), _Conv(192, 7, 1), _square(192, 3, 2)],
    }


def _block_e() -> _Branches:
    return {
        "branch1x1": [_square(320, 1)],
        "branch3x3": [_square(384, 1), _Fork(_WIDE, _TALL)],
        "branch3x3dbl": [_square(448, 1), _square(384, 3), _Fork(_WIDE, _TALL)],
    }


class ConvBlock(nn.Module):
    """Convolution without bias, batch normalisation (eps 1e-3), ReLU: `(B, C, H, W)` to `(B, C', H', W')`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], *, stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class MixedBlock(nn.Module):
    """Branches side by side, their outputs joined as channels; the pooling branch comes last.

    Attributes:
        outputs: Number of channels that come out.
    """

    def __init__(self, inputs: int, branches: _Branches, pool: Pool, pool_channels: int = 0) -> None:
        """Build the branches.

        Args:
            inputs: Channels that come in.
            branches: Convolutions of each branch, by the name its parameters have.
            pool: What the pooling branch does.
            pool_channels: Channels of the 1x1 convolution after it; 0 is none.
        """
        super().__init__()
        self._pool = pool
        self._chains: list[list[list[str]]] = []
        self.outputs = pool_channels or inputs
        for branch, steps in branches.items():
            width, chain = inputs, []
            for number, step in enumerate(steps, 1):
                suffix = "" if len(steps) == 1 else f"_{number}"
                parts = (
                    {f"{branch}{suffix}{letter}": conv for letter, conv in zip("ab", step, strict=True)}
                    if (isinstance(step, _Fork))
                    else {f"{branch}{suffix}": step}
                )
                for name, conv in parts.items():
                    padding = (conv.height // 2, conv.width // 2) if conv.stride == 1 else (0, 0)
                    block = ConvBlock(width, conv.channels, conv[1:3], stride=conv.stride, padding=padding)
                    self.add_module(name, block)
                width = sum(conv.channels for conv in parts.values())
                chain.append(list(parts))
            self._chains.append(chain)
            self.outputs += width
        self.branch_pool = ConvBlock(inputs, pool_channels, (1, 1)) if pool_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, outputs, H', W')` for `(B, inputs, H, W)`."""
        outputs = []
        for chain in self._chains:
            y = x
            for names in chain:
                y = torch.cat([self.get_submodule(name)(y) for name in names], dim=1)
            outputs.append(y)
        return torch.cat([*outputs, self.branch_pool(self._pooled(x))], dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self._pool == "average":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return F.max_pool2d(x, 3, stride=1, padding=1) if self._pool == "max" else F.max_pool2d(x, 3, stride=2)


class FidInception(nn.Module):
    """The FID Inception network: `(B, 3, 299, 299)` in [-1, 1] to features `(B, 2048)`."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBlock(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = ConvBlock(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = ConvBlock(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = ConvBlock(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = ConvBlock(80, 192, (3, 3))
        self.Mixed_5b = MixedBlock(192, _block_a(), "average", 32)
        self.Mixed_5c = MixedBlock(256, _block_a(), "average", 64)
        self.Mixed_5d = MixedBlock(288, _block_a(), "average", 64)
        self.Mixed_6a = MixedBlock(288, _block_b(), "max, half")
        self.Mixed_6b = MixedBlock(768, _block_c(128), "average", 192)
        self.Mixed_6c = MixedBlock(768, _block_c(160), "average", 192)
        self.Mixed_6d = MixedBlock(768, _block_c(160), "average", 192)
        self.Mixed_6e = MixedBlock(768, _block_c(192), "average", 192)
        self.Mixed_7a = MixedBlock(768, _block_d(), "max, half")
        self.Mixed_7b = MixedBlock(1280, _block_e(), "average", 192)
        self.Mixed_7c = MixedBlock(2048, _block_e(), "max", 192)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features `(B, 2048)` of images `(B, 3, 299, 299)` in [-1, 1]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def weights_path() -> Path:
    """Return where the weights are kept: torch's hub folder (`TORCH_HOME`), which pytorch-fid uses too."""
    return Path(torch.hub.get_dir(), "checkpoints", WEIGHTS_FILE)


def fetch_weights() -> Path:
    """Return the file of the usual weights (95.6 MB), downloaded unless it is there, its checksum verified.

    Raises:
        FeatureError: It cannot be downloaded, or the file that is there or arrives has another checksum.
    """
    path = weights_path()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(WEIGHTS_URL, str(path), hash_prefix=WEIGHTS_SHA256)
        except (URLError, OSError, RuntimeError) as error:
            raise FeatureError(
                f"the Inception weights cannot be downloaded from {WEIGHTS_URL} ({one_line(error)}); fetch the file "
                f"elsewhere and put it at {path}, or name it with --inception-weights"
            ) from error
    if (found := sha256_of(path)) != WEIGHTS_SHA256:
        raise FeatureError(
            f"{path} is damaged: its SHA-256 is {found[:12]}..., it must be {WEIGHTS_SHA256[:12]}...; delete it, and "
            "it will be downloaded again"
        )
    return path


def load_inception(weights: Path | None = None) -> tuple[FidInception, str]:
    """Return the network in eval mode on the CPU, and the SHA-256 of its weights.

    Args:
        weights: File of a state dict; None is :func:`fetch_weights`. With others than the usual weights there is a
            warning, as no published number can be compared with theirs.

    Raises:
        FeatureError: The weights are not there, broken, or of another network.
    """
    path = fetch_weights() if weights is None else weights
    if not path.is_file():
        raise FeatureError(f"there is no file {path}; give the path of {WEIGHTS_FILE}")
    state, digest = _read_state(path), sha256_of(path)
    with torch.device("meta"):  # without memory, and without drawing weights that would be replaced
        network = FidInception()
    weights_of: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):  # a count of training steps, which old files lack
            weights_of[name] = torch.zeros((), dtype=torch.long)
            continue
        if name not in state or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if name in state else "missing"
            raise FeatureError(
                f"{path} does not hold the FID Inception network: {name} must be {tuple(tensor.shape)} and is {found}; "
                f"give the path of {WEIGHTS_FILE}"
            )
        weights_of[name] = state[name].to(torch.float32)
    network.load_state_dict(weights_of, assign=True)
    if digest != WEIGHTS_SHA256:
        warnings.warn(
            f"{path.name} holds other weights than {WEIGHTS_FILE}: its numbers cannot be compared with published FIDs",
            stacklevel=2,
        )
    return network.eval().requires_grad_(False), digest


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise FeatureError(
            f"{path} cannot be read as weights ({one_line(error)[:200]}); download {WEIGHTS_FILE} again"
        ) from error
    if not isinstance(state, Mapping):
        raise FeatureError(f"{path} holds a {type(state).__name__}, not a state dict; give the path of {WEIGHTS_FILE}")
    return {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
