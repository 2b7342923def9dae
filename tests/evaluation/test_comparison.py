"""Series: means and deviations of rows, what is one curve, what must not be compared."""

from __future__ import annotations

import dataclasses
import json
import statistics

import pytest

from fake_results import make_row
from proxdm.evaluation.comparison import describe_mixture, grid_kind, make_panels, run_name, setting_of
from proxdm.grids import TimeGrid


def labels_of(panel):
    return [one.label for one in panel.series]


def test_points_have_mean_and_deviation_over_seeds():
    values = {0: 10.0, 1: 13.0, 5: 11.5}
    rows = [make_row(steps=10, seed=seed, fid=value) for seed, value in values.items()]
    (panel,) = make_panels([make_row(steps=5, fid=20.0), *rows])
    (series,) = panel.series
    five, ten = series.points
    assert (five.mean, five.std, five.seeds, five.values) == (20.0, None, (0,), (20.0,))
    assert ten.mean == pytest.approx(statistics.fmean(values.values()))
    assert ten.std == pytest.approx(statistics.stdev(values.values()))
    assert (ten.seeds, ten.values) == (tuple(values), tuple(values.values()))
    assert (ten.steps, ten.nfe, panel.seeds, panel.nfe) == (10, 10, 3, (5, 10))


def test_one_curve_is_one_model_sampler_grid_and_arithmetic():
    first = make_row()
    rows = [
        first,
        dataclasses.replace(first, steps=10, grid="uniform(10)", source="elsewhere/prox"),
        dataclasses.replace(first, grid="power(5, rho=2)"),
        dataclasses.replace(first, bf16=True),
        dataclasses.replace(first, digest="e" * 64, source="runs/other"),
        make_row("euler-maruyama", source="runs/score"),
    ]
    (panel,) = make_panels(rows)
    assert sorted(len(one.points) for one in panel.series) == [1, 1, 1, 1, 2]
    assert labels_of(panel) == [
        "euler-maruyama",
        "prox-hybrid · prox · uniform · float32",
        "prox-hybrid · prox · power, rho=2",
        "prox-hybrid · prox · uniform · bfloat16",
        "prox-hybrid · other",
    ]


def test_the_latest_of_several_measurements_counts_whatever_the_order_of_files():
    old, new = make_row(fid=9.0), make_row(fid=7.0, finished="2026-02-01T00:00:00+00:00", metrics={"fid": 7.0})
    more = make_row(metrics={"w2": 1.5})
    for rows in ([old, new, more], [new, more, old]):
        found = {panel.metric: panel.series[0].points[0].values for panel in make_panels(rows)}
        assert found == {"fid": (7.0,), "w2": (1.5,)}


def test_models_of_one_name_are_told_apart():
    same = [make_row(source=f"{folder}/prox", digest=digest * 64) for folder, digest in (("a", "1"), ("b", "2"))]
    assert labels_of(make_panels(same)[0]) == ["prox-hybrid · a/prox", "prox-hybrid · b/prox"]
    again = [make_row(source="a/prox", digest=digest * 64) for digest in "12"]
    assert labels_of(make_panels(again)[0]) == ["prox-hybrid · 11111111", "prox-hybrid · 22222222"]


@pytest.mark.parametrize(
    "change, word",
    [
        ({"samples": 128}, "128 samples"),
        ({"features": {"name": "inception", "dim": 2048, "weights": "i" * 64, "resize": "tf1"}}, "inception features"),
        ({"reference": {"name": "digits-test", "sha256": "f" * 64, "n": 1797}}, "against digits-test"),
    ],
)
def test_what_was_measured_differently_is_kept_apart_and_named(change, word):
    base = [make_row("euler-maruyama", source="runs/score"), make_row()]
    assert describe_mixture(make_panels(base)) is None
    panels = make_panels([base[0], make_row(**change)])
    assert [len(panel.series) for panel in panels] == [1, 1]
    message = describe_mixture(panels)
    assert all(said in message for said in (word, "score euler-maruyama with 256 samples", "prox prox-hybrid with "))
    (mixed,) = make_panels([make_row(), make_row(**change)], mix=True)
    assert len(mixed.settings) == 2
    assert any(word in label for label in labels_of(mixed))
    assert mixed.best(5) == ()
    assert describe_mixture([mixed]) is None


def test_settings_are_what_a_value_depends_on():
    """Neither the name of the reference, nor features of pixel metrics, nor samples that a metric does not use."""
    row = make_row()
    renamed = dataclasses.replace(row, reference={**row.reference, "name": "./digits.npz"})
    assert setting_of(row, "fid") == setting_of(renamed, "fid")
    few = make_row(samples=4000, metrics={"w2": 1.0}, used={"w2": [2000, 1797]})
    inception = {"name": "inception", "dim": 2048, "weights": "i", "resize": "tf1"}
    more = dataclasses.replace(few, samples=50_000, features=inception)
    assert setting_of(few, "w2") == setting_of(more, "w2")
    more = dataclasses.replace(more, used={"w2": [1000, 1797]})
    assert setting_of(few, "w2") != setting_of(more, "w2")


def test_no_distance_to_the_training_set_is_the_best():
    rows = [make_row(s, metrics={"nearest": d, "copied": d}) for s, d in (("prox-ode", 0.5), ("prox-hybrid", 0.1))]
    for panel in make_panels(rows):
        assert (panel.best(5), panel.record()["better"]) == ((), None)


def test_best_is_the_least_but_the_greatest_of_shares():
    metrics = [{"fid": 3.0, "recall": 0.2, "kid_standard_error": 1.0}, {"fid": 2.0, "recall": 0.1}]
    rows = [make_row(s, metrics=m) for s, m in zip(("euler-maruyama", "prox-hybrid"), metrics, strict=True)]
    fid, recall = make_panels([*rows, make_row("prox-ode", steps=7, fid=1.0)])
    assert (fid.metric, recall.metric) == ("fid", "recall")
    assert [one.label for one in fid.best(5)] == ["prox-hybrid"]
    assert [one.label for one in recall.best(5)] == ["euler-maruyama"]
    assert fid.best(7) == (), "alone it is not the best"
    record = fid.record()
    assert record["best"] == {"5": ["prox-hybrid"], "7": []}
    assert record["series"][0]["points"] == [{"steps": 5, "nfe": 5, "mean": 3.0, "std": None, "values": {"0": 3.0}}]
    assert json.loads(json.dumps(record)) == record


def test_metrics_can_be_chosen_by_name():
    row = make_row(metrics={"fid": 1.0, "precision": 0.5, "recall": 0.6})
    assert [panel.metric for panel in make_panels([row], metrics=["precision-recall"])] == ["precision", "recall"]


def test_the_kind_of_a_grid_is_its_name_without_n():
    assert grid_kind(TimeGrid.uniform(5).name) == "uniform"
    assert grid_kind(TimeGrid.denoising(7, 1e-5).name) == "denoising, eps=1e-05"
    assert grid_kind("something else") == "something else"


def test_run_name():
    sources = {"runs/a": "a", "runs/b/": "b", "owner/name@main": "name", "x/y.pth": "y", r"C:\runs\a": "a", "": ""}
    assert {source: run_name(source) for source in sources} == sources
