"""Models with exact operators, for tests of samplers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from proxdm.schedules import VPSDE, Schedule


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
