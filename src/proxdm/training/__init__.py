"""Training: :func:`train` for any model and data, :func:`train_config` for a configuration."""

from __future__ import annotations

from proxdm.training.loop import TrainingResult, ingredients, train, train_config
from proxdm.training.settings import Settings

__all__ = ["Settings", "TrainingResult", "ingredients", "train", "train_config"]
