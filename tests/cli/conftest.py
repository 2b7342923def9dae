"""Every test of the command line runs in a folder of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROXDM_DEBUG", raising=False)
    return tmp_path
