"""`proxdm download`, with the real client against a server on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxdm.checkpoints import hub as hubs
from proxdm.cli import main
from proxdm.data.known import DATASETS


@pytest.fixture(autouse=True)
def official_files(hub):
    """Every file of the paper, with its name as content."""
    for files in (hubs.OFFICIAL_MODELS, hubs.OFFICIAL_STATS):
        for name, file in files.items():
            hub.put(hubs.OFFICIAL_REPO, file, f"{name} in {file}".encode())


def lines(capsys):
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def test_weights_go_into_the_cache(hub, capsys):
    assert main(["download", "models", "mnist-score", "cifar10-prox-hybrid"]) == 0
    found = lines(capsys)
    assert list(found) == ["mnist-score", "cifar10-prox-hybrid"]
    for name, path in found.items():
        assert Path(path).read_text() == f"{name} in {hubs.OFFICIAL_MODELS[name]}"
    assert hub.downloads == 2


def test_all_statistics_into_a_folder(hub, tmp_path, capsys):
    for _ in range(2):  # a second call finds what is there
        assert main(["download", "stats", "all", "--out", str(tmp_path / "out")]) == 0
    assert {name: Path(path) for name, path in lines(capsys).items()} == {
        "mnist": tmp_path / "out" / "mnist.npz",
        "cifar10": tmp_path / "out" / "cifar10.npz",
    }
    assert (tmp_path / "out" / "mnist.npz").read_text() == "mnist in fid_stats/mnist.npz"


def test_another_file_of_the_name_is_not_overwritten(hub, tmp_path, refused):
    (tmp_path / "mnist.npz").write_text("mine")
    assert "mnist.npz is there already and is another one" in refused("download", "stats", "mnist", "--out", tmp_path)
    assert (tmp_path / "mnist.npz").read_text() == "mine"


@pytest.mark.parametrize(
    ("what", "name", "where"),
    [
        ("models", "celebahq-score", "ZhenghanFang/prox-diffusion/celeba_hq_score.pth"),
        ("stats", "cifar10", "ZhenghanFang/prox-diffusion/fid_stats/cifar10.npz"),
        ("datasets", "fashion-mnist", "torchvision"),
        ("inception", "inception", "pt_inception-2015-12-05-6726825d.pth"),
    ],
)
def test_the_list_downloads_nothing(hub, capsys, what, name, where):
    assert main(["download", what, "--list"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name} "))
    assert where in line
    assert hub.requests == []


def test_data_sets_are_fetched_by_the_data_layer(monkeypatch, tmp_path, capsys):
    fetched = []
    monkeypatch.setattr("proxdm.data.known.download", lambda name, root: fetched.append((name, root)) or tmp_path)
    assert main(["download", "datasets", "mnist", "--out", str(tmp_path)]) == 0
    assert fetched == [("mnist", tmp_path)]
    assert lines(capsys) == {"mnist": str(tmp_path)}
    fetched.clear()
    assert main(["download", "datasets", "all"]) == 0
    assert [name for name, _ in fetched] == [name for name, known in DATASETS.items() if known.download]


def test_inception_weights_are_fetched_by_the_metrics(monkeypatch, tmp_path, capsys):
    (tmp_path / "weights.pth").write_text("numbers")
    monkeypatch.setattr("proxdm.metrics.inception.fetch_weights", lambda: tmp_path / "weights.pth")
    assert main(["download", "inception", "--out", str(tmp_path / "out")]) == 0
    assert lines(capsys) == {"inception": str(tmp_path / "out" / "weights.pth")}
    assert (tmp_path / "out" / "weights.pth").read_text() == "numbers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models"], "say which models: mnist-score,"),
        (["models", "mnist-score", "mnist-scor"], "unknown model 'mnist-scor' (did you mean 'mnist-score'?)"),
        (["stats", "celebahq"], "known are mnist, cifar10"),
        (["datasets", "digits"], "unknown dataset 'digits'"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_fetched(hub, capsys, arguments, message):
    assert main(["download", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert hub.requests == []
