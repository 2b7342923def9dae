r"""The U-Net of DDPM (Ho et al. 2020, arXiv 2006.11239), conditioned on `t` or on `(t, lam)`, and on a class.

Per level `num_res_blocks` residual blocks, strided 3x3 convolutions down, a middle of two blocks, one more block per
level on the way up with skip concatenation, nearest-neighbour x2 and 3x3 up; self-attention on the listed levels and
in the first middle block. With the settings of arXiv 2507.08956 the parameters, and the arithmetic, are those of the
paper's networks.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from proxdm.errors import check_at_least
from proxdm.networks.embeddings import ConditionEmbedding, Conditioning, check_conditioning, check_conditions


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a :class:`UNet`; the defaults are the paper's CIFAR-10 score network."""

    channels: int = 3  # Channels of the input.
    width: int = 128  # Channels at the first level (`ch`), even and at least 4; the embedding is four times as wide.
    mult: tuple[int, ...] = (1, 2, 2, 2)  # Width multiplier of every level, from fine to coarse.
    attention: tuple[int, ...] = (1,)  # Levels (0 is the finest) with self-attention.
    num_res_blocks: int = 2  # Residual blocks per level on the way down.
    dropout: float = 0.1  # Dropout probability inside the residual blocks, in [0, 1).
    conditioning: Conditioning = "time"  # `time` (score networks) or `time-lam` (prox networks).
    out_channels: int | None = None  # Channels of the output; None means `channels`.
    # Space-to-depth factor at the input, undone at the output: the network works on images smaller by this factor, and
    # where input and output have as many channels, the input times a learned function of the conditions, one factor for
    # every pixel of a patch, is added to the output. 1 changes nothing.
    patch: int = 1
    checkpoint: bool = False  # Recompute activations in the backward pass: less memory, more time, the same gradients.
    log_lam: bool = False  # Embed `log(lam)` in place of `lam`.
    classes: int = 0  # Number of classes that the network is told of; 0 for none.

    def __post_init__(self) -> None:
        """Reject architectures that cannot be built."""
        check_conditioning(self.conditioning, self.width, self.dropout, self.classes, log_lam=self.log_lam)
        check_at_least(self, channels=1, num_res_blocks=1, patch=1, out_channels=1)
        if not self.mult or min(self.mult) < 1:
            raise ValueError(f"mult = {self.mult} must hold one multiplier of at least 1 for every level")
        if wrong := [level for level in self.attention if not 0 <= level < len(self.mult)]:
            raise ValueError(f"attention level {wrong[0]} does not exist: mult has levels 0 to {len(self.mult) - 1}")

    def check(self, shape: tuple[int, ...], conditions: int) -> None:
        """Raise a ValueError if a network of these settings does not take such samples or conditions."""
        check_conditions(self.conditioning, conditions)
        self.check_shape(shape)
        if self.out_channels not in (None, self.channels):
            raise ValueError(f"out_channels = {self.out_channels} must be channels = {self.channels}, as in the input")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise a ValueError if a network of these settings does not take samples of this shape."""
        if len(shape) != 3 or shape[0] != self.channels:
            raise ValueError(f"samples of shape {tuple(shape)} must have shape ({self.channels}, height, width)")
        multiple, (height, width) = self.patch * 2 ** (len(self.mult) - 1), shape[1:]
        if height % multiple or width % multiple or not height or not width:
            fits = "x".join(str(max(1, math.ceil(side / multiple)) * multiple) for side in (height, width))
            raise ValueError(
                f"samples of {height}x{width} must have sides that are multiples of {multiple} (patch times "
                f"2^(levels - 1)), such as {fits}; pad or resize them"
            )

    def build(self, shape: tuple[int, ...], conditions: int) -> UNet:
        """Return the network, freshly initialised (see :class:`proxdm.networks.NetworkConfig`)."""
        return UNet(self)

    def __str__(self) -> str:
        attention = ", ".join(map(str, self.attention)) or "none"
        return (
            f"U-Net of width {self.width}, multipliers {'-'.join(map(str, self.mult))}, attention on levels "
            f"{attention}, {self.num_res_blocks} residual blocks a level, dropout {self.dropout:g}"
            + (f", {self.classes} classes" if self.classes else "")
        )


def group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with DDPM's 32 groups, or `gcd(32, channels)` where 32 does not divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def _scaled(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Conv2d | nn.Linear:
    """Initialise as DDPM does: Xavier uniform weights, zero biases."""
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


NEARLY_ZERO = 1e-5
"""Gain of the last convolution of every residual branch at the start: each block begins as the identity."""


class SelfAttention(nn.Module):
    """`x + out(softmax(q k^T / sqrt(C)) v)` over the pixels of GroupNorm(x), one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.query = _scaled(nn.Conv2d(channels, channels, 1))
        self.key = _scaled(nn.Conv2d(channels, channels, 1))
        self.value = _scaled(nn.Conv2d(channels, channels, 1))
        self.out = _scaled(nn.Conv2d(channels, channels, 1), NEARLY_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` `(B, C, H, W)` plus what its pixels tell each other."""
        h = self.norm(x)
        # Tokens (B, 1, H W, C), contiguous, which the fast kernels ask for.
        layers = (self.query, self.key, self.value)
        q, k, v = (layer(h).flatten(2).transpose(1, 2).unsqueeze(1).contiguous() for layer in layers)
        out: Tensor = x + self.out(_attend(q, k, v).squeeze(1).transpose(1, 2).reshape(x.shape))
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return `softmax(q k^T / sqrt(C)) v` for tokens `(B, 1, H W, C)`.

    In bfloat16 on a CPU the fused kernel has no fast products: two matrix products are 1.5 times as fast, and up to 7
    times with the backward pass.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3; plus the embedding; GroupNorm, SiLU, dropout, 3x3; plus the input, attention.

    A 1x1 convolution carries the input over where the channels differ; `embedding` is the width of the embedding.
    """

    def __init__(self, in_channels: int, out_channels: int, embedding: int, dropout: float, *, attention: bool) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = _scaled(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.condition = _scaled(nn.Linear(embedding, out_channels))
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _scaled(nn.Conv2d(out_channels, out_channels, 3, padding=1), NEARLY_ZERO)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else _scaled(nn.Conv2d(in_channels, out_channels, 1))
        self.attention = SelfAttention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return features `(B, out_channels, H, W)` from `x` `(B, in_channels, H, W)` and the embedding `(B, E)`."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.condition(F.silu(embedding))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        out: Tensor = self.attention(h + self.shortcut(x))
        return out


class UNet(nn.Module):
    """DDPM's U-Net."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, depth = config.width, config.patch**2
        out_channels = config.channels if config.out_channels is None else config.out_channels
        self.embedding = ConditionEmbedding(
            config.conditioning, width, 4 * width, log_lam=config.log_lam, classes=config.classes
        )
        for layer in self.embedding.modules():
            if isinstance(layer, nn.Linear):
                _scaled(layer)
        self.head = _scaled(nn.Conv2d(config.channels * depth, width, 3, padding=1))
        self.down, skips = self._way_down()
        coarse = skips[-1]
        self.middle = nn.ModuleList([self._block(coarse, coarse, True), self._block(coarse, coarse, False)])
        self.up = self._way_up(skips)
        self.tail = nn.Sequential(
            group_norm(width * config.mult[0]),
            nn.SiLU(),
            _scaled(nn.Conv2d(width * config.mult[0], out_channels * depth, 3, padding=1), NEARLY_ZERO),
        )
        # Noise predictions contain the input itself, to a degree that depends on t and lam. All pixels of a patch would
        # have to pass through `width` channels and two normalisations unharmed: what is lost there stays as noise.
        self.bypass = None
        if config.patch > 1 and out_channels == config.channels:
            self.bypass = _scaled(nn.Linear(4 * width, out_channels * depth), NEARLY_ZERO)

    def _block(self, in_channels: int, out_channels: int, attention: bool) -> ResidualBlock:
        config = self.config
        return ResidualBlock(in_channels, out_channels, 4 * config.width, config.dropout, attention=attention)

    def _way_down(self) -> tuple[nn.ModuleList, list[int]]:
        """Return the blocks on the way down and the channels of every skip connection, the head's first."""
        blocks, skips = nn.ModuleList(), [self.config.width]
        for level, factor in enumerate(self.config.mult):
            for _ in range(self.config.num_res_blocks):
                wide = self.config.width * factor
                blocks.append(self._block(skips[-1], wide, level in self.config.attention))
                skips.append(wide)
            if level < len(self.config.mult) - 1:
                conv = _scaled(nn.Conv2d(skips[-1], skips[-1], 3, stride=2, padding=1))
                blocks.append(nn.Sequential(OrderedDict(conv=conv)))
                skips.append(skips[-1])
        return blocks, skips

    def _way_up(self, skips: list[int]) -> nn.ModuleList:
        """Return the blocks on the way up, each of which takes the last remaining skip connection."""
        blocks, channels, remaining = nn.ModuleList(), skips[-1], list(skips)
        for level, factor in reversed(list(enumerate(self.config.mult))):
            for _ in range(self.config.num_res_blocks + 1):
                wide = self.config.width * factor
                blocks.append(self._block(channels + remaining.pop(), wide, level in self.config.attention))
                channels = wide
            if level > 0:
                larger = nn.Upsample(scale_factor=2.0, mode="nearest")
                conv = _scaled(nn.Conv2d(channels, channels, 3, padding=1))
                blocks.append(nn.Sequential(OrderedDict(larger=larger, conv=conv)))
        return blocks

    def forward(self, x: Tensor, t: Tensor, lam: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the output `(B, out_channels, H, W)`, in the dtype of `x` `(B, channels, H, W)`.

        t, lam and labels are `(B,)`; no labels, or the number of classes for one, say nothing of the class.
        """
        self.config.check_shape(x.shape[1:])
        embedding = self.embedding(t, lam, labels)
        patches = x if self.config.patch == 1 else F.pixel_unshuffle(x, self.config.patch)
        h = self.head(patches)
        skips = [h]
        for block in self.down:
            h = self._run(block, h, embedding)
            skips.append(h)
        for block in self.middle:
            h = self._run(block, h, embedding)
        for block in self.up:
            if isinstance(block, ResidualBlock):
                h = torch.cat([h, skips.pop()], dim=1)
            h = self._run(block, h, embedding)
        out: Tensor = self.tail(h)
        if self.bypass is not None:
            out = out + self.bypass(F.silu(embedding))[:, :, None, None] * patches
        return (out if self.config.patch == 1 else F.pixel_shuffle(out, self.config.patch)).to(x.dtype)

    def _run(self, block: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
        inputs = (h, embedding) if isinstance(block, ResidualBlock) else (h,)
        if self.config.checkpoint and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)  # type: ignore[no-any-return]
        return block(*inputs)  # type: ignore[no-any-return]
