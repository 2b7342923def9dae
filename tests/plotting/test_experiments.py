"""Figures of the experiments: they show the numbers, whole and without overlaps, and files are real images."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageSequence

from places import apart, inside, texts
from proxdm.experiments.convergence import RatesPlan, run_rates
from proxdm.experiments.toy import METHODS, ToyPlan, run_toy
from proxdm.plotting import experiments, style
from proxdm.plotting.experiments import style_of


@pytest.fixture(scope="module")
def result():
    return run_toy(ToyPlan(steps=(4, 10), samples=60, seeds=2))


@pytest.fixture(scope="module")
def rates():
    return run_rates(RatesPlan(steps=(5, 10, 20), samples=30, seeds=2))


def shown(axes):
    return [text.get_text() for text in axes.texts]


def test_particles_has_a_panel_apart_for_every_method_and_n_with_its_w2(result):
    figure = experiments.particles(result)
    panels = np.array(figure.axes).reshape(len(METHODS), 2)
    assert [axes.get_title() for axes in panels[0]] == ["N = 4", "N = 10"]
    for name, row in zip(METHODS, panels, strict=True):
        assert row[0].get_ylabel().replace("\n", "") == name
        for steps, axes in zip((4, 10), row, strict=True):
            if name == "prox-backward" and steps == 4:
                assert shown(axes) == ["not defined\n(γ ≥ 2)"]
                assert not axes.collections
                continue
            assert shown(axes) == [f"{result.methods[name][steps].w2.values[0]:.3f}"]
            target, cloud = (np.asarray(collection.get_offsets()) for collection in axes.collections)
            np.testing.assert_array_equal(target, result.points)
            np.testing.assert_array_equal(cloud, result.particles[name][steps])
    assert inside(figure)
    assert apart([axes.get_window_extent() for axes in figure.axes])


def test_titles_of_narrow_figures_are_whole():
    narrow = run_toy(ToyPlan(dataset="slant_down", steps=(3,), seed=12345, seeds=1, methods=("prox-ode",)))
    figure = experiments.particles(narrow)
    (title,) = texts(figure, ["slant_down: 1000 particles (seed 12345)"])
    assert inside(figure, [title])
    assert inside(experiments.w2_vs_nfe(narrow))


def test_w2_vs_nfe_draws_means_and_deviations_with_labels_beside_them(result):
    figure = experiments.w2_vs_nfe(result)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert len(axes.containers) == len(METHODS)
    for (name, cells), (line, _, (bars,)) in zip(result.methods.items(), axes.containers, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), list(cells))
        np.testing.assert_allclose(line.get_ydata().astype(float), [cell.w2.mean for cell in cells.values()])
        assert line.get_color() == style_of(name).colour
        lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, [2 * cell.w2.std for cell in cells.values()])
    floor = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert floor[0].get_ydata()[0] == pytest.approx(result.floor.w2.mean)
    boxes = texts(figure, METHODS)
    assert len(boxes) == len(METHODS)
    assert apart(boxes)
    assert inside(figure, boxes)
    assert all(axes.get_window_extent().x1 < box.x0 for box in boxes)


def test_a_method_looks_the_same_whatever_else_is_drawn():
    styles = {name: style_of(name) for name in METHODS}
    assert len({look.colour for look in styles.values()}) == len(METHODS)
    for name, look in styles.items():
        assert (look.line, look.face == "white") == (("-", False) if style.is_prox(name) else ("--", True))
    for prox in (True, False):
        family = [look for name, look in styles.items() if style.is_prox(name) == prox]
        assert len({look.marker for look in family}) == len(family)


def test_save_writes_a_png_and_an_svg(result, tmp_path):
    figure = experiments.particles(result)
    paths = style.save(figure, tmp_path / "v1.0-particles")
    assert [path.name for path in paths] == ["v1.0-particles.png", "v1.0-particles.svg"]
    image = Image.open(paths[0]).convert("RGB")
    np.testing.assert_allclose(image.size, 200 * figure.get_size_inches(), atol=1)
    assert len(image.getcolors(maxcolors=1 << 20)) > 100
    svg = ElementTree.parse(paths[1]).getroot()
    images = svg.findall(".//{http://www.w3.org/2000/svg}image")
    assert len(images) >= len(result.particles), "clouds of points are rasterized"
    assert paths[1].stat().st_size < 2_000_000


def test_animation_has_a_frame_a_state_and_holds_the_last(result, tmp_path):
    path = tmp_path / "animation.gif"
    experiments.animation(result, path)
    gif = Image.open(path)
    frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(gif)]
    durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
    assert durations == [450] * 10 + [2000]
    assert all((a != b).any() for a, b in pairwise(frames))
    assert (frames[0].reshape(-1, 3)[0] > 250).all()
    assert path.stat().st_size < 3_000_000


def test_a_result_without_runs_can_be_drawn_but_not_animated(tmp_path):
    empty = run_toy(ToyPlan(steps=(4,), samples=5, seeds=1, methods=("prox-backward",)))
    style.save(experiments.w2_vs_nfe(empty), tmp_path / "w2")
    style.save(experiments.particles(empty), tmp_path / "particles")
    with pytest.raises(ValueError, match="no method is defined for N = 4, so there is nothing to animate"):
        experiments.animation(empty, tmp_path / "animation.gif")
    assert not (tmp_path / "animation.gif").exists()


def test_a_floor_whose_deviation_exceeds_its_mean_can_be_drawn(result):
    draws = (dataclasses.replace(row, metrics={"w2": w2}) for row, w2 in zip(result.draws, (0.01, 1.0), strict=True))
    experiments.w2_vs_nfe(dataclasses.replace(result, draws=tuple(draws))).savefig(BytesIO())


def lines(axes, style):
    return [line for line in axes.lines if line.get_linestyle() == style]


def test_kl_is_drawn_from_both_starts_beside_a_guide_of_slope_minus_two(rates):
    figure = experiments.kl_vs_n(rates)
    titles = [f"{found.target}: {found.formula}" for found in rates.gaussians]
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    for axes, found in zip(figure.axes, rates.gaussians, strict=True):
        dotted = lines(axes, ":")
        marked = [line for line in axes.lines if line.get_marker() not in ("None", "")]
        assert len(dotted) == len(marked) == len(found.methods)
        for name, exact, normal in zip(found.methods, dotted, marked, strict=True):
            assert list(normal.get_xdata()) == list(found.methods[name])
            assert list(normal.get_ydata()) == list(found.values(name, "kl").values())
            assert list(exact.get_ydata()) == list(found.values(name, "exact_kl").values())
            assert normal.get_color() == exact.get_color() == style_of(name).colour
            fit = found.fit(name)
            slope = f"{fit.slope:.2f}".replace("-", "−") if fit.straight else "bends"
            assert f"{name}   {slope}" in shown(axes)
        guide = axes.lines[-1]
        x, y = (np.log(values) for values in (guide.get_xdata(), guide.get_ydata()))
        assert np.diff(y) / np.diff(x) == pytest.approx(-2)
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert left < min(guide.get_xdata()) < max(guide.get_xdata()) < right
        assert low < min(guide.get_ydata()) < max(guide.get_ydata()) < high


def test_w2_of_mixtures_is_drawn_against_n(rates):
    figure, (found,) = experiments.w2_vs_n(rates), rates.mixtures
    for (name, cells), (line, *_) in zip(found.methods.items(), figure.axes[0].containers, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), list(cells))
        assert name in shown(figure.axes[0])
    assert "30 particles against as many stratified draws, 2 seeds" in figure.texts[0].get_text()


def test_nothing_overlaps_or_is_cut(rates):
    for figure in (experiments.kl_vs_n(rates), experiments.w2_vs_n(rates)):
        methods = rates.gaussians[0].methods
        names = texts(figure, methods)
        assert len(names) == len(methods) * len(figure.axes)
        assert apart(names)
        assert apart([axes.get_tightbbox() for axes in figure.axes])
        assert inside(figure, [text.get_window_extent() for text in figure.texts])


def test_on_one_grid_methods_look_like_their_rules():
    found = run_rates(RatesPlan(("isotropic",), (10, 20), ("ode-euler", "prox-ode"), grid="power"))
    figure = experiments.kl_vs_n(found)
    colours = {line.get_color() for line in lines(figure.axes[0], ":")}
    assert colours == {style_of(name).colour for name in ("ode-euler", "prox-ode")}
    assert "grid power" in figure.texts[0].get_text()
    with pytest.raises(ValueError, match="no mixture to draw"):
        experiments.w2_vs_n(found)


@pytest.mark.parametrize("others", [(), ("prox-ode",)])
def test_methods_that_are_nowhere_defined_leave_no_curve(others):
    found = run_rates(RatesPlan(("isotropic", "mixture"), (5,), ("prox-backward", *others), samples=5, seeds=1))
    for figure in (experiments.kl_vs_n(found), experiments.w2_vs_n(found)):
        figure.savefig(BytesIO())
        assert not any("prox-backward" in text for text in shown(figure.axes[0]))
        assert (shown(figure.axes[0]) == ["no method is defined at any of these N"]) == (not others)


def test_the_same_result_gives_the_same_files(rates, tmp_path):
    first, second = (style.save(experiments.kl_vs_n(rates), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
