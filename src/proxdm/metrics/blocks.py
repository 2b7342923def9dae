"""Sets of features `(n, D)`: checked once, then read in blocks of rows as float64.

Distances and kernels between n and m samples are matrices of `n m` entries; reading both sets in blocks keeps the
memory at one block, and features may stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from proxdm.errors import NonFiniteError
from proxdm.schedules import as_float64

BLOCK = 2048
"""Rows and columns of a matrix between samples that are held at a time, unless told otherwise."""


def blocks(features: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yield `size` rows of the features at a time, as float64, with the number of the first."""
    for start in range(0, len(features), size):
        yield start, as_float64(features[start : start + size])


def check_features(features: Tensor) -> Tensor:
    """Return features `(B, D)` detached, in their own type, on a device that has float64 (the CPU, instead of MPS).

    Raises:
        ValueError: They are not floating point `(B, D)` with B, D at least 1.
        NonFiniteError: They contain NaN or infinite numbers.
    """
    if features.ndim != 2 or 0 in features.shape or not features.is_floating_point():
        raise ValueError(
            f"features must be floating point (B, D), both at least 1, got {features.dtype} of shape "
            f"{tuple(features.shape)}"
        )
    features = features.detach()
    finite = torch.isfinite(features).all(dim=1)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise NonFiniteError(
            f"{bad} of {len(features)} feature vectors contain NaN or infinite numbers; look at the images they came "
            "from"
        )
    return features.cpu() if features.device.type == "mps" else features


def check_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two sets of features, both by :func:`check_features`, on the device of the second.

    Raises:
        ValueError: They have different dimensions, or are not `(n, D)`.
        NonFiniteError: NaN or infinite features.
    """
    second = check_features(y)
    first = check_features(x).to(second.device)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features of dimension {first.shape[1]} and {second.shape[1]} cannot be compared")
    return first, second
