"""`proxdm toy` and `proxdm rates` from end to end, small; every error leaves the files as they were."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from proxdm.cli import main, rates, toy
from proxdm.cli.toy import RESULTS
from proxdm.experiments.toy import METHODS
from proxdm.plotting import style

FIGURES, ANIMATION = toy.FILES[1:5], toy.FILES[5]
GAUSSIAN_FIGURES, MIXTURE_FIGURES = rates.FILES[1:3], rates.FILES[3:]
TOY = "toy --steps 3 --samples 5 --seeds 1 --methods prox-ode"
RATES = "rates --target isotropic --steps 10 20 --methods prox-ode"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    return {path.name for path in folder.iterdir()}


def first_words(text):
    return {line.split()[0]: line for line in text.splitlines() if line.split() and ": slopes" not in line}


def assert_drawn(path):
    image = Image.open(path)
    assert min(image.size) > 500
    assert len(image.convert("RGB").getcolors(1 << 24)) > 100


def test_the_whole_toy(tmp_path, succeeds):
    out = succeeds("toy --steps 4 10 --samples 20 --seeds 2 --dataset bullseye").out
    folder = tmp_path / "toy" / "bullseye"
    assert names(folder) == {RESULTS, *FIGURES, ANIMATION}
    record = json.loads((folder / RESULTS).read_text())
    assert (record["dataset"], record["samples"], record["seed"]) == ("bullseye", 20, 0)
    assert list(record["methods"]) == list(METHODS)
    for name in (FIGURES[0], FIGURES[2]):
        assert_drawn(folder / name)
    assert Image.open(folder / ANIMATION).n_frames == 11
    assert out.startswith("W2 to bullseye, 20 particles, mean ± standard deviation of 2 seeds:")
    rows = first_words(out)
    assert [name for name in rows if name in METHODS] == list(METHODS)
    for name, cells in record["methods"].items():
        for steps, cell in cells.items():
            assert cell["nfe"] == int(steps)
            assert 0 < cell["w1"] <= cell["w2"]
            assert f"{cell['w2']:.3f} ± {cell['w2_std']:.3f}" in rows[name]
    assert "–" in rows["prox-backward"]
    assert "Skipped prox-backward at N = 4: " in out
    assert f"{record['floor']['w2']:.3f} ± " in rows["Floor"]
    assert f"{folder.relative_to(tmp_path)}: {RESULTS}, {', '.join(FIGURES)}, {ANIMATION}" in out


def test_the_whole_rates(tmp_path, succeeds):
    out = succeeds("rates --steps 5 10 20 40 --samples 20 --seeds 2").out
    folder = tmp_path / "rates"
    assert names(folder) == {RESULTS, *GAUSSIAN_FIGURES, *MIXTURE_FIGURES}
    record = json.loads((folder / RESULTS).read_text())
    assert [list(record[kind]) for kind in ("gaussians", "mixtures")] == [["isotropic", "anisotropic"], ["mixture"]]
    for name in (GAUSSIAN_FIGURES[0], MIXTURE_FIGURES[0]):
        assert_drawn(folder / name)
    gaussian, third = out.split("W2 to mixture")
    first, second = gaussian.split("KL(output || target) on ")[1:]
    for text, target in ((first, "isotropic"), (second, "anisotropic")):
        rows = first_words(text)
        for name, cells in record["gaussians"][target]["methods"].items():
            for steps, cell in cells["steps"].items():
                assert f"{cell['kl']:.1e}" in rows[name].split(), (name, steps)
            for start in ("normal", "exact"):
                fit = cells["fits"][start]["kl"]
                assert (f"{fit['slope']:.2f}" if fit["straight"] else "bends") in rows[name].split()
                if start == "normal" and not fit["straight"]:
                    assert f"{name} bends: slopes {fit['local_slopes'][0]:+.2f}" in text
            order = cells["order"]["fit"]
            assert (f"{-order['slope']:.2f}" if order["straight"] else "bends") == rows[name].split()[-1]
        assert record["gaussians"][target]["order_grid"] in text
    assert "N = 10, 20, 40" in first
    rows = first_words(third)
    for name, cells in record["mixtures"]["mixture"]["methods"].items():
        for cell in cells["steps"].values():
            assert f"{cell['w2']:.3f} ± {cell['w2_std']:.3f}" in rows[name]
    assert "–" in rows["prox-backward"]
    assert out.count("Skipped prox-backward at N = 5: ") == out.count("heun takes 9, 19, 39, 79 in all") == 3
    floor = record["mixtures"]["mixture"]["floor"]
    assert f"{floor['w2']:.3f} ± {floor['w2_std']:.3f}." in rows["Floor"]
    assert f"rates: {RESULTS}, {', '.join((*GAUSSIAN_FIGURES, *MIXTURE_FIGURES))}" in out


def test_options_reach_the_toy(tmp_path, succeeds):
    out = succeeds(f"{TOY} heun ddim(eta=1) --seed 9 --prox-mode local --out here --no-animation").out
    record = json.loads((tmp_path / "here" / RESULTS).read_text())
    assert (record["seed"], record["seeds"], record["prox_mode"]) == (9, [9], "local")
    found = {name: {n: cell["nfe"] for n, cell in cells.items()} for name, cells in record["methods"].items()}
    assert found == {"prox-ode": {"3": 3}, "heun": {"3": 5}, "ddim(eta=1)": {"3": 3}}
    assert names(tmp_path / "here") == {RESULTS, *FIGURES}
    assert "particles, seed 9:" in out
    assert "heun takes 5 in all" in out


def test_options_reach_the_rates(tmp_path, succeeds):
    name = "ode-euler(quadrature=integral)"
    command = f"rates --target mixture --steps 4 --methods {name} --grid power(rho=3)"
    out = succeeds(f"{command} --samples 7 --seed 9 --seeds 1 --out here").out
    record = json.loads((tmp_path / "here" / RESULTS).read_text())
    assert (record["grid"], record["gaussians"]) == ("power(rho=3)", {})
    mixture = record["mixtures"]["mixture"]
    assert (mixture["samples"], mixture["seeds"]) == (7, [9])
    assert {name: list(cells["steps"]) for name, cells in mixture["methods"].items()} == {name: ["4"]}
    assert mixture["methods"][name]["steps"]["4"]["grid"] == "power(4, rho=3)"
    assert "7 particles, seed 9:" in out


def test_undefined_everywhere_is_a_sentence_not_an_error(tmp_path, succeeds):
    said = succeeds("toy --steps 5 7 --samples 5 --methods prox-backward --out x")
    assert "Skipped prox-backward at N = 5, 7: " in said.out
    record = json.loads((tmp_path / "x" / RESULTS).read_text())
    assert record["methods"] == {}
    assert set(record["skipped"]["prox-backward"]) == {"5", "7"}
    assert names(tmp_path / "x") == {RESULTS, *FIGURES}


MIXTURE = "rates --target mixture --steps 4 --samples 5 --seeds 1 --methods prox-ode"


@pytest.mark.parametrize(
    "before, after, left",
    [(TOY, f"{TOY} --seed 1 --no-animation", FIGURES), (RATES, MIXTURE, MIXTURE_FIGURES)],
)
def test_results_are_kept_unless_overwrite(tmp_path, before, after, left, succeeds, refused):
    succeeds(f"{before} --out x")
    there = contents(tmp_path)
    err = refused(f"{after} --out x")
    assert "x/results.json exists already" in err
    assert "--overwrite" in err
    assert contents(tmp_path) == there
    succeeds(f"{after} --out x --overwrite")
    assert names(tmp_path / "x") == {RESULTS, *left}, "other figures would show the earlier run"
    assert contents(tmp_path / "x") != there


@pytest.mark.parametrize("command", [TOY, RATES])
def test_failing_while_drawing_leaves_the_earlier_results(tmp_path, capsys, monkeypatch, command, succeeds):
    succeeds(f"{command} --out x")
    before = contents(tmp_path)

    def full(figure, stem):
        raise OSError(28, "No space left on device", str(stem))

    monkeypatch.setattr(style, "save", full)
    assert main(f"{command} ddim --out x --overwrite".split()) == 2
    said = capsys.readouterr()
    assert "proxdm: error: x/results.json cannot be written (No space left on device); make room" in said.err
    assert "N = " in said.out
    assert contents(tmp_path) == before
    assert not list((tmp_path / "x").glob(".*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("toy --steps 5 -3", "steps = -3"),
        ("toy --out file", "file (File exists)"),
        ("toy --out file/below", "file/below (Not a directory)"),
        ("rates --target", "target names none"),
        ("rates --target isotropic --seeds 2", "seeds = 2 "),
        ("rates --out file", "file (File exists)"),
    ],
)
def test_wrong_input_is_one_line_before_any_work(tmp_path, refused, monkeypatch, arguments, message):
    (tmp_path / "file").write_text("mine")
    verb = arguments.split()[0]
    monkeypatch.setattr(f"proxdm.cli.{verb}.run_{verb}", lambda *a, **k: pytest.fail("the work began"))
    assert message in refused(arguments)
    assert contents(tmp_path) == {(tmp_path / "file").relative_to(tmp_path): b"mine"}
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize(
    "verb, parts",
    [
        ("toy", ("--no-animation", "wide_lines.", "prox-backward, prox-ode", "score-denoise-1e-5", "dpm++3m")),
        ("rates", ("isotropic, anisotropic, mixture, dino", "on mixtures 5 10 20 50 100", "--overwrite", "dpm++3m")),
    ],
)
def test_help_names_data_targets_methods_and_defaults(succeeds, verb, parts):
    text = " ".join(succeeds(f"{verb} --help").out.replace("│", " ").split())
    for part in parts:
        assert part in text
