"""The weights of the FID Inception network: what a file may be. That it is pytorch-fid's, `test_features.py` says."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from proxdm.metrics import inception
from proxdm.metrics.inception import FeatureError, fetch_weights, load_inception, weights_path
from proxdm.runtime.files import sha256_of


def test_nothing_is_imported_or_downloaded_before_it_is_asked_for():
    code = "import sys, proxdm.metrics.inception; print({'pytorch_fid', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "there is no file .*w.pth"),
        (b"PK\x03\x04 not really", "cannot be read"),
        ([1, 2], "cannot be read .*list"),
        ({"conv.weight": torch.ones(1)}, r"Missing key.*Conv2d_1a_3x3.conv.weight"),
        ({"Mixed_5b.branch1x1.bn.bias": torch.ones(3)}, r"Mixed_5b.branch1x1.bn.bias.*\[3\].*\[64\]"),
        ({"x": Evil()}, "cannot be read"),
    ],
)
def test_broken_weights_are_errors(content, message, tmp_path, inception_state):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save({**inception_state, **content} if "Mixed_5b" in str(content) else content, path)
    with pytest.raises(FeatureError, match=message) as caught:
        load_inception(path)
    assert "\n" not in str(caught.value)


# Download, with a stand-in for the server


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path


def test_download_checks_the_checksum_and_the_usual_weights_load_in_silence(hub, inception_file, monkeypatch, recwarn):
    monkeypatch.setattr(inception, "WEIGHTS_URL", inception_file.as_uri())
    with pytest.raises(FeatureError, match=r"cannot be downloaded from .* \(invalid hash value"):
        fetch_weights()
    assert not weights_path().exists()
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", sha256_of(inception_file))
    kept = hub / "home" / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"  # as pytorch-fid
    assert fetch_weights() == weights_path() == kept
    assert weights_path().read_bytes() == inception_file.read_bytes()
    # a second call downloads nothing
    monkeypatch.setattr(inception, "WEIGHTS_URL", "file:///nowhere")
    assert load_inception()[1] == sha256_of(inception_file)
    assert not recwarn


def test_no_connection_and_a_damaged_file_are_errors_with_the_remedy(hub, monkeypatch):
    monkeypatch.setattr(inception, "WEIGHTS_URL", (hub / "nowhere").as_uri())
    with pytest.raises(FeatureError, match=r"nowhere.*put the file at .* --inception-weights"):
        fetch_weights()
    weights_path().write_bytes(b"cut short")
    with pytest.raises(FeatureError, match=r"is damaged: its SHA-256 is .*delete it"):
        fetch_weights()
