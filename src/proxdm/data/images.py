"""Samples as they are kept: pictures are uint8 in [0, 255] or float32 in [-1, 1] (:mod:`proxdm.pixels`).

Samples that are no pictures (points, latents, features) are float32 `(n, *)`, as the model sees them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from proxdm.errors import DataError
from proxdm.pixels import to_model_range

MEMORY_LIMIT = 8 * 2**30
"""Bytes of decoded samples that may be held in memory, 8 GiB; larger sets are refused before they are read."""


def check_memory(name: str, shape: Sequence[int], bytes_per_value: int = 1) -> None:
    """Refuse samples of this shape `(n, *)` if they need more than :data:`MEMORY_LIMIT`."""
    if (size := math.prod(shape) * bytes_per_value) > MEMORY_LIMIT:
        raise DataError(
            f"{name}: {shape[0]} samples of {'x'.join(map(str, shape[1:]))} need {size / 2**30:.3g} GiB, the limit is "
            f"{MEMORY_LIMIT / 2**30:.3g} GiB; take a smaller size= or a limit=, or write them in their final form to "
            "an .npy file, uint8 (n, C, H, W) or float32 in [-1, 1], which is read from disk"
        )


@dataclass(frozen=True, eq=False)
class ImageData:
    """A set of samples: pictures mostly, or latents of an autoencoder, points, any numbers."""

    images: Tensor  # Pictures `(n, C, H, W)`, uint8 in [0, 255]; or float32 `(n, *)` as the model sees them
    name: str  # What it is, e.g. `mnist` or the name of a folder
    split: str = "train"  # `train` or `test`
    preprocessing: str = ""  # What was done to the pixels, in words; goes into the stamp of reference statistics
    memory_mapped: bool = False  # Whether the pixels stay on disk until they are read
    latent: bool = False  # Whether these are latents of an autoencoder: numbers without a fixed range, not pixels
    labels: Tensor | None = None  # Class of every sample, int64 `(n,)`, where they are known
    classes: tuple[str, ...] = ()  # Names of the classes, by their number

    def __post_init__(self) -> None:
        """Check type and shape."""
        shape, dtype = tuple(self.images.shape), self.images.dtype
        if dtype not in (torch.uint8, torch.float32):
            raise DataError(f"{self.name}: samples must be uint8 or float32, got {dtype}")
        if 0 in shape or (len(shape) != 4 if dtype == torch.uint8 else len(shape) < 2):
            raise DataError(
                f"{self.name}: samples must be uint8 (n, C, H, W) or float32 (n, *), not empty, got {shape}"
            )
        if self.labels is not None and len(self.labels) != shape[0]:
            raise DataError(f"{self.name}: {shape[0]} samples have {len(self.labels)} labels; give one for each")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (C, H, W) of pictures."""
        return tuple(self.images.shape[1:])

    def head(self, count: int | None) -> ImageData:
        """Return the first `count` samples (None or more than there are: all)."""
        if count is None or count >= len(self):
            return self
        return self.take(slice(count), f"{self.preprocessing}; first {count} of {len(self)}", self.memory_mapped)

    def held_out(self, share: float) -> tuple[ImageData, ImageData | None]:
        """Return the samples without every `1 / share`-th of them, and these; all and None for a share of 0."""
        if not share:
            return self, None
        check_memory(f"{self.name} without what is held out", self.images.shape, self.images.element_size())
        numbers = torch.arange(len(self))
        held = ((numbers + 1) * share).floor() > (numbers * share).floor()
        if not bool(held.any()):
            raise DataError(f"{self.name}: a share of {share:g} of {len(self)} samples is none; hold out more")
        return self.take(~held, self.preprocessing), self.take(held, self.preprocessing)

    def of(self, wanted: Sequence[str]) -> ImageData:
        """Return the samples of some classes, by their names, with all names of classes."""
        if self.labels is None:
            raise DataError(f"{self.name}: the classes of the samples are not known; leave out classes=")
        for one in wanted:
            if one not in self.classes:
                raise DataError(f"{self.name}: there is no class {one!r}; there are {', '.join(self.classes)}")
        numbers = torch.tensor([self.classes.index(one) for one in wanted])
        return self.take(torch.isin(self.labels, numbers), f"{self.preprocessing}; of {', '.join(wanted)}")

    def take(self, rows: slice | Tensor, note: str, mapped: bool = False) -> ImageData:
        """Return some samples with their labels, `note` as what was done to them."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, images=self.images[rows], preprocessing=note, memory_mapped=mapped, labels=labels)


def iterate(data: ImageData, batch_size: int, *, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Yield every sample once, in order, in the model's range: float32 `(b, *)`, the last batch may be short.

    :func:`to_uint8` gives the stored bytes back exactly.
    """
    if batch_size < 1:
        raise DataError(f"batch_size = {batch_size} must be at least 1")
    for start in range(0, len(data), batch_size):
        yield to_model_range(data.images[start : start + batch_size].to(device))
