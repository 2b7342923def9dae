"""Chunks of pictures from a model: always the same samples in one call of the network, whatever the batches.

The rounding of a network depends on the shape of what it is given, and with some kernels on the place of a sample in
it. Sample i is therefore always computed in chunk `i // size`, and the last chunk is computed in full: pictures are the
same to the last bit at every batch size and number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from proxdm.checkpoints.portable import model_config
from proxdm.errors import NonFiniteError, ProxdmError
from proxdm.generation import Decoder, arithmetic, draw
from proxdm.metrics.features import Shape
from proxdm.models import LearnedModel, ProxModel
from proxdm.pixels import to_uint8
from proxdm.sweep import Cell


@dataclass(frozen=True, eq=False)
class ChunkSampler:
    """Draws the pictures of a model by chunks."""

    model: LearnedModel  # The model
    shape: Shape  # (C, H, W) of the pictures
    decode: Decoder  # From samples of the model to pictures in [-1, 1]
    size: int  # Samples in a chunk, one call of the network
    bf16: bool = False  # Whether the network runs in bfloat16

    def draw(self, cell: Cell, number: int) -> tuple[Tensor, int]:
        """Return the pictures of chunk `number`, uint8 `(size, C, H, W)`, and the network evaluations of each."""
        indices = range(number * self.size, (number + 1) * self.size)
        with arithmetic(self.model.device, bf16=self.bf16):
            try:
                state = draw(self.model, cell.method, cell.grid, cell.seed, indices)
                return to_uint8(self.decode(state.x)), state.nfe
            except NonFiniteError as error:
                raise NonFiniteError(f"samples {indices[0]} to {indices[-1]} on {cell.grid.name}: {error}") from error
            except torch.cuda.OutOfMemoryError as error:
                raise ProxdmError(
                    f"{self.size} samples at a time do not fit the memory of {self.model.device}; take a smaller chunk"
                ) from error

    def compile(self) -> None:
        """Compile the network of the model, in place, for chunks of this size; takes a minute or two on a CPU."""
        self.model.network.compile(dynamic=False)
        self.time_evaluation()  # compiles, which must not count as time of the first row

    def time_evaluation(self) -> float:
        """Return the seconds of one network evaluation of a chunk, after one to warm up."""
        x = torch.zeros(self.size, *model_config(self.model.config).shape, device=self.model.device)
        t = torch.full((self.size,), 0.5, device=x.device)
        seconds = 0.0
        for _ in range(2):
            _wait(x.device)
            started = perf_counter()
            with arithmetic(x.device, bf16=self.bf16):
                _ = self.model.prox(x, t, t) if isinstance(self.model, ProxModel) else self.model.score(x, t)
            _wait(x.device)
            seconds = perf_counter() - started
        return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
