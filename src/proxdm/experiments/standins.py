"""Small stand-ins for data sets and networks that would have to be downloaded: they have the real files' form.

`proxdm reproduce --smoke` runs a whole block on them. They are made of noise from a fixed seed, so nothing that comes
out of it means anything; but every file is read by the code that reads the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from proxdm.data.latents import encode_pictures
from proxdm.data.vae import load_vae
from proxdm.errors import DataError, one_line
from proxdm.imaging import save_pictures
from proxdm.metrics.features import InputForm, save_module
from proxdm.runtime.files import replacing

FEATURES_FILE = "features.pt"
"""A TorchScript module in place of the Inception network: 3 features, the means of the channels."""

VAE_FOLDER = "vae"
"""An autoencoder with random weights in place of the paper's: 4 x 32 x 32 for pictures of 64 x 64."""

IMAGES = 40
"""Pictures of a stand-in: more than features, so that their covariance is regular."""

_SEED = 0


def make_standins(dataset: str, root: Path) -> None:
    """Write the stand-in of a data set, and what goes with it, into a folder; what is there already is kept."""
    root.mkdir(parents=True, exist_ok=True)
    _MAKERS[dataset](root)
    if not (root / FEATURES_FILE).exists():
        save_module(Means().eval(), root / FEATURES_FILE, InputForm("means", (-1.0, 1.0), 3))


class Means(nn.Module):
    """Means of the channels of a picture, `(B, 3, H, W)` to `(B, 3)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        return x.mean((2, 3))


def _pictures(channels: int, size: int) -> NDArray[np.uint8]:
    """Return pictures of coarse noise, uint8 `(n, C, size, size)`."""
    coarse = np.random.default_rng(_SEED).integers(0, 256, (IMAGES, channels, 4, 4), dtype=np.uint8)
    return coarse.repeat(size // 4, axis=2).repeat(size // 4, axis=3)


def _write(path: Path, content: bytes) -> None:
    if not path.exists():
        with replacing(path) as part:
            part.write_bytes(content)


def _mnist(root: Path) -> None:
    """Write an IDX file: magic number (uint8, 3 dimensions), sizes, pixels."""
    pixels = _pictures(1, 28)[:, 0]
    header = np.array([0x0803, *pixels.shape], dtype=">i4").tobytes()
    _write(root / "train-images-idx3-ubyte", header + pixels.tobytes())


def _cifar10(root: Path) -> None:
    """Write five batches of the binary version: rows of a label and 3 planes."""
    rows = np.pad(_pictures(3, 32).reshape(IMAGES, -1), ((0, 0), (1, 0)))
    for number, part in enumerate(np.split(rows, 5), 1):
        _write(root / "cifar-10-batches-bin" / f"data_batch_{number}.bin", part.tobytes())


def _celebahq_latents(root: Path) -> None:
    """Write pictures, an autoencoder, and the latents that it makes of them."""
    folder, latents, vae = root / "pictures", root / "celebahq-latents.npy", root / VAE_FOLDER
    if latents.exists():
        return
    folder.mkdir(exist_ok=True)
    save_pictures(torch.from_numpy(_pictures(3, 64)), folder, 0)
    if not vae.exists():
        part = root / f".{VAE_FOLDER}.part"
        _autoencoder(part)
        part.rename(vae)
    encode_pictures(folder, latents, load_vae(str(vae)), size=64)


def _autoencoder(folder: Path) -> None:
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise DataError(f'VAE latents need diffusers ({one_line(error)}): pip install "proxdm[diffusers]"') from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        module: Any = AutoencoderKL(
            block_out_channels=(4, 4),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=2,
            latent_channels=4,
            sample_size=64,
            scaling_factor=0.18215,
        )
    module.save_pretrained(folder, safe_serialization=True)


_MAKERS: dict[str, Callable[[Path], None]] = {
    "mnist": _mnist,
    "cifar10": _cifar10,
    "celebahq-latents": _celebahq_latents,
}
