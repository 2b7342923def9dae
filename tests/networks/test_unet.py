"""The U-Net: parameter counts of the paper, attention by explicit matrices, and invariance to how it is run."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from proxdm.networks import UNet, UNetConfig
from proxdm.networks.unet import ResidualBlock, SelfAttention

SMALL = UNetConfig(channels=2, width=8, mult=(1, 2), attention=(1,), num_res_blocks=1, dropout=0.0)
SMALL_PROX = replace(SMALL, conditioning="time-lam")


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter a random value of natural size: the last convolutions start nearly at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise / p[0].numel() ** 0.5 if p.ndim > 1 else 1 + 0.1 * noise)
    return network


def batch(config: UNetConfig, size: tuple[int, int] = (8, 8), n: int = 3, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, config.channels, *size, generator=generator)
    t = torch.rand(n, generator=generator)
    return (x, t) if config.conditioning == "time" else (x, t, torch.rand(n, generator=generator) + 0.1)


def test_attention_equals_explicit_matrices():
    attention = randomised(SelfAttention(8)).double()
    x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    h = F.group_norm(x, 8, attention.norm.weight, attention.norm.bias).flatten(2)  # (B, C, pixels)
    w = {name: getattr(attention, name).weight[:, :, 0, 0] for name in ("query", "key", "value", "out")}
    b = {name: getattr(attention, name).bias[:, None] for name in w}
    q, k, v = (w[name] @ h + b[name] for name in ("query", "key", "value"))
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / 8**0.5, dim=-1)
    mixed = torch.einsum("bij,bcj->bci", weights, v)
    expected = x + (w["out"] @ mixed + b["out"]).reshape(x.shape)
    torch.testing.assert_close(attention(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (16, 16)])
def test_attention_in_bfloat16_is_that_of_double_precision_rounded(size):
    attention = randomised(SelfAttention(32)).double()
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(2, 32, *size, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    exact = attention(x) - x
    (gradient,) = torch.autograd.grad((exact * weights).sum(), x)
    rounded = copy.deepcopy(attention).float()
    narrow = x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = rounded(narrow) - narrow
    (found_gradient,) = torch.autograd.grad((found * weights).sum(), narrow)
    assert (found - exact).norm() < 0.02 * exact.norm()
    assert (found_gradient - gradient).norm() < 0.04 * gradient.norm()


def test_residual_block_is_its_formula():
    block = randomised(ResidualBlock(4, 8, 6, dropout=0.5, attention=False)).double().eval()
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 4, 6, 6, generator=generator, dtype=torch.float64)
    e = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    h = F.conv2d(F.silu(F.group_norm(x, 4, block.norm1.weight, block.norm1.bias)), block.conv1.weight, padding=1)
    h = h + (block.conv1.bias + F.silu(e) @ block.condition.weight.T + block.condition.bias)[:, :, None, None]
    h = F.silu(F.group_norm(h, 8, block.norm2.weight, block.norm2.bias))
    h = F.conv2d(h, block.conv2.weight, block.conv2.bias, padding=1)
    expected = h + F.conv2d(x, block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(x, e), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("config", [SMALL, SMALL_PROX], ids=["time", "time-lam"])
def test_every_input_and_parameter_matters(config):
    network = randomised(UNet(config))
    inputs = [value.requires_grad_() for value in batch(config)]
    network(*inputs).square().mean().backward()
    for tensor in [*inputs, *network.parameters()]:
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0


@pytest.mark.parametrize(
    "config, size, fits",
    [
        (UNetConfig(channels=1, width=8), (28, 28), "multiples of 8 .*such as 32x32"),
        (UNetConfig(channels=1, width=8, mult=(1, 2), patch=4), (32, 36), "multiples of 8 .*such as 32x40"),
        (UNetConfig(channels=1, width=8, mult=(1, 2)), (0, 4), "multiples of 2 .*such as 2x4"),
    ],
)
def test_other_sizes_are_errors_that_name_one_that_fits(config, size, fits):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} .*{fits}"):
        UNet(config)(torch.zeros(1, 1, *size), torch.zeros(1))
    with pytest.raises(ValueError, match=r"\(3, 8, 8\) must have shape \(1, height, width\)"):
        UNet(config)(torch.zeros(1, 3, 8, 8), torch.zeros(1))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"width": 7}, "width = 7 must be even and at least 4"),
        ({"width": 2}, "width = 2 must be even and at least 4"),
        ({"mult": ()}, "one multiplier of at least 1"),
        ({"attention": (4,)}, "attention level 4 does not exist: mult has levels 0 to 3"),
        ({"num_res_blocks": 0}, "num_res_blocks = 0 must be at least 1"),
        ({"patch": 0}, "patch = 0 must be at least 1"),
        ({"out_channels": 0}, "out_channels = 0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout = 1.0 must lie in \[0, 1\)"),
        ({"conditioning": "both"}, "unknown conditioning 'both'; use 'time'"),
        ({"log_lam": True}, "log_lam = True needs conditioning = 'time-lam'"),
    ],
)
def test_configurations_that_cannot_be_built_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**change)


def test_patch_wraps_the_same_network():
    """Patch 2 is the network of 4 times the channels between two rearrangements, plus a multiple of the input."""
    patched = randomised(UNet(UNetConfig(channels=2, width=8, mult=(1, 2), num_res_blocks=1, patch=2))).eval()
    plain = UNet(UNetConfig(channels=8, width=8, mult=(1, 2), num_res_blocks=1)).eval()
    weights = patched.state_dict()
    bypass = nn.Linear(32, 8)
    bypass.load_state_dict({name: weights.pop(f"bypass.{name}") for name in ("weight", "bias")})
    plain.load_state_dict(weights)
    x, t = batch(patched.config, (8, 8))

    def deep(x):
        """By strides: channel c, row offset i, column offset j go to channel 4c + 2i + j."""
        return torch.stack([x[:, c, i::2, j::2] for c in range(2) for i in range(2) for j in range(2)], 1)

    factor = bypass(F.silu(patched.embedding(t)))
    torch.testing.assert_close(deep(patched(x, t)), plain(deep(x), t) + factor[:, :, None, None] * deep(x))


def test_without_patches_or_with_other_channels_there_is_no_bypass():
    plain = UNetConfig(channels=2, width=8, mult=(1,), attention=(), num_res_blocks=1)
    assert UNet(plain).bypass is None
    assert UNet(replace(plain, patch=2, out_channels=3)).bypass is None
    fresh = UNet(replace(plain, patch=2))
    x, t = batch(fresh.config, (8, 8))
    assert fresh(x, t).abs().max() < 1e-3, "a fresh network predicts nothing"


def test_checkpointing_gives_the_same_gradients():
    config = replace(SMALL_PROX, dropout=0.3)
    inputs, gradients = batch(config), {}
    network = randomised(UNet(config)).train()
    for checkpoint in (False, True):
        other = UNet(replace(config, checkpoint=checkpoint)).train()
        other.load_state_dict(network.state_dict())
        torch.manual_seed(5)  # the same dropout masks
        other(*inputs).square().mean().backward()
        gradients[checkpoint] = [p.grad for p in other.parameters()]
    for a, b in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_checkpointing_keeps_fewer_activations():
    kept = {}
    for checkpoint in (False, True):
        network = UNet(replace(SMALL, checkpoint=checkpoint)).train()
        tensors = []
        with torch.autograd.graph.saved_tensors_hooks(lambda v, keep=tensors: keep.append(v) or v, lambda v: v):
            network(*batch(SMALL))
        kept[checkpoint] = len(tensors)
    assert kept[True] < kept[False] / 2


def test_bf16_autocast_is_finite_near_and_returns_float32():
    network, inputs = randomised(UNet(SMALL_PROX)), batch(SMALL_PROX)
    plain = network(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(*inputs)
    assert mixed.dtype == torch.float32
    mixed.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert 0 < (mixed - plain).norm() / plain.norm() < 0.05


def test_dropout_acts_in_training_only():
    network, inputs = randomised(UNet(replace(SMALL, dropout=0.5))), batch(SMALL)
    torch.manual_seed(0)
    assert not torch.allclose(network.train()(*inputs), network(*inputs))
    torch.testing.assert_close(network.eval()(*inputs), network(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_traced_network_has_no_graph_break_and_the_same_numbers(checkpoint):
    network, inputs = randomised(UNet(replace(SMALL_PROX, checkpoint=checkpoint))), batch(SMALL_PROX)
    traced = torch.compile(network, fullgraph=True, backend="aot_eager")
    out, expected = traced(*inputs), network(*inputs)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    parameters = list(network.parameters())
    gradients = [torch.autograd.grad(value.square().mean(), parameters) for value in (out, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
