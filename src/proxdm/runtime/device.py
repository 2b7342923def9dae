"""Devices by name."""

from __future__ import annotations

import torch


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
