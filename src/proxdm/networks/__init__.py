"""Plain networks `(x, t, lam=None) -> tensor`, no diffusion inside: what the output means, a model decides.

A network is described by a frozen configuration, :class:`UNetConfig` or :class:`MLPConfig`, and built by
:func:`build_network`. It sees `t` and `lam` raw.
"""

from __future__ import annotations

import torch
from torch import nn

from proxdm.networks.embeddings import Conditioning
from proxdm.networks.mlp import MLP, MLPConfig
from proxdm.networks.unet import UNet, UNetConfig

NetworkConfig = UNetConfig | MLPConfig
"""Description of any network of the package."""

__all__ = [
    "MLP",
    "Conditioning",
    "MLPConfig",
    "NetworkConfig",
    "UNet",
    "UNetConfig",
    "build_network",
    "parameter_count",
]


def build_network(config: NetworkConfig) -> UNet | MLP:
    """Return a freshly initialised network.

    Args:
        config: Architecture.
    """
    return UNet(config) if isinstance(config, UNetConfig) else MLP(config)


def parameter_count(network: nn.Module | NetworkConfig) -> int:
    """Return the number of parameters of a network, or of the network a configuration describes (none is built).

    Args:
        network: A network or its configuration.
    """
    if not isinstance(network, nn.Module):
        with torch.device("meta"):
            network = build_network(network)
    return sum(parameter.numel() for parameter in network.parameters())
