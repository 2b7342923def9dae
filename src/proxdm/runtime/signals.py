"""Ctrl-C and SIGTERM: finish the step, write a checkpoint, say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Caught:
    """The signal that came, if one did.

    Attributes:
        number: SIGINT or SIGTERM; 0 if none came.
    """

    number: int = 0


@contextmanager
def caught_signals() -> Iterator[Caught]:
    """Note SIGINT and SIGTERM instead of dying of them; a second one has its usual effect.

    Signals can be handled in the main thread only; elsewhere nothing is caught.
    """
    caught = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        caught.number = number
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
