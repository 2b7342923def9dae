"""Figures of the convergence rates: they show the numbers of the result, whole and without overlaps."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from places import apart, inside, texts
from proxdm.experiments.convergence import RatesPlan, run_rates
from proxdm.plotting import rates
from proxdm.plotting.style import save
from proxdm.plotting.toy import style_of


@pytest.fixture(scope="module")
def result():
    return run_rates(RatesPlan(steps=(5, 10, 20), samples=30, seeds=2))


def lines(axes, style):
    return [line for line in axes.lines if line.get_linestyle() == style]


def labels(axes):
    return [text.get_text() for text in axes.texts]


def test_kl_is_drawn_from_both_starts(result):
    figure = rates.kl_vs_n(result)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"{found.target}: {found.formula}" for found in result.gaussians
    ]
    for axes, found in zip(figure.axes, result.gaussians, strict=True):
        dotted = lines(axes, ":")
        marked = [line for line in axes.lines if line.get_marker() not in ("None", "")]
        assert len(dotted) == len(marked) == len(found.methods)
        for name, exact, normal in zip(found.methods, dotted, marked, strict=True):
            steps = list(found.methods[name])
            assert list(normal.get_xdata()) == steps
            assert list(normal.get_ydata()) == list(found.values(name, "kl").values())
            assert list(exact.get_ydata()) == list(found.values(name, "exact_kl").values())
            assert normal.get_color() == exact.get_color() == style_of(name).colour
            fit = found.fit(name)
            slope = f"{fit.slope:.2f}".replace("-", "−") if fit.straight else "bends"
            assert f"{name}   {slope}" in labels(axes)


def test_the_guide_has_slope_minus_two(result):
    for axes in rates.kl_vs_n(result).axes:
        guide = axes.lines[-1]
        x, y = (np.log(values) for values in (guide.get_xdata(), guide.get_ydata()))
        assert np.diff(y) / np.diff(x) == pytest.approx(-2)
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert left < min(guide.get_xdata()) < max(guide.get_xdata()) < right
        assert low < min(guide.get_ydata()) < max(guide.get_ydata()) < high


def test_w2_with_its_floor(result):
    figure = rates.w2_vs_n(result)
    (axes,) = figure.axes
    found = result.mixtures[0]
    marked = [line for line in axes.lines if line.get_marker() in ("o", "s", "^", "D", "v")]
    for name, line in zip(found.methods, marked, strict=True):
        assert list(line.get_ydata()) == [cell.w2.mean for cell in found.methods[name].values()]
        assert name in labels(axes)
    (floor,) = lines(axes, ":")
    assert set(floor.get_ydata()) == {found.floor.w2.mean}
    assert "30 particles against as many stratified draws, 2 seeds" in figure.texts[0].get_text()


def test_nothing_overlaps_or_is_cut(result):
    for figure in (rates.kl_vs_n(result), rates.w2_vs_n(result)):
        methods = result.gaussians[0].methods
        names = texts(figure, methods)
        assert len(names) == len(methods) * len(figure.axes)
        assert apart(names)
        assert apart([axes.get_tightbbox() for axes in figure.axes])
        assert inside(figure, [text.get_window_extent() for text in figure.texts])


def test_on_one_grid_methods_look_like_their_rules():
    result = run_rates(RatesPlan(("isotropic",), (10, 20), ("ode-euler", "prox-ode"), grid="power"))
    figure = rates.kl_vs_n(result)
    colours = {line.get_color() for line in lines(figure.axes[0], ":")}
    assert colours == {style_of(name).colour for name in ("ode-euler", "prox-ode")}
    assert "grid power" in figure.texts[0].get_text()


def test_methods_that_are_nowhere_defined_leave_no_curve():
    result = run_rates(RatesPlan(("isotropic", "mixture"), (5,), ("prox-backward", "prox-ode"), samples=5, seeds=1))
    for figure in (rates.kl_vs_n(result), rates.w2_vs_n(result)):
        assert not any("prox-backward" in label for label in labels(figure.axes[0]))
    empty = run_rates(RatesPlan(("isotropic", "mixture"), (5,), ("prox-backward",), samples=5, seeds=1))
    for figure in (rates.kl_vs_n(empty), rates.w2_vs_n(empty)):
        figure.savefig(BytesIO())
        assert labels(figure.axes[0]) == ["no method is defined at any of these N"]


def test_figures_of_nothing_are_errors(result):
    gaussian = run_rates(RatesPlan(("isotropic",), (5,), ("prox-ode",)))
    mixture = run_rates(RatesPlan(("mixture",), (5,), ("prox-ode",), samples=5, seeds=1))
    with pytest.raises(ValueError, match="no mixture to draw"):
        rates.w2_vs_n(gaussian)
    with pytest.raises(ValueError, match="no Gaussian target to draw"):
        rates.kl_vs_n(mixture)


def test_the_same_result_gives_the_same_files(result, tmp_path):
    first, second = (
        [path.read_bytes() for path in save(rates.kl_vs_n(result), tmp_path / name)] for name in ("a", "b")
    )
    assert first == second
