"""`doctor` and `completion`: what they say is so, and what they print a shell takes."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version

import pytest

from proxdm.cli import VERBS, doctor, main


def test_doctor_says_versions_devices_and_places(succeeds, monkeypatch, tmp_path):
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path))
    monkeypatch.setitem(doctor.OPTIONAL, "no-such-package", "diffusers")
    shown = succeeds("doctor --offline").out
    for words in (version("torch"), "cpu", str(tmp_path), "fashion-mnist", "not asked"):
        assert words in shown
    assert 'not installed: pip install "proxdm[diffusers]"' in shown


def test_a_hub_that_answers_and_one_that_does_not(hub):
    assert "answers" in doctor.hub()
    hub.stop()
    assert "HF_ENDPOINT names a mirror" in doctor.hub()


@pytest.mark.parametrize("shell, option", [("bash", "--steps"), ("zsh", "--steps"), ("fish", "-l batch-size")])
def test_every_verb_and_its_options_are_there(shell, option, succeeds):
    script = succeeds(f"completion {shell}").out
    assert all(word in script for word in (*VERBS, option))


def test_bash_completes(succeeds, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    (tmp_path / "s").write_text(succeeds("completion bash").out)

    def completed(*words):
        given = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        ask = f'. {tmp_path}/s; {given}; _proxdm; echo "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split()

    assert completed("proxdm", "sam") == ["sample"]
    assert "--steps" in completed("proxdm", "sample", "--st")
    assert set(completed("proxdm", "prior", "s")) == {"show"}
    assert main(["completion", "tcsh"]) == 2
