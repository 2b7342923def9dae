"""What experiments share: one thread for small tensors, and the versions that numbers depend on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from platform import python_version

import torch

from proxdm._version import __version__


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: small tensors only lose by sharing, and numbers do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of proxdm, Python and these installed packages, by name."""
    return {"proxdm": __version__, "python": python_version(), **{name: version(name) for name in packages}}
