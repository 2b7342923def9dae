"""Fixtures that several test files use."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from fake_hub import FakeHub
from proxdm.cli import main
from proxdm.runtime.registry import IMPORTED


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays and real images beside the repository; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder ../shared with golden arrays and real images is not here")
    return folder


@pytest.fixture
def chromium():
    """A browser without a window."""
    names = [os.environ["PROXDM_CHROMIUM"]] if "PROXDM_CHROMIUM" in os.environ else ["chromium", "google-chrome"]
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium or Chrome is installed (or named by PROXDM_CHROMIUM) to open pages in")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serve(monkeypatch):
    """Serve folders over HTTP on this machine: serve(folder) returns the address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *arguments: None)
    with ExitStack() as servers:

        def start(folder):
            handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            servers.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            return f"http://127.0.0.1:{server.server_port}/"

        yield start


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face Hub on this machine, which huggingface_hub talks to for one test, with a cache of its own."""
    with FakeHub(tmp_path / "hub") as server:
        server.connect(monkeypatch, tmp_path / "cache")
        yield server


@pytest.fixture
def succeeds(capsys):
    """Run a command, given as one text or as words, and return what it prints, `(out, err)`."""

    def run(*words):
        capsys.readouterr()
        status = main(words[0].split() if len(words) == 1 else list(map(str, words)))
        said = capsys.readouterr()
        assert status == 0, said.err
        return said

    return run


@pytest.fixture
def refused(capsys):
    """Run a command that is refused, given as one text or as words, and return its error: one line."""

    def run(*words):
        capsys.readouterr()
        assert main(words[0].split() if len(words) == 1 else list(map(str, words))) == 2
        err = capsys.readouterr().err
        assert err.startswith("proxdm: error: ")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _no_imports_left():
    """What one test imports by `--import` is not recorded in the runs of the next."""
    yield
    IMPORTED.clear()
