"""The error on held samples during a training: where it was lowest, and whether to stop for want of a lower one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from proxdm.data.images import ImageData
from proxdm.training.stepper import Stepper


@dataclass
class Validation:
    """Errors on held samples, taken at checkpoints."""

    stepper: Stepper
    held: ImageData | None  # None takes no error
    every: int  # Steps between two checkpoints
    patience: int  # Checkpoints without a lower error after which the training stops; 0 is never
    value: float | None = None  # The latest error
    best: tuple[int, float] | None = None  # Step and value of the lowest so far

    def take(self, step: int) -> None:
        """Take the error after so many steps, if every run of this length takes it there."""
        if self.held is None or (step % self.every and step != self.stepper.settings.training.steps):
            return
        place, value = self.stepper.place, self.stepper.validate(self.held, self.stepper.phase(step - 1))
        # That of the first process decides for all: they must stop together, and rounding may differ.
        shared = torch.tensor(value if place.is_main else 0.0, dtype=self.stepper.counters.dtype, device=place.device)
        self.value = float(place.sum(shared))
        if self.best is None or self.value < self.best[1]:
            self.best = (step, self.value)

    def is_over(self, step: int) -> bool:
        """Return whether it has not fallen for as long as one was to wait."""
        return bool(self.patience) and self.best is not None and step - self.best[0] >= self.patience * self.every

    def words(self, step: int, checkpoints: Path) -> str:
        """Return what is to be said at the end; nothing where the end is best."""
        if self.best is None or self.best[0] == step:
            return ""
        best, value = self.best
        stopped = f"; stopped at step {step}" if self.is_over(step) else ""
        place = checkpoints / f"step-{best:08d}"
        lowest = f"the error on held samples was lowest at step {best}, {value:.5f}"
        return f"{lowest}, and is {self.value:.5f} now{stopped}: {place}"
