"""`proxdm download`, with the real client against a server on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxdm.checkpoints import hub as hubs
from proxdm.data.known import DATASETS


@pytest.fixture(autouse=True)
def official_files(hub):
    """Every file of the paper, with its name as content."""
    for files in (hubs.OFFICIAL_MODELS, hubs.OFFICIAL_STATS):
        for name, file in files.items():
            hub.put(hubs.OFFICIAL_REPO, file, f"{name} in {file}".encode())


@pytest.fixture
def download(succeeds):
    """Download, and return the places by name."""
    return lambda text: dict(line.split(": ", 1) for line in succeeds(f"download {text}").out.splitlines())


def test_weights_go_into_the_cache(hub, download):
    found = download("models mnist-score cifar10-prox-hybrid")
    assert list(found) == ["mnist-score", "cifar10-prox-hybrid"]
    for name, path in found.items():
        assert Path(path).read_text() == f"{name} in {hubs.OFFICIAL_MODELS[name]}"
    assert hub.downloads == 2


def test_all_statistics_into_a_folder_where_another_file_is_not_overwritten(tmp_path, download, refused):
    out = tmp_path / "out"
    for _ in range(2):  # a second call finds what is there
        found = download(f"stats all --out {out}")
        assert found == {name: str(out / f"{name}.npz") for name in ("mnist", "cifar10")}
    assert (out / "mnist.npz").read_text() == "mnist in fid_stats/mnist.npz"
    (out / "mnist.npz").write_text("mine")
    assert "mnist.npz is there already and is another one" in refused(f"download stats mnist --out {out}")
    assert (out / "mnist.npz").read_text() == "mine"


@pytest.mark.parametrize(
    ("what", "name", "where"),
    [
        ("models", "celebahq-score", "ZhenghanFang/prox-diffusion/celeba_hq_score.pth"),
        ("stats", "cifar10", "ZhenghanFang/prox-diffusion/fid_stats/cifar10.npz"),
        ("datasets", "fashion-mnist", "torchvision"),
        ("inception", "inception", "pt_inception-2015-12-05-6726825d.pth"),
    ],
)
def test_the_list_downloads_nothing(hub, succeeds, what, name, where):
    (line,) = (one for one in succeeds(f"download {what} --list").out.splitlines() if one.startswith(f"{name} "))
    assert where in line
    assert hub.requests == []


def test_data_sets_are_fetched_by_the_data_layer_and_inception_weights_by_the_metrics(monkeypatch, tmp_path, download):
    fetched = []
    monkeypatch.setattr("proxdm.data.known.download", lambda name, root: fetched.append((name, root)) or tmp_path)
    assert download(f"datasets mnist --out {tmp_path}") == {"mnist": str(tmp_path)}
    assert fetched == [("mnist", tmp_path)]
    fetched.clear()
    download("datasets all")
    assert [name for name, _ in fetched] == [name for name, known in DATASETS.items() if known.download]
    (tmp_path / "weights.pth").write_text("numbers")
    monkeypatch.setattr("proxdm.metrics.inception.fetch_weights", lambda: tmp_path / "weights.pth")
    assert download(f"inception --out {tmp_path / 'out'}") == {"inception": str(tmp_path / "out" / "weights.pth")}
    assert (tmp_path / "out" / "weights.pth").read_text() == "numbers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("models", "say which models: mnist-score,"),
        ("models mnist-score mnist-scor", "unknown model 'mnist-scor' (did you mean 'mnist-score'?)"),
        ("stats celebahq", "known are mnist, cifar10"),
        ("datasets digits", "unknown dataset 'digits'"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_fetched(hub, refused, arguments, message):
    assert message in refused(f"download {arguments}")
    assert hub.requests == []
