"""What verbs on a model share: which of its weights they take and where it computes, and how they speak."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxdm.checkpoints.load import Opened, open_source


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which weights of a model, and where it computes."""

    weights: str | None = None  # Weight set: ema-0.9999, raw; by default the moving average.
    preset: str | None = None  # Of the paper's .pth files: the preset they belong to, e.g. cifar10-prox-hybrid.
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps.

    @property
    def chosen(self) -> dict[str, Any]:
        """These options alone, by name."""
        return {name: getattr(self, name) for name in ("weights", "preset", "device")}

    def open(self, source: str, device: str | None = None) -> Opened:
        """Return the model of a source, on the device that is chosen or on another."""
        return open_source(source, self.weights, self.preset, device=device or self.device)


def speaker(prog: str) -> Callable[[str], None]:
    """Return what prints a line for people, on the standard error, under the name of the verb."""
    return lambda line: print(f"{prog}: {line}", file=sys.stderr)
