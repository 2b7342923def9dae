"""Learning rates: a pure function of the step."""

from __future__ import annotations

from proxdm.config import OptimiserConfig
from proxdm.losses import Phase


def learning_rate(config: OptimiserConfig, phase: Phase, step: int) -> float:
    """Return the learning rate of an optimiser step.

    That of the phase, times `(step + 1) / warmup` in the first `warmup` steps of the run.

    Args:
        config: Rates and warm-up.
        phase: Phase of the step; `l1` has a rate of its own where there is one.
        step: Number of the step, from 0.
    """
    rate = config.l1_lr if phase.loss == "l1" and config.l1_lr is not None else config.lr
    return rate * min(1.0, (step + 1) / config.warmup) if config.warmup else rate
