"""Every rule against the equation that defines it, on p_t = N(0, I) where score and prox are known."""

from __future__ import annotations

import pytest
import torch

from proxdm import RULES, VPSDE
from proxdm.errors import StepError
from proxdm.rules import ProxRule, ScoreRule, find_prox_rule, find_rule, step_size

SDE = VPSDE()
T = torch.tensor([1.0, 0.6, 0.11], dtype=torch.float64)
S = torch.tensor([0.95, 0.5, 0.0], dtype=torch.float64)
PROX_RULES = [rule for rule in RULES.values() if isinstance(rule, ProxRule)]


def test_step_size():
    torch.testing.assert_close(step_size(SDE, T, S, "integral"), 0.1 * (T - S) + 9.95 * (T**2 - S**2))
    torch.testing.assert_close(step_size(SDE, T, S, "left"), (0.1 + 19.9 * T) * (T - S))
    with pytest.raises(ValueError, match="unknown quadrature 'right'"):
        step_size(SDE, T, S, "right")


def prox_update(rule, x, z, quadrature):
    """One step on N(0, I), where prox(y, s, lam) = y / (1 + lam) at every s."""
    step = rule.coefficients(SDE, T, S, quadrature)
    return (step.scale * x + step.noise * z) / (1 + step.lam)


@pytest.mark.parametrize("quadrature", ["left", "integral"])
def test_implicit_equations(generator, quadrature):
    """A backward step solves an implicit equation; check the equation itself, with score(x) = -x."""
    x, z = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    gamma = step_size(SDE, T, S, quadrature)

    after = prox_update(RULES["prox-hybrid"], x, z, quadrature)
    torch.testing.assert_close(after, x + gamma / 2 * x + gamma * -after + gamma.sqrt() * z, rtol=1e-13, atol=1e-13)

    after = prox_update(RULES["prox-backward"], x, z, quadrature)
    torch.testing.assert_close(after, x + gamma / 2 * after + gamma * -after + gamma.sqrt() * z, rtol=1e-13, atol=1e-13)

    after = prox_update(RULES["prox-ode"], x, z, quadrature)
    torch.testing.assert_close(after, x + gamma / 2 * x + gamma / 2 * -after, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("quadrature", ["left", "integral"])
def test_explicit_equations(generator, quadrature):
    x, z, score = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    gamma = step_size(SDE, T, S, quadrature)

    step = RULES["euler-maruyama"].coefficients(SDE, T, S, quadrature)
    after = step.drift * x + step.score * score + step.noise * z
    torch.testing.assert_close(after, x + gamma * (x / 2 + score) + gamma.sqrt() * z, rtol=1e-13, atol=1e-13)

    step = RULES["ode-euler"].coefficients(SDE, T, S, quadrature)
    after = step.drift * x + step.score * score + step.noise * z
    torch.testing.assert_close(after, x + gamma / 2 * (x + score), rtol=1e-13, atol=1e-13)


def test_default_quadrature_is_the_papers():
    for rule in RULES.values():
        assert rule.quadrature == ("left" if isinstance(rule, ScoreRule) else "integral")


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_is_elementwise_and_consistent_as_the_step_shrinks(rule):
    """Coefficients of a vector of intervals are those of each interval; a vanishing step changes nothing."""
    together = rule.coefficients(SDE, T, S)
    for i in range(3):
        alone = rule.coefficients(SDE, float(T[i]), float(S[i]))
        for field in vars(together):
            assert getattr(together, field).dtype == torch.float64
            assert float(getattr(alone, field)) == pytest.approx(float(getattr(together, field)[i]), rel=1e-14)
    assert rule.stochastic == bool((together.noise > 0).all())
    tiny = rule.coefficients(SDE, 0.5, 0.5 - 1e-12)
    values = [float(getattr(tiny, field)) for field in vars(tiny)]
    assert values == pytest.approx([1.0, 0.0, 0.0], abs=1e-5)


def test_backward_is_undefined_from_gamma_two_on():
    rule = RULES["prox-backward"]
    t = torch.tensor([0.5, 1.0], dtype=torch.float64)
    s = torch.tensor([0.4, 0.8], dtype=torch.float64)
    with pytest.raises(
        StepError, match=r"prox-backward step 2 of 2 from t = 1 to s = 0.8 has gamma = 3.602.*gamma < 2"
    ):
        rule.coefficients(SDE, t, s)
    assert rule.undefined(SDE, 0.5, 0.4) is None
    # A constant beta of 2 over a whole unit gives gamma = 2 exactly: the limit itself is excluded.
    assert rule.undefined(VPSDE(2.0, 2.0), 1.0, 0.0) is not None


def test_names():
    assert find_rule("prox-hybrid") is RULES["prox-hybrid"]
    with pytest.raises(ValueError, match="unknown sampler 'ddpm'; the samplers are euler-maruyama"):
        find_rule("ddpm")
    assert [find_prox_rule(rule.name) for rule in PROX_RULES] == PROX_RULES
    with pytest.raises(ValueError, match="'ode-euler' uses a score"):
        find_prox_rule("ode-euler")
