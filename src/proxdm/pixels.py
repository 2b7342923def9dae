"""The two maps between pictures as they are kept, uint8 in [0, 255], and as models see them, float32 in [-1, 1].

`x = u / 127.5 - 1` and `u = round(127.5 (x + 1))`, clipped: here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from proxdm.errors import DataError


def is_image_shape(shape: Sequence[int]) -> bool:
    """Return whether samples of this shape (without the batch) are pictures: (1, H, W) or (3, H, W)."""
    return len(shape) == 3 and shape[0] in (1, 3)


def to_model_range(images: Tensor) -> Tensor:
    """Return `u / 127.5 - 1`, float32 in [-1, 1], for uint8 images `(*)`; floating-point ones pass as float32."""
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(127.5).sub_(1.0)
    if not images.dtype.is_floating_point:
        raise DataError(f"images of type {images.dtype} have no known range; give uint8 or floating point")
    return images.to(torch.float32)


def to_uint8(images: Tensor) -> Tensor:
    """Return `round(127.5 (x + 1))` clipped to [0, 255], uint8, for images `(*)` in [-1, 1].

    The inverse of :func:`to_model_range` on its range. Values beyond [-1, 1] are clipped, as samples need it.
    """
    if images.dtype == torch.uint8:
        return images
    scaled = images.to(torch.float32).add(1.0).mul_(127.5)
    if torch.isnan(scaled).any():
        raise DataError("NaN among the images cannot be written as uint8; look at the sampler or the model")
    return scaled.round_().clamp_(0.0, 255.0).to(torch.uint8)


def as_kept(samples: Tensor) -> Tensor:
    """Return samples `(B, *)` of a model as they are kept: pictures as :func:`to_uint8`, others as float32."""
    return to_uint8(samples) if is_image_shape(samples.shape[1:]) else samples.to(torch.float32)
