"""Decays of moving averages, and what is left in one of where it began."""

from __future__ import annotations

import math

STALE = 0.05
"""Share of the first weights in an average from which on samples of it are noticeably worse than they need be."""


def decay_at(decay: float, step: int) -> float:
    """Return `min(decay, (1 + n) / (10 + n))`, the warmed-up decay of step n (that of TensorFlow and timm)."""
    return min(decay, (1 + step) / (10 + step))


def share_of_start(decay: float, steps: int, *, warmup: bool) -> float:
    """Return the weight that the first weights still have in an average after so many steps, in [0, 1]."""
    if not warmup:
        return decay**steps
    # (1 + n) / (10 + n) reaches the decay at n = (10 decay - 1) / (1 - decay); before, the product telescopes.
    turn = min(steps, math.ceil(max(0.0, (10 * decay - 1) / (1 - decay))))
    early = math.exp(math.lgamma(turn + 1) - math.lgamma(turn + 10) + math.lgamma(10))
    return early * decay ** (steps - turn)
