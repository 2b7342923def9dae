"""The autoencoder between pictures and latents: an `AutoencoderKL` of diffusers (`proxdm[diffusers]`) with its scaling.

A latent is `z = scaling_factor (h - shift)`, h the mean of the encoder's distribution or a draw from it. The paper
uses `stabilityai/sd-vae-ft-ema` (scaling factor 0.18215, shift 0; 4 x 32 x 32 for pictures of 256 x 256).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from proxdm.errors import DataError, one_line

DEFAULT_VAE = "stabilityai/sd-vae-ft-ema"
"""The paper's autoencoder, a name on the Hugging Face Hub."""


@dataclass(frozen=True, eq=False)
class LatentCoder:
    """An autoencoder of diffusers with its scaling."""

    module: Any  # The `AutoencoderKL`, in eval mode
    name: str  # Where it came from

    @property
    def scaling_factor(self) -> float:
        """Factor of the latents."""
        return float(self.module.config.scaling_factor)

    @property
    def shift(self) -> float:
        """What is subtracted before scaling; 0 for autoencoders that have none."""
        return float(getattr(self.module.config, "shift_factor", None) or 0.0)

    @property
    def reduction(self) -> int:
        """Pixels per latent position, in one direction."""
        return 1 << (len(self.module.config.block_out_channels) - 1)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of the latent of a picture; an error if the autoencoder does not divide it evenly."""
        if height % self.reduction or width % self.reduction:
            raise DataError(
                f"pictures of {width}x{height} do not fit {self.name}: give a size= that is a multiple of "
                f"{self.reduction}"
            )
        return int(self.module.config.latent_channels), height // self.reduction, width // self.reduction

    def weights_digest(self) -> str:
        """Return the SHA-256 of all weights as float32, in the order of their names."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.module.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the latents of pictures `(B, 3, H, W)` in [-1, 1]: the mean, or with noise z `mean + std z`."""
        dist = self.module.encode(images.to(self.module.device, self.module.dtype)).latent_dist
        hidden = dist.mean.float()
        if noise is not None:
            hidden = hidden + dist.std.float() * noise.to(hidden.device)
        if not torch.isfinite(hidden).all():
            raise DataError(f"{self.name} in {self.module.dtype} gave latents that are not finite; use dtype float32")
        latents: Tensor = (hidden - self.shift) * self.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor, *, batch_size: int = 16) -> Tensor:
        """Return the pictures of latents `(n, C, h, w)`: float32 `(n, 3, H, W)`, about [-1, 1], not clipped."""
        hidden = latents.float() / self.scaling_factor + self.shift
        parts = torch.split(hidden.to(self.module.device, self.module.dtype), batch_size)
        return torch.cat([self.module.decode(part).sample.float() for part in parts])


def load_vae(
    name: str = DEFAULT_VAE, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LatentCoder:
    """Return an autoencoder from the Hugging Face Hub or a folder.

    `name` is one on the hub, or the folder of a saved `AutoencoderKL`; only safetensors weights are read. float16 is
    known to overflow in some autoencoders. A DataError says that diffusers is missing, or what is wrong with it.
    """
    try:
        from diffusers import AutoencoderKL, VQModel
    except ImportError as error:
        raise DataError(f'VAE latents need diffusers ({one_line(error)}): pip install "proxdm[diffusers]"') from error
    try:
        config = AutoencoderKL.load_config(name)
        kind = VQModel if config.get("_class_name") == "VQModel" else AutoencoderKL
        module = kind.from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise DataError(f"the autoencoder {name} cannot be loaded: {one_line(error)}") from error
    return LatentCoder(module.to(device=device, dtype=dtype).eval().requires_grad_(False), name)
