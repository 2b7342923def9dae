r"""How a network learns of time and prox weight: sinusoidal features, an MLP, and their concatenation.

A number `u` (`t`, or `lam`) becomes `[sin(w_k u), cos(w_k u)]` with `w_k = scale 10000^(-k/(half-1))`,
k = 0 ... half-1 (Ho et al. 2020; Vaswani et al. 2017), then Linear, SiLU, Linear. A score network embeds `t`; a prox
network embeds `t` and `lam` separately, each in half of the width, and concatenates them (arXiv 2507.08956). A network
of C classes adds a learned vector of the label, 0 ... C-1, or C where there is none (Dhariwal and Nichol 2021; Ho and
Salimans 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Conditioning = Literal["time", "time-lam"]
"""What a network is told besides x: `t` (score networks) or `t` and `lam` (prox networks)."""

TIME_SCALE = 1000.0
"""Factor on `t`, and on `lam`, before the sinusoids."""

LOG_LAM_SCALE = 100.0
"""Factor on `log(lam)`, which spans about ten units where `lam` and `t` span about one."""


def sinusoidal_features(value: Tensor, width: int, scale: float = TIME_SCALE) -> Tensor:
    """Return `[sin(w_k value), cos(w_k value)]`, `w_k = scale 10000^(-k/(half-1))`, `half = width / 2`.

    `(B,)` to `(B, width)`, all sines, then all cosines; the width is even and at least 4. Computed in float32 at least:
    a half-precision angle of up to 1000 radians would be noise.
    """
    half = width // 2
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    steps = torch.arange(half, dtype=value.dtype, device=value.device)
    angles = (scale * value)[:, None] * torch.exp(steps * (-math.log(10000.0) / (half - 1)))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ScalarEmbedding(nn.Module):
    """Sinusoidal features of a number, `(B,)`, then Linear, SiLU, Linear, `(B, width)`; float32 at least."""

    def __init__(self, features: int, width: int, scale: float = TIME_SCALE) -> None:
        super().__init__()
        self.features = features
        self.scale = scale
        self.hidden = nn.Linear(features, width)
        self.out = nn.Linear(width, width)

    def forward(self, value: Tensor) -> Tensor:
        """Return the embedding."""
        waves = sinusoidal_features(value, self.features, self.scale)
        # Autocast would round the features to 8 bits; two small layers gain nothing from it. (Autocast does not know
        # the meta device, where nothing is computed.)
        kind = "cpu" if value.device.type == "meta" else value.device.type
        with torch.autocast(kind, enabled=False):
            out: Tensor = self.out(F.silu(self.hidden(waves.to(self.hidden.weight.dtype))))
        return out


_BIASES = ("embedding.time.out.bias", "embedding.lam.out.bias")


class ConditionEmbedding(nn.Module):
    """The embedding `(B, width)` of `t`, or of `t` and `lam` (or `log(lam)`) in a half of the width each; of labels."""

    def __init__(
        self, conditioning: Conditioning, features: int, width: int, *, log_lam: bool = False, classes: int = 0
    ) -> None:
        super().__init__()
        with_lam = conditioning == "time-lam"
        each = width // 2 if with_lam else width
        self.log_lam = log_lam
        self.time = ScalarEmbedding(features, each)
        self.lam = ScalarEmbedding(features, each, LOG_LAM_SCALE if log_lam else TIME_SCALE) if with_lam else None
        self.labels = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, t: Tensor, lam: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the embedding of `t`, and of `lam` and `labels` where the network knows them, all `(B,)`."""
        if self.labels is None and labels is not None:
            raise ValueError("this network knows no classes: leave labels out, or train one with classes")
        embedding = self._of_conditions(t, lam)
        if self.labels is None:
            return embedding
        none = self.labels.num_embeddings - 1
        return embedding + self.labels(torch.full_like(t, none, dtype=torch.long) if labels is None else labels)  # type: ignore[no-any-return]

    def _of_conditions(self, t: Tensor, lam: Tensor | None) -> Tensor:
        if self.lam is None:
            if lam is not None:
                raise ValueError("this network is conditioned on t alone, leave lam out (it is a score network)")
            return self.time(t)  # type: ignore[no-any-return]
        if lam is None:
            raise ValueError("this network is conditioned on t and lam: give lam as well (it is a prox network)")
        return torch.cat([self.time(t), self.lam(lam.log() if self.log_lam else lam)], dim=1)


def retold(state: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """Return the weights of a network for as many other classes, or none, that computes what it computed without class.

    The vector of "no class" becomes that of every class, or goes into the last bias of the embedding of t and lam.
    """
    new, table, there = dict(state), "embedding.labels.weight", [name for name in _BIASES if name in state]
    vector = new.pop(table)[-1] if table in new else None
    if classes and there:
        zero = torch.zeros(sum(len(new[name]) for name in there))
        new[table] = (zero if vector is None else vector).repeat(classes + 1, 1)
    elif vector is not None:
        for name, part in zip(there, vector.chunk(len(there)), strict=True):
            new[name] = new[name] + part
    return new


def check_conditioning(conditioning: str, width: int, dropout: float, classes: int, *, log_lam: bool) -> None:
    """Raise a ValueError unless what the settings of all networks have in common can be built."""
    if conditioning not in ("time", "time-lam"):
        raise ValueError(f"unknown conditioning {conditioning!r}; use 'time' (score) or 'time-lam' (prox)")
    if width < 4 or width % 2:
        raise ValueError(f"width = {width} must be even and at least 4")
    if classes < 0 or classes == 1:
        raise ValueError(f"classes = {classes} must be 0 (none) or at least 2")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout = {dropout} must lie in [0, 1)")
    if log_lam and conditioning == "time":
        raise ValueError("log_lam = True needs conditioning = 'time-lam': a score network does not see lam")


def check_conditions(conditioning: Conditioning, conditions: int) -> None:
    """Raise a ValueError unless a network is told what its model has: 1, `t`, or 2, `t` and `lam`."""
    wanted = {1: "time", 2: "time-lam"}[conditions]
    if conditioning != wanted:
        raise ValueError(f"conditioning = {conditioning!r} is for other models; use {wanted!r}")
