"""Tiny models whose samples are far from each other, and a reference of a few pictures."""

from __future__ import annotations

import pytest

from proxdm.checkpoints.load import Opened
from proxdm.evaluation import EvaluationPlan
from tiny_models import PROX, SCORE, random_model


@pytest.fixture(scope="session")
def prox():
    return Opened(random_model(PROX), "raw")


@pytest.fixture(scope="session")
def score():
    return Opened(random_model(SCORE), "raw")


@pytest.fixture
def plan():
    """Quick: 40 samples in chunks of 16, the last of them not full."""
    return EvaluationPlan(steps=(2,), samples=40, features="pixels", chunk=16, batch_size=16)
