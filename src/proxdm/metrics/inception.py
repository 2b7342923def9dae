"""The FID Inception network: pytorch-fid's, with the weights that it ported, loaded without its download.

InceptionV3 (Szegedy et al. 2016, arXiv 1512.00567) as in the graph of 2015-12-05 on which every FID rests (Heusel et
al. 2017): torchvision's network with pytorch-fid's blocks, whose average pools do not count the padding and whose last
block takes a maximum instead of an average.

Images are `(B, 3, 299, 299)` in [-1, 1], features the `(B, 2048)` spatial means before the classifier.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from proxdm.errors import ProxdmError, one_line
from proxdm.runtime.digests import sha256_of

WEIGHTS_FILE = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS_FILE}"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Checksum of the weights that published FIDs use."""

SIZE = 299


class FeatureError(ProxdmError, ValueError):
    """A feature extractor cannot be loaded, or does not fit the images."""


def fid_inception() -> nn.Module:
    """Return the network without values, on the meta device: `(B, 3, 299, 299)` in [-1, 1] to features `(B, 2048)`.

    It is what `pytorch_fid.inception.fid_inception_v3` makes, but for the weights, which that downloads unchecked.
    """
    from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
    from torchvision.models import inception_v3

    with torch.device("meta"):  # without memory, and without drawing weights that would be replaced
        network: nn.Module = inception_v3(weights=None, aux_logits=False, init_weights=False)
        for name, block in {
            "Mixed_5b": FIDInceptionA(192, pool_features=32),
            "Mixed_5c": FIDInceptionA(256, pool_features=64),
            "Mixed_5d": FIDInceptionA(288, pool_features=64),
            "Mixed_6b": FIDInceptionC(768, channels_7x7=128),
            "Mixed_6c": FIDInceptionC(768, channels_7x7=160),
            "Mixed_6d": FIDInceptionC(768, channels_7x7=160),
            "Mixed_6e": FIDInceptionC(768, channels_7x7=192),
            "Mixed_7b": FIDInceptionE_1(1280),
            "Mixed_7c": FIDInceptionE_2(2048),
            "fc": nn.Identity(),
        }.items():
            setattr(network, name, block)
    return network


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


def load_inception(weights: Path | None = None) -> tuple[nn.Module, str]:
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
    network = fid_inception()
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
