"""Tiny networks of diffusers with random weights, and priors for them."""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from proxdm.priors import GainCurve, GaussianPrior, fit_prior


def unet(channels: int = 1, **options) -> UNet2DModel:
    """A network of 8x8 pictures whose output is of the size of noise."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=channels, out_channels=channels, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, **options,
    ).eval()  # fmt: skip


def pipeline(**scheduler) -> DDPMPipeline:
    """A pipeline of the tiny network."""
    return DDPMPipeline(unet(), DDPMScheduler(**scheduler))


def prior(shape=(1, 8, 8), start: float = 3.0) -> GaussianPrior:
    """A prior of random pictures, with a gain curve that crosses every threshold near `start`."""
    images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    fitted = fit_prior(images, components=1)
    return replace(fitted, curve=GainCurve((start / 2, start), (0.1, 1.0), 8, "of a test"))
