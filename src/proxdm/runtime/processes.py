"""Where a process computes, and how it meets the others: a thin view of accelerate.

`accelerate launch`, `torchrun` and a plain `python` all work; the processes are those of the launcher. (On CPUs,
`accelerate launch --num_processes 2` starts one process unless it is given an MPI host file; `torchrun` starts two.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """One of the processes of a training."""

    device: torch.device  # Where it computes
    rank: int = 0  # Its number, from 0
    world: int = 1  # How many there are

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def largest(self, value: int) -> int:
        """Return the largest of a number over the processes. The host waits for the device here."""
        if self.world == 1:
            return value
        values = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        return int(values)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            torch.distributed.barrier()

    def spread(self, model: nn.Module) -> nn.Module:
        """Return the model whose backward pass averages gradients over the processes."""
        if self.world == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


def find_place(device: Literal["auto", "cpu"] = "auto") -> Place:
    """Return the place of this process, joining the others if a launcher started several."""
    from accelerate import PartialState

    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    state = PartialState(cpu=device == "cpu" or not accelerated)
    where = torch.device("cpu") if device == "cpu" else state.device
    return Place(where, state.process_index, state.num_processes)


def leave_processes() -> bool:
    """Part from the other processes if there are any; return whether this one is the first."""
    from accelerate import PartialState

    state = PartialState()
    state.destroy_process_group()
    return bool(state.is_main_process)
