"""Training: one loop with an injected objective (:func:`train`), averages, schedules, logs and previews."""

from __future__ import annotations

from proxdm.training.loop import TrainingResult, train

__all__ = ["TrainingResult", "train"]
