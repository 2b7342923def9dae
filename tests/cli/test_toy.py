"""`proxdm toy` from end to end, small; every error leaves the files as they were."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from proxdm.cli import main
from proxdm.cli.toy import ANIMATION, FIGURES, RESULTS
from proxdm.experiments.toy import METHODS
from proxdm.plotting import style

SMALL = ["--steps", "4", "10", "--samples", "20", "--seeds", "2"]
TINY = ["--steps", "3", "--samples", "5", "--seeds", "1", "--methods", "prox-ode"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROXDM_DEBUG", raising=False)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_whole_run(tmp_path, capsys):
    assert main(["toy", *SMALL, "--dataset", "bullseye"]) == 0
    folder = tmp_path / "toy" / "bullseye"
    assert {path.name for path in folder.iterdir()} == {RESULTS, *FIGURES, ANIMATION}
    record = json.loads((folder / RESULTS).read_text())
    assert (record["dataset"], record["samples"], record["seed"]) == ("bullseye", 20, 0)
    assert list(record["methods"]) == list(METHODS)
    for cells in record["methods"].values():
        for steps, cell in cells.items():
            assert cell["nfe"] == int(steps)
            assert 0 < cell["w1"] <= cell["w2"]
    assert record["floor"]["w2"] > 0
    for name in (FIGURES[0], FIGURES[2]):
        image = Image.open(folder / name)
        assert min(image.size) > 500
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100
    assert Image.open(folder / ANIMATION).n_frames == 11

    out = capsys.readouterr().out
    assert out.startswith("W2 to bullseye, 20 particles, mean ± standard deviation of 2 seeds:")
    rows = {line.split()[0]: line for line in out.splitlines() if line.split() and line.split()[0] in METHODS}
    assert list(rows) == list(METHODS)
    for name, row in rows.items():
        for cell in record["methods"][name].values():
            assert f"{cell['w2']:.3f} ± {cell['w2_std']:.3f}" in row
    assert "–" in rows["prox-backward"]
    assert "Skipped prox-backward at N = 4: " in out
    assert f"{record['floor']['w2']:.3f} ± " in out.splitlines()[len(METHODS) + 5]
    assert f"{folder.relative_to(tmp_path)}: {RESULTS}, {', '.join(FIGURES)}, {ANIMATION}" in out


def test_samplers_join_by_name_and_tell_their_evaluations(tmp_path, capsys):
    assert main(["toy", *TINY, "heun", "ddim(eta=1)", "--out", "x"]) == 0
    cells = json.loads((tmp_path / "x" / RESULTS).read_text())["methods"]
    assert {name: of["3"]["nfe"] for name, of in cells.items()} == {"prox-ode": 3, "heun": 5, "ddim(eta=1)": 3}
    out = capsys.readouterr().out
    assert "heun takes 5 in all" in out
    assert "ddim(eta=1) " in out


def test_options_reach_the_experiment(tmp_path, capsys):
    assert main(["toy", *TINY, "--seed", "9", "--prox-mode", "local", "--out", "here", "--no-animation"]) == 0
    record = json.loads((tmp_path / "here" / RESULTS).read_text())
    assert (record["seed"], record["seeds"], record["prox_mode"]) == (9, [9], "local")
    assert {name: list(cells) for name, cells in record["methods"].items()} == {"prox-ode": ["3"]}
    assert not (tmp_path / "here" / ANIMATION).exists()
    assert "particles, seed 9:" in capsys.readouterr().out


def test_undefined_everywhere_is_a_sentence_not_an_error(tmp_path, capsys):
    assert main(["toy", "--steps", "5", "7", "--samples", "5", "--methods", "prox-backward", "--out", "x"]) == 0
    assert "Skipped prox-backward at N = 5, 7: " in capsys.readouterr().out
    record = json.loads((tmp_path / "x" / RESULTS).read_text())
    assert record["methods"] == {}
    assert set(record["skipped"]["prox-backward"]) == {"5", "7"}
    assert {path.name for path in (tmp_path / "x").iterdir()} == {RESULTS, *FIGURES}


def test_results_are_kept_unless_overwrite(tmp_path, capsys):
    assert main(["toy", *TINY, "--out", "x"]) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert main(["toy", *TINY, "--seed", "1", "--out", "x"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("proxdm: error: x holds results.json, ")
    assert "--overwrite" in err
    assert err.count("\n") == 1
    assert contents(tmp_path) == before

    assert main(["toy", *TINY, "--seed", "1", "--out", "x", "--overwrite", "--no-animation"]) == 0
    assert json.loads((tmp_path / "x" / RESULTS).read_text())["seed"] == 1
    assert not (tmp_path / "x" / ANIMATION).exists(), "it would show the earlier run"


def test_failing_while_drawing_leaves_the_earlier_results(tmp_path, capsys, monkeypatch):
    assert main(["toy", *TINY, "--out", "x"]) == 0
    before = contents(tmp_path)

    def full(figure, stem):
        raise OSError(28, "No space left on device", str(stem))

    monkeypatch.setattr(style, "save", full)
    assert main(["toy", *TINY, "--seed", "1", "--out", "x", "--overwrite"]) == 2
    assert "proxdm: error: No space left on device: " in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert not list((tmp_path / "x").glob(".*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "5", "-3"], "steps = -3"),
        (["--dataset", "dinno"], "'dinno' (did you mean 'dino'?)"),
        (["--methods", "prox-hybird"], "'prox-hybird' (did you mean 'prox-hybrid'?)"),
        (["--methods", "ddim(eta=2)"], "eta = 2"),
        (["--out", "file"], "file (File exists)"),
        (["--out", "file/below"], "file/below (Not a directory)"),
    ],
)
def test_wrong_input_is_one_line_before_any_work(tmp_path, capsys, monkeypatch, arguments, message):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("proxdm.cli.toy.run_toy", lambda *a, **k: pytest.fail("the work began"))
    assert main(["toy", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("proxdm: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments, closest",
    [(["--stepz", "5"], "--steps"), (["--steps", "five"], "five"), (["--prox-mode", "best"], "global"), (["5"], "5")],
)
def test_arguments_that_do_not_parse(tmp_path, capsys, arguments, closest):
    assert main(["toy", *arguments]) == 2
    captured = capsys.readouterr()
    assert closest in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_data_sets_and_the_methods(capsys):
    assert main(["toy", "--help"]) == 0
    words = capsys.readouterr().out.replace("│", " ").split()
    assert "--no-animation" in words
    assert {"wide_lines.", "prox-backward,", "score-denoise-1e-5,", "dpm++3m,"} <= set(words)
