"""Sets of features `(n, D)`, checked before a metric is taken of them, and numbers as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from proxdm.errors import NonFiniteError
from proxdm.schedules import as_float64

Array = NDArray[np.float64]
Numbers = Tensor | NDArray[Any] | ArrayLike

BLOCK = 2048
"""Rows and columns of a matrix between samples that are held at a time, unless told otherwise."""


def as_array(values: Numbers) -> Array:
    """Return numbers of any kind as a float64 array."""
    return np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)


def check_features(features: Tensor) -> Tensor:
    """Return features `(B, D)` as float64, detached (ValueError: they are not that; NonFiniteError: NaN, infinite)."""
    if features.ndim != 2 or 0 in features.shape or not features.is_floating_point():
        raise ValueError(
            f"features must be floating point (B, D), not empty, got {features.dtype} of shape {tuple(features.shape)}"
        )
    if bad := int((~torch.isfinite(features).all(dim=1)).sum()):
        raise NonFiniteError(
            f"{bad} of {len(features)} feature vectors contain NaN or infinite numbers; look at their images"
        )
    return as_float64(features.detach())


def check_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two sets by :func:`check_features`, on the device of the second, of equal dimension (ValueError)."""
    second = check_features(y)
    first = check_features(x).to(second.device)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features of dimension {first.shape[1]} and {second.shape[1]} cannot be compared")
    return first, second
