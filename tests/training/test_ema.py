"""Moving averages against the recursion in float64."""

from __future__ import annotations

import pytest
import torch

from proxdm.checkpoints.load import share_of_start
from proxdm.training.ema import WeightAverages


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2, bias=False))


def moved(net, step):
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def test_averages_follow_the_recursion_from_the_first_weights():
    net = network()
    averages = WeightAverages(net, (0.9, 0.9999))
    expected = {d: {k: w.double() for k, w in net.state_dict().items()} for d in (0.9, 0.9999)}
    for step in range(50):
        moved(net, step)
        averages.update()
        for decay, values in expected.items():
            for key, weight in net.state_dict().items():
                values[key] = decay * values[key] + (1 - decay) * weight.double()
    for decay, values in expected.items():
        for key, value in averages.state(decay).items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), values[key], rtol=1e-5, atol=1e-6)


def test_half_precision_weights_are_averaged_in_float32():
    """In bfloat16, 1 + 1e-3 is 1: the average would never move."""
    net = torch.nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    torch.nn.init.constant_(net.weight, 1.0)
    averages = WeightAverages(net, (0.999,))
    torch.nn.init.constant_(net.weight, 2.0)
    averages.update()
    assert averages.state(0.999)["weight"].item() == pytest.approx(1.001, rel=1e-6)


def test_in_use_puts_the_average_in_place_and_the_weights_back():
    net = network()
    averages = WeightAverages(net, (0.5, 0.9))
    first = {k: v.clone() for k, v in net.state_dict().items()}
    moved(net, 1)
    now = {k: v.clone() for k, v in net.state_dict().items()}
    parameters = list(net.parameters())

    def look():
        assert all(torch.equal(v, first[k]) for k, v in net.state_dict().items())
        assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), averages.in_use():
        look()
    assert all(torch.equal(v, now[k]) for k, v in net.state_dict().items())
    with WeightAverages(net, ()).in_use():
        assert all(torch.equal(v, now[k]) for k, v in net.state_dict().items())


def test_states_hold_buffers_and_shared_parameters_so_that_the_network_loads_them():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    net[2].weight = net[0].weight
    averages = WeightAverages(net, (0.5,))
    moved(net, 1)
    averages.update()
    state = averages.state(0.5)
    assert state.keys() == net.state_dict().keys()
    assert state["0.weight"] is state["2.weight"]
    net.load_state_dict(state)


@pytest.mark.parametrize("decay", [0.999, 0.5])
@pytest.mark.parametrize("steps", [1, 7, 300])
def test_a_warmed_up_average_forgets_its_start(decay, steps):
    """Of weights that are 0 from the first step on, what is left is the share of the start."""
    net = network(0)
    averages = WeightAverages(net, (decay,), warmup=True)
    start = [average.clone() for average in averages.averages[decay]]
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
    wanted = 1.0
    for step in range(steps):
        averages.update(step)
        wanted *= min(decay, (1 + step) / (10 + step))
    share = share_of_start(decay, steps, warmup=True)
    assert share == pytest.approx(wanted, rel=1e-9)
    for average, first in zip(averages.averages[decay], start, strict=True):
        torch.testing.assert_close(average, share * first, rtol=1e-3, atol=1e-6)
    assert share_of_start(decay, steps, warmup=False) == decay**steps
