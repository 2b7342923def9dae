"""Consoles that cannot show everything: text is replaced, no verb stops for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from proxdm.cli import VERBS


def run(encoding, *arguments, cwd):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-m", "proxdm", *arguments], cwd=cwd, env=environment, capture_output=True)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_table_that_cannot_be_shown_costs_no_results(encoding, tmp_path):
    arguments = ("--steps", "5", "--samples", "20", "--seeds", "1", "--methods", "prox-hybrid", "--no-animation")
    done = run(encoding, "toy", *arguments, "--out", "toy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "toy" / "results.json").is_file()
    assert b"prox-hybrid" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("verb", list(VERBS))
def test_every_help_is_shown_in_ascii(verb, tmp_path):
    done = run("ascii", verb, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"usage" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_wrong_options_are_one_line_on_every_console(encoding, tmp_path):
    done = run(encoding, "sample", "digits", "--stepz", "3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    said = "proxdm: error: unrecognized options: --stepz, 3 (did you mean --steps?); see proxdm sample --help\n"
    assert done.stderr.decode(encoding) == said
