"""Training: :func:`train` for any model and data, :func:`train_config` for a configuration.

network = MyNetwork()                                               # any nn.Module: (x, t) -> tensor like x
train(ScoreModel(network), my_tensor, UniformTimes(), ObjectiveConfig(), Settings(), "runs/mine")
network.load_state_dict(store.latest(Path("runs/mine")).read("ema-0.9999"))
"""

from __future__ import annotations

from proxdm.training.loop import TrainingResult, ingredients, train, train_config
from proxdm.training.settings import Settings

__all__ = ["Settings", "TrainingResult", "ingredients", "train", "train_config"]
