"""`doctor` and `completion`: what they say is so, and what they print a shell takes."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version

import pytest

from proxdm.cli import VERBS, doctor, main


def test_doctor_says_versions_devices_and_places(succeeds, monkeypatch, tmp_path):
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path))
    shown = succeeds("doctor", "--offline").out
    for words in (version("torch"), "cpu", str(tmp_path), "fashion-mnist", "not asked"):
        assert words in shown


def test_missing_packages_have_a_remedy(succeeds, monkeypatch):
    monkeypatch.setitem(doctor.OPTIONAL, "no-such-package", "diffusers")
    assert 'not installed: pip install "proxdm[diffusers]"' in succeeds("doctor", "--offline").out


def test_a_hub_that_answers_and_one_that_does_not(hub, capsys):
    assert "answers" in doctor.hub()
    hub.stop()
    assert "HF_ENDPOINT names a mirror" in doctor.hub()


@pytest.fixture(scope="module")
def scripts():
    from contextlib import redirect_stdout
    from io import StringIO

    found = {}
    for shell in ("bash", "zsh", "fish"):
        written = StringIO()
        with redirect_stdout(written):
            assert main(["completion", shell]) == 0
        found[shell] = written.getvalue()
    return found


def test_every_verb_and_its_options_are_there(scripts):
    for script in scripts.values():
        assert all(verb in script for verb in VERBS)
    assert "--steps" in scripts["bash"]
    assert "-l batch-size" in scripts["fish"]


def test_bash_completes(scripts, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    (tmp_path / "s").write_text(scripts["bash"])

    def completed(*words):
        given = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        ask = f'. {tmp_path}/s; {given}; _proxdm; echo "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split()

    assert completed("proxdm", "sam") == ["sample"]
    assert "--steps" in completed("proxdm", "sample", "--st")
    assert set(completed("proxdm", "prior", "s")) == {"show"}


def test_wrong_shell_is_said(capsys):
    assert main(["completion", "tcsh"]) == 2
