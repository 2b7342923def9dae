"""A model with exact operators, numbers, and what a prox minimises."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from proxdm.schedules import VPSDE, Schedule


def rand(*shape: int, seed: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(mix, u, x, t, lam):
    """`1/2 |u - x|^2 - lam log p_t(u)`, which the prox of a mixture minimises."""
    return (u - x).flatten(1).square().sum(1) / 2 - lam * mix.log_prob(u, t)


@dataclass
class StandardNormal:
    """Data N(0, I) under a variance-preserving schedule: p_t = N(0, I) at every t; notes what it is asked for."""

    schedule: Schedule = field(default_factory=VPSDE)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float64
    asked: list = field(default_factory=list)

    def score(self, x, t):
        assert t.shape == (len(x),)
        self.asked.append(float(t[0]))
        return -x

    def prox(self, x, t, lam):
        assert t.shape == lam.shape == (len(x),)
        self.asked.append((float(t[0]), float(lam[0])))
        return x / (1 + lam.reshape(-1, *[1] * (x.ndim - 1)))
