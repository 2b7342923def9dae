"""On N(0, I) data p_t = N(0, I) at every t: score(x) = -x, prox(x) = x / (1 + lam), every step known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch

import proxdm
from proxdm import RULES, VPSDE, ProxSampler, ScoreSampler, TimeGrid
from proxdm.errors import NonFiniteError, OperatorError, StepError
from proxdm.noise import GeneratorNoise, GivenNoise, SeededNoise
from proxdm.rules import ScoreRule
from proxdm.samplers import check_steps, default_grid, run


@dataclass
class StandardNormal:
    """Exact operators of N(0, I) data, which note the times and weights they are asked for."""

    sde: VPSDE = field(default_factory=VPSDE)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float64
    asked: list = field(default_factory=list)

    def score(self, x, t):
        assert t.shape == (len(x),)
        self.asked.append(float(t[0]))
        return -x

    def prox(self, x, t, lam):
        assert t.shape == lam.shape == (len(x),)
        self.asked.append((float(t[0]), float(lam[0])))
        return x / (1 + lam.reshape(-1, *[1] * (x.ndim - 1)))


def beta(t):
    return 0.1 + 19.9 * t


def integral(s, t):
    return 0.1 * (t - s) + 9.95 * (t * t - s * s)


# x' = a x + b z on N(0, I), written down by hand from the paper's updates, not from rules.py.
CLOSED_FORMS = {
    "euler-maruyama": lambda t, s: (1 - beta(t) * (t - s) / 2, math.sqrt(beta(t) * (t - s))),
    "ode-euler": lambda t, s: (1.0, 0.0),
    "prox-hybrid": lambda t, s: (
        (1 + integral(s, t) / 2) / (1 + integral(s, t)),
        math.sqrt(integral(s, t)) / (1 + integral(s, t)),
    ),
    "prox-backward": lambda t, s: (1 / (1 + integral(s, t) / 2), math.sqrt(integral(s, t)) / (1 + integral(s, t) / 2)),
    "prox-ode": lambda t, s: (1.0, 0.0),
}


def test_every_rule_has_a_closed_form_here():
    assert set(CLOSED_FORMS) == set(RULES)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("last_noise", [True, False])
@pytest.mark.parametrize("grid", [TimeGrid.uniform(12), TimeGrid.denoising(15), TimeGrid.power(30, 1.4)])
def test_samplers_on_gaussian_data(name, grid, last_noise, generator):
    shape = (5, 2, 3)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(grid.steps + 1)]
    x = tensors[0]
    used = 0
    expected = [x]
    for i, (t, s) in enumerate(grid.pairs()):
        a, b = CLOSED_FORMS[name](t, s)
        noisy = b != 0 and (last_noise or i < grid.steps - 1)
        used += noisy
        x = a * x + (b * tensors[used] if noisy else 0)
        expected.append(x)
    seen = []
    state = run(
        StandardNormal(), name, grid, GivenNoise(tensors[0], tensors[1:]), last_noise=last_noise, callback=seen.append
    )
    assert len(seen) == grid.steps + 1
    for got, want in zip(seen, expected, strict=True):
        torch.testing.assert_close(got.x, want, rtol=1e-12, atol=1e-12)
    assert state.nfe == grid.steps
    assert [s.step for s in seen] == [s.nfe for s in seen] == list(range(grid.steps + 1))
    assert [s.t for s in seen] == grid.times.tolist()


def test_every_sampler_converges_to_the_data_law():
    """The variance of the output, from the closed forms, tends to 1 like 1/N."""
    for name, step in CLOSED_FORMS.items():
        errors = []
        for n in (200, 400):
            variance = 1.0
            for t, s in TimeGrid.uniform(n).pairs():
                a, b = step(t, s)
                variance = a * a * variance + b * b
            errors.append(abs(variance - 1))
        assert errors[1] <= 0.55 * errors[0] + 1e-14, name


def test_score_is_taken_at_departure_and_prox_at_arrival():
    model = StandardNormal()
    grid = TimeGrid.uniform(11)
    proxdm.sample(model, "euler-maruyama", grid=grid, shape=(1, 2))
    assert model.asked == grid.times[:-1].tolist()
    model.asked.clear()
    proxdm.sample(model, "prox-backward", grid=grid, shape=(1, 2))
    assert [t for t, _ in model.asked] == grid.times[1:].tolist()
    gammas = [integral(s, t) for t, s in grid.pairs()]
    assert [lam for _, lam in model.asked] == pytest.approx([g / (1 - g / 2) for g in gammas], rel=1e-13)


def test_random_numbers_come_in_the_documented_order():
    """x_T first, then one tensor a noisy step; the denoising sampler draws none for its last step."""
    shape, steps = (4, 3), 5
    for name in RULES:
        if name == "prox-backward":
            continue
        generator = torch.Generator().manual_seed(1)
        proxdm.sample(StandardNormal(), name, steps, shape, generator=generator)
        draws = 1 + (
            RULES[name].stochastic and (steps if isinstance(RULES[name], proxdm.rules.ProxRule) else steps - 1)
        )
        reference = torch.Generator().manual_seed(1)
        for _ in range(draws):
            torch.randn(shape, generator=reference, dtype=torch.float64)
        assert torch.equal(generator.get_state(), reference.get_state()), name


def test_same_generator_same_samples_and_dtype():
    one, two = (
        proxdm.sample(
            StandardNormal(dtype=torch.float32), "prox-hybrid", 6, (3, 2), generator=torch.Generator().manual_seed(9)
        )
        for _ in range(2)
    )
    assert torch.equal(one, two)
    assert one.dtype == torch.float32


def test_seeded_samples_do_not_depend_on_the_batch():
    grid = TimeGrid.uniform(5)
    whole = run(StandardNormal(), "prox-hybrid", grid, SeededNoise(0, range(6), (2,))).x
    parts = [
        run(StandardNormal(), "prox-hybrid", grid, SeededNoise(0, part, (2,))).x for part in (range(2), range(2, 6))
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_half_precision_samples_get_float32_times():
    seen = []

    def prox(x, t, lam):
        seen.append((t.dtype, lam.dtype))
        return x

    noise = GeneratorNoise((2, 3), torch.Generator().manual_seed(0), dtype=torch.bfloat16)
    state = ProxSampler(RULES["prox-hybrid"], TimeGrid.uniform(2)).sample(prox, noise)
    assert state.x.dtype == torch.bfloat16
    assert seen == [(torch.float32, torch.float32)] * 2


def test_no_gradient_is_kept_and_none_leaks():
    weight = torch.ones((), requires_grad=True)
    sampler = ScoreSampler(RULES["ode-euler"], TimeGrid.denoising(3))
    states = sampler.trajectory(lambda x, t: -weight * x, GeneratorNoise((2, 2)))
    next(states)
    next(states)
    assert torch.is_grad_enabled()
    assert not next(states).x.requires_grad


def test_default_grids_are_the_papers():
    assert default_grid(RULES["euler-maruyama"], 7) == TimeGrid.denoising(7, 1e-3)
    assert default_grid(RULES["prox-hybrid"], 7) == TimeGrid.uniform(7)


def test_quadrature_changes_gamma():
    x = torch.ones(1, 1, dtype=torch.float64)
    noise = [GivenNoise(x, [0 * x] * 3) for _ in range(2)]
    left, whole = (
        run(StandardNormal(), "prox-hybrid", TimeGrid.uniform(3), n, quadrature=q).x
        for n, q in zip(noise, ("left", "integral"), strict=True)
    )
    product = math.prod((1 + beta(t) * (t - s) / 2) / (1 + beta(t) * (t - s)) for t, s in TimeGrid.uniform(3).pairs())
    assert float(left) == pytest.approx(product, rel=1e-13)
    assert float(left) != pytest.approx(float(whole), rel=1e-3)


def test_backward_names_the_smallest_grid_that_works():
    message = r"step 1 of 5 from t = 1 to s = 0.8 has gamma = 3.602, .*gamma < 2 only; use N = 10 steps or more"
    with pytest.raises(StepError, match=message):
        proxdm.sample(StandardNormal(), "prox-backward", 5, (2, 2))
    proxdm.sample(StandardNormal(), "prox-backward", 10, (2, 2))
    with pytest.raises(StepError, match="use a finer grid, or prox-hybrid"):
        proxdm.sample(StandardNormal(), "prox-backward", grid=TimeGrid.custom([1.0, 0.3, 0.0]), shape=(2, 2))


def test_check_steps_accepts_every_score_rule():
    for rule in RULES.values():
        if isinstance(rule, ScoreRule):
            check_steps(rule, TimeGrid.uniform(1), VPSDE())


def test_missing_operators():
    class OnlyScore(StandardNormal):
        prox = None

    class OnlyProx(StandardNormal):
        score = None

    with pytest.raises(
        OperatorError, match=r"needs a model with .prox\(x, t, lam\), and OnlyScore has none; use a score"
    ):
        proxdm.sample(OnlyScore(), "prox-hybrid", 3, (2, 2))
    with pytest.raises(OperatorError, match=r"needs a model with .score\(x, t\), and OnlyProx has none; use a prox"):
        proxdm.sample(OnlyProx(), "ode-euler", 3, (2, 2))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shape": (2, 2)}, "give steps=N or grid="),
        ({"steps": 3}, "give shape="),
        (
            {"steps": 3, "grid": TimeGrid.uniform(4), "shape": (2, 2)},
            r"steps = 3, but the grid uniform\(4\) has 4 steps",
        ),
        ({"steps": 3, "shape": (2, 2), "noise": GeneratorNoise((2, 2))}, "leave shape and generator out"),
        ({"steps": 0, "shape": (2, 2)}, "steps = 0 must be a whole number of at least 1"),
    ],
)
def test_contradictory_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        proxdm.sample(StandardNormal(), "prox-hybrid", **arguments)


def test_non_finite_samples_are_an_error():
    class Broken(StandardNormal):
        def prox(self, x, t, lam):
            x = x.clone()
            x[0] = math.nan
            return x

    with pytest.raises(NonFiniteError, match="1 of 4 samples of prox-hybrid are not finite"):
        proxdm.sample(Broken(), "prox-hybrid", 3, (4, 2))
