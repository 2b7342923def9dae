"""Curves show the numbers of the results; families and models are told apart; awkward values can be drawn."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from fake_results import make_row
from places import apart, inside, texts
from proxdm.evaluation.comparison import make_panels
from proxdm.metrics.registry import title_of
from proxdm.plotting.curves import curve_styles, features_of, loss_by_phase, metric_curves, metric_panel, training_curve
from proxdm.plotting.style import sampler_style

SAMPLERS = ("euler-maruyama", "ode-euler", "prox-hybrid", "prox-backward")


@pytest.fixture(scope="module")
def panels():
    rng = np.random.default_rng(0)
    rows = [
        make_row(sampler, n, seed, metrics={"fid": 100 / n + rng.random(), "recall": rng.random()})
        for sampler in SAMPLERS
        for n in (5, 10, 20)
        for seed in (0, 1)
    ]
    return make_panels(rows)


def test_curves_are_means_and_bars_are_deviations(panels):
    figure = metric_curves(panels)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Fréchet distance", "recall"]
    for axes, panel in zip(figure.axes, panels, strict=True):
        for (line, _, (bars,)), series in zip(axes.containers, panel.series, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [5, 10, 20])
            np.testing.assert_allclose(line.get_ydata().astype(float), [point.mean for point in series.points])
            assert line.get_color() == sampler_style(series.label).colour
            tops = [segment[1, 1] for segment in bars.get_segments()]
            np.testing.assert_allclose(tops, [point.mean + point.std for point in series.points])
    scales = [(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes]
    assert scales == [("log", "log"), ("log", "linear")]
    assert figure.axes[1].get_ylim() == (0, 1)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(SAMPLERS)


def test_names_stand_inside_the_figure_and_apart(panels):
    for shown in (panels, panels[:1]):
        figure = metric_curves(shown, title="against digits")
        boxes = texts(figure, SAMPLERS)
        assert len(boxes) == len(SAMPLERS)
        assert apart(boxes)
        assert inside(figure, boxes)


def test_models_of_one_sampler_look_different_in_one_family():
    rows = [make_row("prox-hybrid", digest=f"{i}" * 64, source=f"runs/{i}") for i in range(8)]
    panels = make_panels([*rows, make_row("prox-ode", digest="1" * 64), make_row("euler-maruyama")])
    styles = curve_styles(panels)
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(styles)
    by_sampler = {}
    for key, style in styles.items():
        by_sampler.setdefault(key.sampler, []).append(style)
        assert (style.line, style.face == "white") == (("-", False) if "prox" in key.sampler else ("--", True))
    assert by_sampler["prox-hybrid"][0] == sampler_style("prox-hybrid")
    assert by_sampler["prox-ode"] == [sampler_style("prox-ode")]


@pytest.mark.parametrize("features, name", [("pixels", "Fréchet distance"), ("inception", "FID")])
def test_only_a_distance_of_inception_features_is_called_a_fid(features, name):
    metrics = {"fid": 1.0, "fid_infinity": 2.0}
    row = make_row(metrics=metrics, features={"name": features, "dim": 64, "weights": "", "resize": "none"})
    panels = make_panels([row])
    assert [("FID" in title_of(panel.metric, features_of(panel))) for panel in panels] == [features == "inception"] * 2
    for panel, expected in zip(panels, (name, f"{name} infinity"), strict=True):
        (axes,) = metric_panel(panel, curve_styles(panels)).axes
        assert axes.get_ylabel() == expected


@pytest.mark.parametrize("values", [[0.0, 1.0], [-0.1, 0.2]])
def test_values_that_have_no_logarithm_are_drawn_on_a_linear_axis(values):
    rows = [make_row(steps=n, metrics={"kid": value}) for n, value in zip((5, 10), values, strict=True)]
    (axes,) = metric_curves(make_panels(rows)).axes
    assert axes.get_yscale() == "linear"
    np.testing.assert_array_equal(axes.containers[0][0].get_ydata().astype(float), values)


def test_a_deviation_above_the_mean_and_a_single_nfe_can_be_drawn():
    panels = make_panels([make_row(seed=0, fid=0.001), make_row(seed=1, fid=100.0)])
    figure = metric_panel(panels[0], curve_styles(panels))
    figure.savefig(BytesIO())
    (axes,) = figure.axes
    assert axes.get_ylim()[0] > 0
    low, high = axes.get_xlim()
    assert low < 5 < high


LOG = [
    {"step": 10, "phase": "l1", "zeta": None, "loss": 0.9},
    {"step": 20, "phase": "l1", "zeta": None, "loss": 0.7},
    {"step": 30, "phase": "proximal-matching", "zeta": 1.0, "loss": 0.5},
    {"step": 20, "phase": "l1", "zeta": None, "loss": 0.6},
    {"step": 30, "phase": "proximal-matching", "zeta": 1.0, "loss": None},
    {"step": 40, "phase": "proximal-matching", "zeta": 0.5, "loss": 0.8},
    {"step": "x", "loss": 3},
]


def test_the_training_curve_has_a_line_a_phase_and_takes_the_later_of_repeated_steps():
    names = ["l1", "proximal-matching, ζ = 1", "proximal-matching, ζ = 0.5"]
    points = [[(10, 0.9), (20, 0.6)], [(30, 0.5)], [(40, 0.8)]]
    assert loss_by_phase(LOG) == list(zip(names, points, strict=True))
    (axes,) = training_curve(LOG).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), points[0])
    assert axes.get_yscale() == "log"
    axes.figure.savefig(BytesIO())
    legend = axes.get_legend().get_window_extent()
    assert legend.y0 >= axes.get_window_extent().y1 - 1, "above the curves"
    assert legend.y1 <= axes.figure.bbox.y1
    assert legend.x1 <= axes.figure.bbox.x1
    negative = training_curve([{"step": 1, "loss": -1.0}, {"step": 2, "loss": 2.0}])
    assert negative.axes[0].get_yscale() == "linear"
    assert training_curve([{"step": 1, "loss": None}]) is None
