"""The sweep engine: cells in order, those that are not defined told apart, rows known before kept, spreads."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest

from proxdm.errors import NonFiniteError
from proxdm.grids import TimeGrid
from proxdm.schedules import VPSDE, Flow
from proxdm.sweep import Cell, Method, Results, Row, Spread, Summary, by_cell, make_cells, sweep

VP = VPSDE()


def row(cell, value=1.0):
    numbers = {"steps": cell.steps, "nfe": cell.steps, "seed": cell.seed, "seconds": cell.seed}
    return Row(sampler=cell.method.name, grid=cell.grid.name, **numbers, metrics={"w2": value, "fid": 2 * value})


def results(rows, skipped=()):
    names = ("ddim", "prox-ode")
    return Results(target="target", names=names, steps=(2, 4), rows=tuple(rows), undefined=tuple(skipped))


@pytest.fixture
def cells():
    return make_cells([Method.of("ddim"), Method.of("prox-ode", "power(rho=3)")], (4, 2, 4), (0, 1), VP)[0]


def test_methods_have_names_and_times():
    assert Method.of("ddim(eta=0.5)").name == "ddim(eta=0.5)"
    assert Method(Method.of("ddim").sampler, label="mine").name == "mine"
    assert Method.of("ddim").times(VP, 5) == TimeGrid.rho(5)
    assert Method.of("ddim", "uniform").times(VP, 5) == TimeGrid.uniform(5)
    with pytest.raises(ValueError, match="'dim'"):
        Method.of("dim")


def test_cells_are_by_method_then_steps_then_seed(cells):
    found = [(cell.method.name, cell.steps, cell.seed) for cell in cells]
    assert found == [(name, n, seed) for name in ("ddim", "prox-ode") for n in (4, 2) for seed in (0, 1)]
    assert cells[-1].grid == TimeGrid.power(2, 3.0)
    assert str(cells[0]) == "ddim N=4 seed 0"


def test_what_is_not_defined_is_told_with_its_reason():
    cells, skipped = make_cells([Method.of("prox-backward")], (10, 5), (0, 1, 2), VP)
    assert [cell.steps for cell in cells] == [10, 10, 10]
    assert [(one.sampler, one.steps) for one in skipped] == [("prox-backward", 5)]
    assert "gamma = 3.602" in skipped[0].reason
    assert make_cells([Method.of("heun", "uniform")], (3,), (0,), Flow())[1][0].sampler == "heun"


def test_sweeps_measure_what_is_not_known_and_keep_the_order(cells):
    asked: list[Cell] = []

    def measure(cell):
        asked.append(cell)
        return None if cell.seed == 1 and cell.method.name == "ddim" else row(cell)

    known = {cells[0]: row(cells[0], 7.0), cells[-1]: row(cells[-1], 9.0)}
    rows = sweep(cells, measure, known=known.get)
    assert asked == cells[1:-1]
    values = [(one.sampler, one.steps, one.seed, one.metrics["w2"]) for one in rows]
    assert values[:2] == [("ddim", 4, 0, 7.0), ("ddim", 2, 0, 1.0)]
    assert values[-1] == ("prox-ode", 2, 1, 9.0)
    assert len(values) == len(cells) - 2


def test_cells_that_fail_are_skipped_only_where_that_is_wanted(cells):
    def measure(cell):
        if cell.steps == 2:
            raise NonFiniteError("1 of 3 samples are not finite")
        return row(cell)

    skipped = []
    rows = sweep(cells, measure, skipped=skipped)
    assert {one.steps for one in rows} == {4}
    found = results(rows, skipped).skipped
    assert found == {name: {2: "1 of 3 samples are not finite"} for name in ("ddim", "prox-ode")}
    with pytest.raises(NonFiniteError, match="1 of 3"):
        sweep(cells, measure)


def test_rows_that_differ_in_their_seeds_are_summed_up(cells):
    rows = [row(cell, 0.1 + 0.2 * cell.seed) for cell in cells]
    assert [len(group) for group in by_cell(rows).values()] == [2] * 4
    found = results(rows)
    assert {name: list(cells) for name, cells in found.methods.items()} == {"ddim": [4, 2], "prox-ode": [4, 2]}
    assert found.values("ddim", "fid") == pytest.approx({4: 0.4, 2: 0.4})
    summary = found.methods["ddim"][4]
    assert summary.w2.values == pytest.approx((0.1, 0.3))
    assert (summary.nfe, summary.seconds, summary.grid) == (4, 0.5, cells[0].grid.name)
    record, values = summary.record(), summary.w2.values
    assert (record["w2"], record["w2_seeds"]) == (fmean(values), list(values))
    assert record["fid_std"] == stdev(summary.metrics["fid"].values)
    assert Summary.of(rows[:1]).record()["w2_std"] is None


@pytest.mark.parametrize(
    "values, figures, text",
    [
        ((12.3456,), "12.35", "12.346"),
        ((9.0, 11.0), "10.0 ± 1.4", "10.000 ± 1.414"),
        ((62.1, 62.14), "62.120 ± 0.028", "62.120 ± 0.028"),
        ((1000.0, 3000.0), "2000 ± 1414", "2000.000 ± 1414.214"),
        ((2.0, 2.0), "2 ± 0", "2.000 ± 0.000"),
    ],
)
def test_spreads_in_words(values, figures, text):
    spread = Spread(values)
    assert (str(spread), spread.text()) == (figures, text)
