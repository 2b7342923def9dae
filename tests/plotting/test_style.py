"""What all figures share: labels that do not overlap, and a look for every rule."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from proxdm.plotting.style import MEMBERS, SCORE_COLOURS, family_style, is_prox, sampler_style, spread, tick_labels
from proxdm.samplers import SAMPLERS


@pytest.mark.parametrize("wanted", [[0.3], [0.1, 0.1], [0.0, 0.5, 0.51, 0.52, 0.9], [0.2, 0.21, 0.3, 0.31, 0.32]])
def test_spread_is_the_least_squares_solution(wanted):
    found = spread(wanted, 0.1)
    assert all(b - a >= 0.1 - 1e-12 for a, b in pairwise(found))
    if len(wanted) > 1:
        gaps = [{"type": "ineq", "fun": lambda h, i=i: h[i + 1] - h[i] - 0.1} for i in range(len(wanted) - 1)]
        best = minimize(lambda h: ((h - wanted) ** 2).sum(), 0.2 * np.arange(len(wanted)), constraints=gaps)
        np.testing.assert_allclose(found, best.x, atol=1e-4)
    else:
        assert found == pytest.approx(wanted)


def test_tick_labels_leave_out_those_that_would_overlap():
    assert tick_labels([5, 7, 10, 20, 30, 40]) == ["5", "7", "10", "20", "30", "40"]
    assert tick_labels([10, 20, 99, 100, 1000]) == ["10", "20", "99", "", "1000"]
    assert tick_labels([10]) == ["10"]


def test_every_sampler_has_a_look_of_its_own_that_shows_its_family_without_colour():
    styles = {name: sampler_style(name) for name in SAMPLERS}
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(SAMPLERS)
    for name, style in styles.items():
        prox = SAMPLERS[name].operator == "prox"
        assert is_prox(name) == prox
        assert (style.line, style.face == "white") == (("-", False) if prox else ("--", True))
    assert styles["euler-maruyama"].colour == SCORE_COLOURS[0]
    for prox in (False, True):
        family = {family_style(number, prox=prox) for number in range(MEMBERS)}
        assert len({(style.colour, style.marker) for style in family}) == MEMBERS


@pytest.mark.parametrize(
    "sampler, prox",
    [("ddim(eta=0.5)", False), ("diffusers:DDIMScheduler", False), ("prox-new", True), ("prox-hybrid(eta=0.5)", True)],
)
def test_a_sampler_that_is_not_in_the_table_has_a_look_that_depends_on_its_text_alone(sampler, prox):
    style = sampler_style(sampler)
    assert is_prox(sampler) == prox
    assert style == sampler_style(sampler)
    assert style not in [sampler_style(name) for name in SAMPLERS]
    assert (style.line == "-") == prox
    family = [sampler_style(sampler + str(number)) for number in range(50)]
    assert len(set(family)) > 5
