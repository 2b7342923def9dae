"""Plans: what is refused before anything is opened, and which rows and chunks they stand for."""

from __future__ import annotations

import pytest
import torch

from proxdm.evaluation import EvaluationPlan
from proxdm.evaluation.plan import default_chunk, make_cells, unseen
from proxdm.presets import get_preset


@pytest.mark.parametrize(
    "values, message",
    [
        ({"samples": 1}, "samples = 1 are too few for fid, which needs 2 at least"),
        ({"samples": 3, "metrics": ("precision-recall",)}, "too few for precision-recall, which needs 4"),
        ({"samples": 0, "metrics": ("w2",)}, "samples = 0 must be at least 1"),
        ({"steps": (5, 0)}, "steps = 0 must be at least 1"),
        ({"steps": ()}, "there is nothing to measure"),
        ({"metrics": ()}, "there is nothing to measure"),
        ({"metrics": ("fud",)}, "unknown metric 'fud' .did you mean 'fid'"),
        ({"samplers": ("prox",)}, "unknown sampler 'prox'"),
        ({"batch_size": 0}, "batch-size = 0 must be at least 1"),
        ({"chunk": 0}, "chunk = 0 must be at least 1"),
        ({"seeds": 0}, "seeds = 0 must be at least 1"),
        ({"seed": -1}, "seed = -1 must be at least 0"),
        ({"rho": 2.0}, "rho = 2 has an effect on the power grid only"),
        ({"eps": 0.1, "grid": "uniform"}, "eps = 0.1 has an effect on the denoising and log-snr grids only"),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        EvaluationPlan(**values)
    assert "\n" not in str(caught.value)


def test_rows_are_every_combination_once(score):
    plan = EvaluationPlan(samplers=("ode-euler", "all"), steps=(5, 3, 5), seed=7, seeds=2)
    cells, skipped = make_cells(plan, score.model)
    assert [(cell.rule.name, cell.grid.steps, cell.seed) for cell in cells] == [
        (name, steps, seed) for name in ("ode-euler", "euler-maruyama") for steps in (5, 3) for seed in (7, 8)
    ]
    assert not skipped


def test_grids(score, prox):
    def grid(opened, **values):
        (cell,) = make_cells(EvaluationPlan(steps=(4,), **values), opened.model)[0]
        return cell.grid.name

    assert grid(score) == "denoising(4, eps=0.001)"
    assert grid(score, eps=0.01) == "denoising(4, eps=0.01)"
    assert grid(prox) == "uniform(4)"
    assert grid(prox, grid="power", rho=3.0) == "power(4, rho=3)"
    with pytest.raises(ValueError, match=r"eps = 0.01 has an effect on .* prox-hybrid takes the uniform grid"):
        grid(prox, eps=0.01)


def test_the_default_chunk_depends_on_device_and_shape_alone():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [default_chunk(cpu, (1, n, n)) for n in (8, 32, 64, 256, 4096)] == [128, 64, 16, 1, 1]
    assert [default_chunk(cuda, (3, n, n)) for n in (32, 64, 128)] == [256, 256, 64]


def test_what_was_not_trained_is_said_once_a_sampler():
    model = get_preset("digits-prox-hybrid").model.build()
    model.config = get_preset("digits-prox-hybrid")
    plan = EvaluationPlan(("prox-hybrid", "prox-ode"), (5, 7, 10), reference="digits")
    hybrid, ode = unseen(model, make_cells(plan, model)[0])
    assert hybrid.startswith("7 of the 7 steps of prox-hybrid on uniform(7) lie outside")
    assert "as do" not in hybrid
    assert ode.startswith("5 of the 5 steps of prox-ode on uniform(5)")
    assert ode.endswith("; as do some with N = 7, 10")
