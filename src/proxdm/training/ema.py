"""Exponential moving averages of the weights, several decays at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverages:
    """`a <- decay a + (1 - decay) w` after every optimiser step, in float32; a starts at the first weights.

    A step that was skipped counts as one that did not move the weights. With warm-up the decay of step n is
    `min(decay, (1 + n) / (10 + n))`, as in TensorFlow and timm, so that short runs forget where they started; without,
    as in arXiv 2507.08956, it is the same in every step. Every process keeps its own averages of the same weights, so
    they agree without communication.
    """

    def __init__(self, network: nn.Module, decays: Sequence[float], *, warmup: bool = False) -> None:
        self._network, self._warmup = network, warmup
        self._weights: list[Tensor] = list(network.parameters())
        self.averages = {decay: [w.detach().float().clone() for w in self._weights] for decay in decays}

    @torch.no_grad()
    def update(self, step: int = 0) -> None:
        """Move every average towards the present weights, those after optimiser step `step`, from 0 on."""
        weights = [w.detach().float() for w in self._weights]
        most = (1 + step) / (10 + step) if self._warmup else 1.0
        for decay, average in self.averages.items():
            torch._foreach_lerp_(average, weights, 1 - min(decay, most))

    def state(self, decay: float) -> dict[str, Tensor]:
        """Return the network's state with one average in place of its parameters; the tensors, not copies."""
        return self._network.state_dict() | self._named(decay)

    @torch.no_grad()
    def load(self, decay: float, state: Mapping[str, Tensor]) -> None:
        """Set one average to what :meth:`state` gave."""
        for name, average in self._named(decay).items():
            average.copy_(state[name])

    def _named(self, decay: float) -> dict[str, Tensor]:
        """Return one average by parameter name; parameters that are shared have several."""
        places = {id(weight): average for weight, average in zip(self._weights, self.averages[decay], strict=True)}
        return {name: places[id(p)] for name, p in self._network.named_parameters(remove_duplicate=False)}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Put the first average, if any, in the place of the weights for a block; afterwards they are as before."""
        kept = [w.detach().clone() for w in self._weights]
        with torch.no_grad():
            torch._foreach_copy_(self._weights, next(iter(self.averages.values()), kept))
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, kept)
