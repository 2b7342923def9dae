"""Plans: what is refused before anything is opened, and which rows and chunks they stand for."""

from __future__ import annotations

import pytest
import torch

from proxdm.data.load import DataConfig
from proxdm.errors import OperatorError
from proxdm.evaluation import EvaluationPlan
from proxdm.evaluation.plan import default_chunk, unusual
from proxdm.generation import fitting_samplers
from proxdm.presets import get_preset


@pytest.mark.parametrize(
    "values, message",
    [
        ({"samples": 1}, "samples = 1 .* fid, which needs 2"),
        ({"samples": 3, "metrics": ("precision-recall",)}, "precision-recall, which needs 4"),
        ({"samples": 0, "metrics": ("w2",)}, "samples = 0 .* 1"),
        ({"steps": (5, 0)}, "steps = 0 .* 1"),
        ({"metrics": ("fud",)}, "'fud' .did you mean 'fid'"),
        ({"samplers": ("prox",)}, "unknown sampler 'prox'"),
        ({"grid": "pover"}, "unknown grid 'pover' .did you mean 'power'"),
        ({"batch_size": 0}, "batch-size = 0 .* 1"),
        ({"chunk": 0}, "chunk = 0 .* 1"),
        ({"seeds": 0}, "seeds = 0 .* 1"),
        ({"seed": -1}, "seed = -1 .* 0"),
        ({"size": 3}, "--size .* --reference"),
        ({"steps": ()}, "nothing to measure"),
        ({"metrics": ()}, "nothing to measure"),
    ],
)
def test_wrong_values(prox, values, message):
    with pytest.raises(ValueError, match=message) as caught:
        EvaluationPlan(**values).cells(prox.model)
    assert "\n" not in str(caught.value)


def test_rows_are_every_combination_once(score):
    plan = EvaluationPlan(samplers=("ode-euler", "all"), steps=(5, 3, 5), seed=7, seeds=2)
    cells, skipped = plan.cells(score.model)
    names = dict.fromkeys(["ode-euler", *fitting_samplers("score")])
    expected = [(name, steps, seed) for name in names for steps in (5, 3) for seed in (7, 8)]
    assert [(cell.method.name, cell.steps, cell.seed) for cell in cells] == expected
    assert not skipped


def test_a_prox_is_made_of_a_score_by_name_only_and_no_score_of_a_prox(score, prox):
    assert not any(cell.method.name.startswith("prox") for cell in EvaluationPlan(("all",)).cells(score.model)[0])
    cells, _ = EvaluationPlan(("prox-hybrid",), (5, 10)).cells(score.model)
    (line,) = unusual(score.model, cells)
    assert "posterior mean" in line
    with pytest.raises(OperatorError, match="score"):
        EvaluationPlan(("ode-euler",)).cells(prox.model)


def test_grids(score, prox):
    for opened, grid, name in (
        (score, "denoising(eps=0.01)", "denoising(4, eps=0.01)"),
        (prox, "power", "power(4, rho=2)"),
    ):
        (cell,) = EvaluationPlan(steps=(4,), grid=grid).cells(opened.model)[0]
        assert cell.grid.name == name


def test_the_default_chunk_depends_on_device_and_shape_alone():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [default_chunk(cpu, (1, n, n)) for n in (8, 32, 64, 256, 4096)] == [128, 64, 16, 1, 1]
    assert [default_chunk(cuda, (3, n, n)) for n in (32, 64, 128)] == [256, 256, 64]


def test_what_was_not_trained_is_said_once_a_sampler():
    model = get_preset("digits-prox-hybrid").model.build()
    model.config = get_preset("digits-prox-hybrid")
    plan = EvaluationPlan(("prox-hybrid", "prox-ode"), (5, 7, 10), reference="digits")
    hybrid, ode = unusual(model, plan.cells(model)[0])
    assert "7 of the 7 steps of prox-hybrid on uniform(7) lie outside" in hybrid
    assert "and for" not in hybrid
    assert "5 of the 5 steps of prox-ode on uniform(5)" in ode
    assert ode.endswith("(and for N = 7, 10)")


def test_the_reference_is_described_in_full_where_more_than_its_name_is_given():
    assert EvaluationPlan(reference="mnist").compared_with == "mnist"
    for values in ({"split": "test"}, {"size": 16, "grey": True, "root": "r"}):
        assert EvaluationPlan(reference="mnist", **values).compared_with == DataConfig("mnist", **values)
