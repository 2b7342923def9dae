"""The FID Inception network as pytorch-fid makes it, and what its weights file may be."""

from __future__ import annotations

import subprocess
import sys
from urllib.error import URLError

import pytest
import torch

from proxdm.metrics import inception
from proxdm.metrics.inception import FeatureError, fetch_weights, load_inception, weights_path
from proxdm.runtime.digests import sha256_of


def test_the_network_is_pytorch_fids(inception_file, pytorch_fid_network, generator):
    """To the last bit, with nothing but the weights between their factory and ours."""
    with pytest.warns(UserWarning, match="other weights"):
        network, _ = load_inception(inception_file)
    x = torch.rand(2, 3, 299, 299, generator=generator)
    with torch.inference_mode():
        theirs = pytorch_fid_network(x)[0][:, :, 0, 0]
        ours = network(2 * x - 1)
    assert ours.shape == (2, 2048)
    assert ours.std() > 0.1
    assert torch.equal(ours, theirs)


def test_nothing_is_imported_or_downloaded_before_it_is_asked_for():
    code = (
        "import sys, proxdm.metrics.inception; print([n for n in ('pytorch_fid', 'torchvision') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_weights_load_with_a_warning_that_they_are_others(inception_file, inception_state):
    with pytest.warns(UserWarning, match=r"random.pth holds other weights than pt_inception"):
        net, digest = load_inception(inception_file)
    assert digest == sha256_of(inception_file)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(net.Mixed_7c.branch_pool.conv.weight, inception_state["Mixed_7c.branch_pool.conv.weight"])


def test_the_usual_weights_load_in_silence(inception_file, monkeypatch, recwarn):
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", sha256_of(inception_file))
    load_inception(inception_file)
    assert not recwarn


def test_broken_weights_are_errors(tmp_path, inception_state):
    with pytest.raises(FeatureError, match=r"there is no file .*none.pth"):
        load_inception(tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(FeatureError, match=r"cut.pth cannot be read as weights"):
        load_inception(tmp_path / "cut.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(FeatureError, match="holds a list, not a state dict"):
        load_inception(tmp_path / "list.pth")
    torch.save({"conv.weight": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(FeatureError, match=r"Conv2d_1a_3x3.conv.weight must be \(32, 3, 3, 3\) and is missing"):
        load_inception(tmp_path / "other.pth")
    torch.save({**inception_state, "Mixed_5b.branch1x1.bn.bias": torch.ones(3)}, tmp_path / "shape.pth")
    with pytest.raises(FeatureError, match=r"Mixed_5b.branch1x1.bn.bias must be \(64,\) and is \(3,\)"):
        load_inception(tmp_path / "shape.pth")


def test_pickled_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code of the file was run",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(FeatureError, match="cannot be read as weights"):
        load_inception(tmp_path / "evil.pth")


# Download, with a stand-in for the server


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path


def test_weights_are_kept_where_pytorch_fid_keeps_them(hub):
    assert weights_path() == hub / "home" / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"


def test_download_checks_the_checksum(hub, inception_file, monkeypatch):
    monkeypatch.setattr(inception, "WEIGHTS_URL", inception_file.as_uri())
    with pytest.raises(FeatureError, match=r"cannot be downloaded from .* \(invalid hash value"):
        fetch_weights()
    assert not weights_path().exists()
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", sha256_of(inception_file))
    assert fetch_weights() == weights_path()
    assert weights_path().read_bytes() == inception_file.read_bytes()
    # a second call downloads nothing
    monkeypatch.setattr(inception, "WEIGHTS_URL", "file:///nowhere")
    assert fetch_weights() == weights_path()


def test_no_connection_is_an_error_with_the_remedy(hub, monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(FeatureError, match=r"no route to host.*put it at .*, or name it with --inception-weights"):
        fetch_weights()


def test_a_damaged_file_in_the_cache_is_an_error(hub):
    weights_path().parent.mkdir(parents=True)
    weights_path().write_bytes(b"cut short")
    with pytest.raises(FeatureError, match=r"is damaged: its SHA-256 is .*delete it"):
        fetch_weights()
