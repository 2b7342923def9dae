"""Plain networks `(x, t, lam=None, labels=None) -> tensor`, no diffusion inside: a model knows what the output means.

A network is described by a frozen dataclass of its settings, an entry of :data:`NETWORKS`, and sees `t` and `lam` raw.
An own network is one more entry (`examples/own.py`); training, files and the hub treat it as ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from proxdm.networks.mlp import MLP as MLP
from proxdm.networks.mlp import MLPConfig as MLPConfig
from proxdm.networks.unet import UNet as UNet
from proxdm.networks.unet import UNetConfig as UNetConfig
from proxdm.runtime.registry import Registry


@runtime_checkable
class NetworkConfig(Protocol):
    """Settings of a network: a frozen dataclass whose fields are numbers, strings, tuples of them, or dataclasses.

    A method `check(shape, conditions)` that raises ValueError, if there is one, is called when a model is described,
    long before `build`. `str()` of the settings is the network in words.
    """

    def build(self, shape: tuple[int, ...], conditions: int) -> nn.Module:
        """Return the network, freshly initialised from torch's global generator, for samples of a shape without batch.

        `conditions` is 1 for a network `(x, t)`, 2 for a network `(x, t, lam)`. A network that is told of classes says
        their number in `classes`, and takes `labels=` as well.
        """


@dataclass(frozen=True)
class ExternalNetwork:
    """A network that a user made and keeps outside of :data:`NETWORKS`: files hold its weights, not its making."""

    name: str  # Qualified name of its class

    def build(self, shape: tuple[int, ...], conditions: int) -> nn.Module:
        """Raise a ValueError: how it is made is not known."""
        raise ValueError(f"the network {self.name} is not described in the file: make one, and give it by network=")

    def __str__(self) -> str:
        return self.name


NETWORKS: Registry[type[NetworkConfig]] = Registry("network")
"""Settings of networks by the name that JSON has for them (`"type"`)."""

NETWORKS.add("unet", UNetConfig)
NETWORKS.add("mlp", MLPConfig)
NETWORKS.add("external", ExternalNetwork)


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
