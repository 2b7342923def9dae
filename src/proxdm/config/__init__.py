"""Configurations of training runs: their fields (:mod:`.schema`) and their strict JSON form (:mod:`.codec`)."""

from __future__ import annotations

from proxdm.config.codec import ConfigError, differences, to_dict
from proxdm.config.schema import (
    Config,
    LoggingConfig,
    ModelConfig,
    OptimiserConfig,
    TrainingConfig,
    from_dict,
    from_json,
    overlay,
    to_json,
)

__all__ = [
    "Config",
    "ConfigError",
    "LoggingConfig",
    "ModelConfig",
    "OptimiserConfig",
    "TrainingConfig",
    "differences",
    "from_dict",
    "from_json",
    "overlay",
    "to_dict",
    "to_json",
]
