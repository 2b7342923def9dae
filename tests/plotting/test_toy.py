"""Figures of the toy: they show the numbers, a method looks the same everywhere, files are real images."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from places import apart, inside, texts
from proxdm.experiments.toy import METHODS, ToyPlan, run_toy
from proxdm.plotting import style, toy


@pytest.fixture(scope="module")
def result():
    return run_toy(ToyPlan(steps=(4, 10), samples=60, seeds=2))


def shown(axes):
    return [text.get_text() for text in axes.texts]


def test_particles_has_a_panel_for_every_method_and_n_with_its_w2(result):
    figure = toy.particles(result)
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


def test_panels_and_labels_do_not_overlap(result):
    figure = toy.particles(result)
    assert inside(figure)
    assert apart([axes.get_window_extent() for axes in figure.axes])


def test_titles_of_narrow_figures_are_whole():
    narrow = run_toy(ToyPlan(dataset="slant_down", steps=(3,), seed=12345, seeds=1, methods=("prox-ode",)))
    figure = toy.particles(narrow)
    (title,) = texts(figure, ["slant_down: 1000 particles (seed 12345)"])
    assert inside(figure, [title])
    assert inside(toy.w2_vs_nfe(narrow))


def test_w2_vs_nfe_draws_means_and_deviations(result):
    (axes,) = toy.w2_vs_nfe(result).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert len(axes.containers) == len(METHODS)
    for (name, cells), (line, _, (bars,)) in zip(result.methods.items(), axes.containers, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), list(cells))
        np.testing.assert_allclose(line.get_ydata().astype(float), [cell.w2.mean for cell in cells.values()])
        assert line.get_color() == toy.style_of(name).colour
        lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, [2 * cell.w2.std for cell in cells.values()])
    floor = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert floor[0].get_ydata()[0] == pytest.approx(result.floor.w2.mean)


def test_labels_of_curves_stand_beside_the_axes_and_apart(result):
    figure = toy.w2_vs_nfe(result)
    boxes = texts(figure, METHODS)
    assert len(boxes) == len(METHODS)
    assert apart(boxes)
    assert inside(figure, boxes)
    assert all(figure.axes[0].get_window_extent().x1 < box.x0 for box in boxes)


def test_a_method_looks_the_same_whatever_else_is_drawn():
    styles = {name: toy.style_of(name) for name in METHODS}
    assert len({look.colour for look in styles.values()}) == len(METHODS)
    for name, look in styles.items():
        assert (look.line, look.face == "white") == (("-", False) if style.is_prox(name) else ("--", True))
    for prox in (True, False):
        family = [look for name, look in styles.items() if style.is_prox(name) == prox]
        assert len({look.marker for look in family}) == len(family)


def test_save_writes_a_png_and_an_svg(result, tmp_path):
    figure = toy.particles(result)
    paths = style.save(figure, tmp_path / "v1.0-particles", dpi=80)
    assert [path.name for path in paths] == ["v1.0-particles.png", "v1.0-particles.svg"]
    image = Image.open(paths[0]).convert("RGB")
    np.testing.assert_allclose(image.size, 80 * figure.get_size_inches(), atol=1)
    assert len(image.getcolors(maxcolors=1 << 20)) > 100
    svg = ElementTree.parse(paths[1]).getroot()
    images = svg.findall(".//{http://www.w3.org/2000/svg}image")
    assert len(images) >= len(result.particles), "clouds of points are rasterized"
    assert paths[1].stat().st_size < 2_000_000


def test_the_same_result_gives_the_same_files(result, tmp_path):
    first = style.save(toy.w2_vs_nfe(result), tmp_path / "a")
    second = style.save(toy.w2_vs_nfe(result), tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_animation_has_a_frame_a_state_and_holds_the_last(result, tmp_path):
    path = tmp_path / "animation.gif"
    toy.animation(result, path, seconds_per_step=0.2, hold=1.5)
    gif = Image.open(path)
    frames, durations = [], []
    for k in range(gif.n_frames):
        gif.seek(k)
        frames.append(np.asarray(gif.convert("RGB")).astype(int))
        durations.append(gif.info["duration"])
    assert durations == [400] + [200] * 9 + [1500]
    assert all((a != b).any() for a, b in pairwise(frames))
    assert (frames[0].reshape(-1, 3)[0] > 250).all()
    assert path.stat().st_size < 3_000_000


def test_a_result_without_runs_can_be_drawn_but_not_animated(tmp_path):
    empty = run_toy(ToyPlan(steps=(4,), samples=5, seeds=1, methods=("prox-backward",)))
    style.save(toy.w2_vs_nfe(empty), tmp_path / "w2")
    style.save(toy.particles(empty), tmp_path / "particles")
    with pytest.raises(ValueError, match="no method is defined for N = 4, so there is nothing to animate"):
        toy.animation(empty, tmp_path / "animation.gif")
    assert not (tmp_path / "animation.gif").exists()


def test_a_floor_whose_deviation_exceeds_its_mean_can_be_drawn(result):
    draws = [dataclasses.replace(row, metrics={"w2": w2}) for row, w2 in zip(result.draws, (0.01, 1.0), strict=True)]
    toy.w2_vs_nfe(dataclasses.replace(result, draws=tuple(draws))).savefig(BytesIO())
