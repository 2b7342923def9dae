"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1: finish the step, write a checkpoint, say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Ctrl-C; the end of a job; of a session (unless ignored, as under nohup); slurm's usual warning before the end."""


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Give a list to which the signals of :data:`NAMES` add their number, instead of ending the process.

    A second signal has its usual effect. Signals are handled in the main thread only; elsewhere the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    known = (number for name in NAMES if (number := getattr(signal, name, None)) is not None)
    before = {number: signal.getsignal(number) for number in known}
    for number in set(before) - {signal.SIGINT, signal.SIGTERM}:
        if before[number] == signal.SIG_IGN:
            del before[number]

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
