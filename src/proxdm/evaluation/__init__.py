"""Evaluation: sweeps over samplers and numbers of steps at a measured number of network evaluations (NFE)."""

from __future__ import annotations

from proxdm.evaluation.plan import EvaluationPlan
from proxdm.evaluation.results import EvaluationRow
from proxdm.evaluation.run import Evaluation, evaluate
from proxdm.evaluation.sets import ComparisonPlan, SetComparison, compare_sets
from proxdm.evaluation.tuning import Tuned, TuningPlan, tune

__all__ = [
    "ComparisonPlan",
    "Evaluation",
    "EvaluationPlan",
    "EvaluationRow",
    "SetComparison",
    "Tuned",
    "TuningPlan",
    "compare_sets",
    "evaluate",
    "tune",
]
