r"""A residual MLP for vectors and tiny images, with the same interface and conditioning as the U-Net."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proxdm.errors import check_at_least
from proxdm.networks.embeddings import ConditionEmbedding, Conditioning, check_conditioning, check_conditions


@dataclass(frozen=True)
class MLPConfig:
    """Architecture of an :class:`MLP`."""

    dim: int = 2  # Numbers per sample: 2 for points of the plane, 64 for 8x8 images.
    width: int = 256  # Width of the residual stream and of the embedding, even and at least 4.
    depth: int = 4  # Residual blocks.
    dropout: float = 0.0  # Dropout probability inside the blocks, in [0, 1).
    conditioning: Conditioning = "time"  # `time` (score networks) or `time-lam` (prox networks).
    log_lam: bool = False  # Embed `log(lam)` in place of `lam`.
    # K, at least 0: besides x the network is shown `sin(2^k pi x)` and `cos(2^k pi x)` for k < K, without which it
    # learns fine structure slowly (Tancik et al. 2020).
    frequencies: int = 0
    classes: int = 0  # Number of classes that the network is told of; 0 for none.

    def __post_init__(self) -> None:
        """Reject architectures that cannot be built."""
        check_conditioning(self.conditioning, self.width, self.dropout, self.classes, log_lam=self.log_lam)
        check_at_least(self, dim=1, depth=1, frequencies=0)

    def check(self, shape: tuple[int, ...], conditions: int) -> None:
        """Raise a ValueError if a network of these settings does not take such samples or conditions."""
        check_conditions(self.conditioning, conditions)
        if self.dim != (size := math.prod(shape)):
            raise ValueError(f"dim = {self.dim}, but samples of shape {shape} have {size} numbers: use {size}")

    def build(self, shape: tuple[int, ...], conditions: int) -> MLP:
        """Return the network, freshly initialised (see :class:`proxdm.networks.NetworkConfig`)."""
        return MLP(self)

    def __str__(self) -> str:
        return f"MLP of width {self.width}, depth {self.depth}, dropout {self.dropout:g}"


class ResidualLayer(nn.Module):
    """`x + Linear(dropout(SiLU(norm(Linear(SiLU(norm(x))) + Linear(SiLU(embedding))))))`."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, width)
        self.condition = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(width, width)
        nn.init.zeros_(self.linear2.weight)
        nn.init.zeros_(self.linear2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return features from features and embedding, all `(B, width)`."""
        h = self.linear1(F.silu(self.norm1(x))) + self.condition(F.silu(embedding))
        out: Tensor = x + self.linear2(self.dropout(F.silu(self.norm2(h))))
        return out


class MLP(nn.Module):
    """Residual MLP on flattened samples."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = ConditionEmbedding(
            config.conditioning, config.width, config.width, log_lam=config.log_lam, classes=config.classes
        )
        self.head = nn.Linear(config.dim * (1 + 2 * config.frequencies), config.width)
        self.blocks = nn.ModuleList(ResidualLayer(config.width, config.dropout) for _ in range(config.depth))
        self.tail = nn.Sequential(nn.LayerNorm(config.width), nn.SiLU(), nn.Linear(config.width, config.dim))

    def forward(self, x: Tensor, t: Tensor, lam: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the output, of the shape and dtype of `x`: samples `(B, *)` of `config.dim` numbers.

        t, lam and labels are `(B,)`; no labels, or the number of classes for one, say nothing of the class.
        """
        if x.ndim < 2 or x.shape[1:].numel() != self.config.dim:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but this network takes (B, *) with {self.config.dim} numbers per sample"
            )
        embedding = self.embedding(t, lam, labels)
        flat = x.flatten(1)
        angles = [flat * (2**k * math.pi) for k in range(self.config.frequencies)]
        h = self.head(torch.cat([flat, *(wave(a) for a in angles for wave in (torch.sin, torch.cos))], dim=1))
        for block in self.blocks:
            h = block(h, embedding)
        return self.tail(h).reshape(x.shape).to(x.dtype)  # type: ignore[no-any-return]
