"""The embeddings are their formulas, exempt from autocast; the residual MLP: shapes, conditioning, learning."""

from __future__ import annotations

import pytest
import torch

from proxdm.networks import MLP, MLPConfig
from proxdm.networks.embeddings import ConditionEmbedding, ScalarEmbedding, sinusoidal_features


@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 3), (5, 1, 3, 2)])
@pytest.mark.parametrize("conditioning", ["time", "time-lam"])
def test_takes_any_shape_with_the_right_number_of_entries(shape, conditioning):
    torch.manual_seed(0)
    network = MLP(MLPConfig(dim=6, width=16, depth=2, conditioning=conditioning))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    conditions = [torch.rand(5)] * (1 if conditioning == "time" else 2)
    out = network(x, *conditions)
    assert out.shape == x.shape
    torch.testing.assert_close(out.flatten(1), network(x.flatten(1), *conditions), rtol=0, atol=0)


def test_other_shapes_are_errors():
    with pytest.raises(ValueError, match=r"x has shape \(3, 5\), but this network takes \(B, \*\) with 6 numbers"):
        MLP(MLPConfig(dim=6, width=16))(torch.zeros(3, 5), torch.zeros(3))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dim": 0}, "dim = 0 must be at least 1"),
        ({"width": 5}, "width = 5 must be even"),
        ({"dropout": -0.1}, "dropout = -0.1 must lie in"),
        ({"log_lam": True}, "log_lam = True needs"),
    ],
)
def test_configurations_that_cannot_be_built_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        MLPConfig(**change)


def test_learns_a_function_of_x_t_and_lam():
    """The regression of `x sin(3 t) + lam` falls below a tenth of its variance: every input gets through."""
    torch.manual_seed(0)
    network = MLP(MLPConfig(dim=2, width=32, depth=2, conditioning="time-lam"))
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(150):
        x = torch.randn(128, 2, generator=generator)
        t, lam = torch.rand(2, 128, generator=generator)
        target = x * torch.sin(3 * t)[:, None] + lam[:, None]
        loss = (network(x, t, lam) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item() / target.var().item())
    assert sum(losses[-20:]) / 20 < 0.1 < losses[0]


def test_features_are_the_formula():
    t = torch.tensor([0.0, 1e-3, 0.37, 1.0], dtype=torch.float64)
    angles = 1000 * t[:, None] * 10000 ** (-torch.arange(8, dtype=torch.float64) / 7)
    expected = torch.cat([angles.sin(), angles.cos()], 1)
    torch.testing.assert_close(sinusoidal_features(t, 16), expected, rtol=0, atol=1e-11)


def test_features_of_half_precision_times_are_computed_in_float32():
    t = torch.tensor([0.75], dtype=torch.bfloat16)  # exact in bfloat16
    out = sinusoidal_features(t, 16)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, sinusoidal_features(t.double(), 16).float(), rtol=0, atol=1e-4)


def test_embedding_is_the_same_under_autocast():
    torch.manual_seed(0)
    embedding, t = ScalarEmbedding(32, 64), torch.linspace(0, 1, 11)
    plain = embedding(t)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = embedding(t)
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16  # autocast is on again
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_t_and_lam_have_a_half_each():
    torch.manual_seed(0)
    embedding = ConditionEmbedding("time-lam", 16, 32)
    t, lam = torch.tensor([0.1, 0.1]), torch.tensor([0.2, 0.9])
    out = embedding(t, lam)
    assert out.shape == (2, 32)
    torch.testing.assert_close(out[0, :16], out[1, :16], rtol=0, atol=0)
    assert not torch.allclose(out[0, 16:], out[1, 16:])
    torch.testing.assert_close(out, torch.cat([embedding.time(t), embedding.lam(lam)], 1), rtol=0, atol=0)


def test_log_lam_embeds_the_logarithm():
    torch.manual_seed(0)
    embedding, lam = ConditionEmbedding("time-lam", 16, 32, log_lam=True), torch.tensor([1e-4, 2.0])
    waves = sinusoidal_features(lam.log(), 16, scale=100.0)
    expected = embedding.lam.out(torch.nn.functional.silu(embedding.lam.hidden(waves)))
    torch.testing.assert_close(embedding(lam, lam)[:, 16:], expected, rtol=0, atol=0)


def test_lam_must_fit_the_conditioning():
    t = torch.tensor([0.5])
    with pytest.raises(ValueError, match="conditioned on t and lam: give lam"):
        ConditionEmbedding("time-lam", 16, 32)(t)
    with pytest.raises(ValueError, match="conditioned on t alone, leave lam out"):
        ConditionEmbedding("time", 16, 32)(t, t)
