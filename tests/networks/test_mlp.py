"""The residual MLP: shapes, conditioning, and that it can learn."""

from __future__ import annotations

import pytest
import torch

from proxdm.networks import MLP, MLPConfig, parameter_count


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
        ({"dim": 0}, "dim = 0 and depth = 4 must both be at least 1"),
        ({"depth": 0}, "dim = 2 and depth = 0"),
        ({"width": 5}, "width = 5 must be even"),
        ({"dropout": -0.1}, "dropout = -0.1 must lie in"),
        ({"log_lam": True}, "log_lam = True needs"),
    ],
)
def test_configurations_that_cannot_be_built_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        MLPConfig(**change)


def test_parameter_count():
    w, d = 16, 3
    linear = w * w + w
    expected = 2 * linear + (2 * w + w) + d * (3 * linear + 4 * w) + 2 * w + (2 * w + 2)
    assert parameter_count(MLP(MLPConfig(dim=2, width=w, depth=d))) == expected


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


def test_traced_network_has_no_graph_break_and_the_same_numbers():
    torch.manual_seed(0)
    network = MLP(MLPConfig(width=16, conditioning="time-lam", log_lam=True))
    inputs = torch.randn(4, 2), torch.rand(4), torch.rand(4) + 0.1
    traced = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(traced(*inputs), network(*inputs), rtol=1e-4, atol=1e-5)
