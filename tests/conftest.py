"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fake_hub import FakeHub
from proxdm.runtime.registry import IMPORTED


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays and real images beside the repository; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with golden arrays and real images is not here")
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face Hub on this machine, which huggingface_hub talks to for one test, with a cache of its own."""
    with FakeHub(tmp_path / "hub") as server:
        server.connect(monkeypatch, tmp_path / "cache")
        yield server


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _no_imports_left():
    """What one test imports by `--import` is not recorded in the runs of the next."""
    yield
    IMPORTED.clear()
