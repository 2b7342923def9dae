"""`proxdm rates` from end to end, small; every error leaves the files as they were."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from proxdm.cli import main
from proxdm.cli.rates import GAUSSIAN_FIGURES, MIXTURE_FIGURES, RESULTS
from proxdm.experiments.toy import METHODS
from proxdm.plotting import style

SMALL = ["--steps", "5", "10", "20", "40", "--samples", "20", "--seeds", "2"]
TINY = ["--target", "isotropic", "--steps", "10", "20", "--methods", "prox-ode"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROXDM_DEBUG", raising=False)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_whole_run(tmp_path, capsys):
    assert main(["rates", *SMALL]) == 0
    folder = tmp_path / "rates"
    assert {path.name for path in folder.iterdir()} == {RESULTS, *GAUSSIAN_FIGURES, *MIXTURE_FIGURES}
    record = json.loads((folder / RESULTS).read_text())
    assert list(record["gaussians"]) == ["isotropic", "anisotropic"]
    assert list(record["mixtures"]) == ["mixture"]
    for name in (GAUSSIAN_FIGURES[0], MIXTURE_FIGURES[0]):
        image = Image.open(folder / name)
        assert min(image.size) > 500
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100

    out = capsys.readouterr().out
    gaussian, third = out.split("W2 to mixture")
    first, second = gaussian.split("KL(output || target) on ")[1:]
    for text, target in ((first, "isotropic"), (second, "anisotropic")):
        rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split() and ": slopes" not in line}
        for name, cells in record["gaussians"][target]["methods"].items():
            for steps, cell in cells["steps"].items():
                assert f"{cell['kl']:.1e}" in rows[name], (name, steps)
            for start in ("normal", "exact"):
                fit = cells["fits"][start]["kl"]
                assert (f"{fit['slope']:.2f}" if fit["straight"] else "bends") in rows[name]
                if start == "normal" and not fit["straight"]:
                    assert f"{name} bends: slopes {fit['local_slopes'][0]:+.2f}" in text
        for name, cells in record["gaussians"][target]["methods"].items():
            assert f"{-cells['order']['fit']['slope']:.2f}" == rows[name][-1]
    assert "N = 10, 20, 40" in first
    assert record["gaussians"]["isotropic"]["order_grid"] in first
    assert out.count("heun takes 9, 19, 39, 79 in all") == 3
    rows = {line.split()[0]: line for line in third.splitlines() if line.split()}
    for name in METHODS:
        for cell in record["mixtures"]["mixture"]["methods"][name]["steps"].values():
            assert f"{cell['w2']:.3f} ± {cell['w2_std']:.3f}" in rows[name]
    assert "–" in rows["prox-backward"]
    assert out.count("Skipped prox-backward at N = 5: ") == 3
    floor = record["mixtures"]["mixture"]["floor"]
    assert f"{floor['w2']:.3f} ± {floor['w2_std']:.3f}." in third
    assert f"rates: {RESULTS}, {', '.join((*GAUSSIAN_FIGURES, *MIXTURE_FIGURES))}" in out


def test_options_reach_the_experiment(tmp_path, capsys):
    name = "ode-euler(quadrature=integral)"
    arguments = ["--target", "mixture", "--steps", "4", "--methods", name, "--grid", "power(rho=3)"]
    assert main(["rates", *arguments, "--samples", "7", "--seed", "9", "--seeds", "1", "--out", "here"]) == 0
    record = json.loads((tmp_path / "here" / RESULTS).read_text())
    assert (record["grid"], record["gaussians"]) == ("power(rho=3)", {})
    mixture = record["mixtures"]["mixture"]
    assert (mixture["samples"], mixture["seeds"]) == (7, [9])
    assert {name: list(cells["steps"]) for name, cells in mixture["methods"].items()} == {name: ["4"]}
    assert mixture["methods"][name]["steps"]["4"]["grid"] == "power(4, rho=3)"
    assert "7 particles, seed 9:" in capsys.readouterr().out


def test_results_are_kept_unless_overwrite(tmp_path, capsys):
    assert main(["rates", *TINY, "--out", "x"]) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    assert main(["rates", *TINY, "--out", "x", "--grid", "power"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("proxdm: error: x holds results.json, ")
    assert "--overwrite" in err
    assert err.count("\n") == 1
    assert contents(tmp_path) == before

    mixture = ["--target", "mixture", "--steps", "4", "--samples", "5", "--seeds", "1", "--methods", "prox-ode"]
    assert main(["rates", *mixture, "--out", "x", "--overwrite"]) == 0
    names = {path.name for path in (tmp_path / "x").iterdir()}
    assert names == {RESULTS, *MIXTURE_FIGURES}, "the other figures would show the earlier run"


def test_failing_while_drawing_leaves_the_earlier_results(tmp_path, capsys, monkeypatch):
    assert main(["rates", *TINY, "--out", "x"]) == 0
    before = contents(tmp_path)

    def full(figure, stem):
        raise OSError(28, "No space left on device", str(stem))

    monkeypatch.setattr(style, "save", full)
    assert main(["rates", *TINY, "--grid", "power", "--out", "x", "--overwrite"]) == 2
    assert "proxdm: error: No space left on device: " in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert not list((tmp_path / "x").glob(".*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "0"], "steps = 0"),
        (["--target", "isotropc"], "'isotropc' (did you mean 'isotropic'?)"),
        (["--target"], "target names none"),
        (["--methods", "prox-hybird"], "'prox-hybird' (did you mean 'prox-hybrid'?)"),
        (["--grid", "power(rh=2)"], "'rh'"),
        (["--target", "isotropic", "--seeds", "2"], "seeds = 2 "),
        (["--out", "file"], "file (File exists)"),
    ],
)
def test_wrong_input_is_one_line_before_any_work(tmp_path, capsys, monkeypatch, arguments, message):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("proxdm.cli.rates.run_rates", lambda *a, **k: pytest.fail("the work began"))
    assert main(["rates", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("proxdm: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("arguments, closest", [(["--targt", "x"], "--target"), (["--seeds", "many"], "many")])
def test_arguments_that_do_not_parse(tmp_path, capsys, arguments, closest):
    assert main(["rates", *arguments]) == 2
    captured = capsys.readouterr()
    assert closest in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_targets_and_the_defaults(capsys):
    assert main(["rates", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in ("isotropic, anisotropic, mixture, dino", "on mixtures 5 10 20 50 100", "--overwrite", "dpm++3m"):
        assert part in text
