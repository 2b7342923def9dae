"""Evaluation: sweeps over samplers and numbers of steps at a measured number of network evaluations (NFE)."""

from __future__ import annotations

from proxdm.evaluation.plan import EvaluationPlan
from proxdm.evaluation.results import EvaluationRow
from proxdm.evaluation.run import Evaluation, evaluate

__all__ = ["Evaluation", "EvaluationPlan", "EvaluationRow", "evaluate"]
