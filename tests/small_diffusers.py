"""Tiny networks of diffusers with random weights."""

from __future__ import annotations

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DConditionModel, UNet2DModel


def unet(channels: int = 1, **options) -> UNet2DModel:
    """A network of 8x8 pictures whose output is of the size of noise."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=channels, out_channels=channels, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, **options,
    ).eval()  # fmt: skip


def conditional_unet() -> UNet2DConditionModel:
    """A network of 8x8 latents that is told an embedding `(B, 4, 8)`."""
    torch.manual_seed(2)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, attention_head_dim=4,
    ).eval()  # fmt: skip


def pipeline(**scheduler) -> DDPMPipeline:
    """A pipeline of the tiny network."""
    return DDPMPipeline(unet(), DDPMScheduler(**scheduler))
