"""The FID Inception network: pytorch-fid's, with the weights that it ported, loaded without its download.

InceptionV3 (Szegedy et al. 2016, arXiv 1512.00567) as in the graph of 2015-12-05 on which every FID rests (Heusel et
al. 2017): torchvision's network with pytorch-fid's blocks, whose average pools do not count the padding and whose last
block takes a maximum instead of an average.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from proxdm.errors import ProxdmError, one_line
from proxdm.runtime.files import sha256_of

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
    """Return the file of the usual weights (95.6 MB), downloaded unless it is there, its checksum verified."""
    path = weights_path()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(WEIGHTS_URL, str(path), hash_prefix=WEIGHTS_SHA256)
        except (URLError, OSError, RuntimeError) as error:
            raise FeatureError(
                f"the Inception weights cannot be downloaded from {WEIGHTS_URL} ({one_line(error)}); put the file at "
                f"{path}, or name it with --inception-weights"
            ) from error
    if (found := sha256_of(path)) != WEIGHTS_SHA256:
        raise FeatureError(
            f"{path} is damaged: its SHA-256 is {found[:12]}..., not {WEIGHTS_SHA256[:12]}...; delete it, and it will "
            "be downloaded again"
        )
    return path


def load_inception(weights: Path | None = None) -> tuple[nn.Module, str]:
    """Return the network in eval mode on the CPU, and the SHA-256 of its weights, which :func:`fetch_weights` gets.

    With the file of another state dict there is a warning, as no published number can be compared with its features.
    Batch norms are folded into the convolutions before them, and channels are last: faster.
    """
    from torchvision.models.inception import BasicConv2d

    path = fetch_weights() if weights is None else weights
    if not path.is_file():
        raise FeatureError(f"there is no file {path}; give the path of {WEIGHTS_FILE}")
    network = fid_inception()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        values = {name: tensor.float() for name, tensor in state.items() if not name.startswith("fc.")}
        network.load_state_dict(values, assign=True)
    except Exception as error:  # torch raises whatever comes to its mind
        raise FeatureError(
            f"{path} cannot be read as weights of the FID Inception network ({one_line(error)[:200]}); give the path "
            f"of {WEIGHTS_FILE}"
        ) from error
    if (digest := sha256_of(path)) != WEIGHTS_SHA256:
        warnings.warn(
            f"{path.name} holds other weights than {WEIGHTS_FILE}: its numbers cannot be compared with published FIDs",
            stacklevel=2,
        )
    network.eval().requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, BasicConv2d):
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    return network.to(memory_format=torch.channels_last), digest
