"""Where a process computes, how it meets the others (a thin view of accelerate), and how it is told to end.

`accelerate launch`, `torchrun` and a plain `python` all work; the processes are those of the launcher. (On CPUs,
`accelerate launch --num_processes 2` starts one process unless it is given an MPI host file; `torchrun` starts two.)
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

import torch
from torch import Tensor, nn

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Ctrl-C; the end of a job; of a session (unless ignored, as under nohup); slurm's usual warning before the end."""


def choose_device(name: str | torch.device) -> torch.device:
    """Return a device by name; `auto` is CUDA or MPS where there is one, else the CPU."""
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ValueError(f"device = {name} cannot be used here ({reason}); use auto, cpu or another device") from error
    return device


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

    where = choose_device(device)
    state = PartialState(cpu=where.type == "cpu")
    return Place(where if where.type == "cpu" else state.device, state.process_index, state.num_processes)


def leave_processes() -> bool:
    """Part from the other processes if there are any; return whether this one is the first."""
    from accelerate import PartialState

    state = PartialState()
    state.destroy_process_group()
    return bool(state.is_main_process)


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Give a list to which :data:`SIGNALS` add their number, instead of ending the process: a step can be finished.

    A second signal has its usual effect. Signals are handled in the main thread only; elsewhere the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    known = {number: signal.getsignal(number) for name in SIGNALS if (number := getattr(signal, name, None))}
    always = (signal.SIGINT, signal.SIGTERM)
    before = {number: handler for number, handler in known.items() if number in always or handler != signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in before:
            signal.signal(number, note)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
