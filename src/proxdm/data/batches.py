"""Training batches without worker processes: the whole set lies on the device and is batched and flipped there.

Sample number p of the endless stream (p = 0, 1, ...) belongs to epoch `e = p div n`, and is sample `perm_e[p mod n]` of
the data, `perm_e` a permutation drawn from (seed, e) alone. Step k with a batch of B takes the numbers
`k B ... (k + 1) B - 1`. Hence:

- the order is a function of (seed, step): a resumed run goes on with the very samples that were due;
- rank r of W takes the r-th slice of B / W, so the union over the ranks is the same for every W;
- every epoch shows each sample once; nothing is dropped at its end, and B may exceed n.

Flips are decided at position p as well, afresh in every epoch; or, `frozen`, once per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import get_args

import torch
from torch import Tensor

from proxdm.data import images
from proxdm.data.augment import augmented, make_augmentation
from proxdm.data.images import ImageData
from proxdm.data.load import Flip
from proxdm.errors import DataError
from proxdm.pixels import to_model_range
from proxdm.runtime.seeds import step_generator

# Tags of the three uses of random numbers, chosen apart from the small numbers that index samples elsewhere.
_ORDER, _RANDOM_FLIP, _FROZEN_FLIP = 0x6F726465, 0x72666C70, 0x66666C70


class DataStream:
    """The endless stream of training samples of one data set under one seed.

    Flips are `none`, `random` (each image is mirrored with probability 1/2 at every draw), or `frozen` (the same, but
    decided once per image, as the paper's code does: each image is then seen in one orientation only). On latents the
    latent array is mirrored, which is close to, but not, the latent of the mirrored picture.

    `augment` names transforms of torchvision (:mod:`proxdm.data.augment`), applied before the flips.

    `resident` keeps all samples on the device; None does so if they are in memory already and need no more than
    :data:`proxdm.data.images.MEMORY_LIMIT`; otherwise each batch is gathered and sent.
    """

    def __init__(
        self,
        data: ImageData,
        *,
        seed: int,
        flip: Flip = "none",
        device: torch.device | str = "cpu",
        resident: bool | None = None,
        augment: Sequence[str] = (),
    ) -> None:
        if seed < 0:
            raise DataError(f"seed = {seed} must be at least 0")
        if flip not in get_args(Flip):
            raise DataError(f"flip = {flip!r} must be one of {', '.join(get_args(Flip))}")
        if flip != "none" and len(data.shape) != 3:
            raise DataError(f"flip = {flip!r} is for images (C, H, W), {data.name} has {data.shape}; use none")
        if augment and (data.images.dtype != torch.uint8 or len(data.shape) != 3):
            raise DataError(
                f"augment is for uint8 pictures (C, H, W), {data.name} has {data.images.dtype} {data.shape}"
            )
        self._augment = make_augmentation(augment, data.shape) if augment else None
        self.data, self.seed, self.flip, self.device = data, seed, flip, torch.device(device)
        if resident is None:
            resident = not data.memory_mapped and data.images.nbytes <= images.MEMORY_LIMIT
        self._images = data.images.to(self.device) if resident else data.images
        self._epoch = lru_cache(2)(self._draw_epoch)

    def batch(self, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Tensor:
        """Return the samples of one training step, float32 `(batch_size / world_size, *)` in the model's range."""
        if step < 0 or batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
            raise DataError(
                f"step = {step} must be at least 0, batch_size = {batch_size} a positive multiple of the number of "
                f"processes, {world_size}, and rank = {rank} below it"
            )
        share = batch_size // world_size
        first = step * batch_size + rank * share
        index, flips = self.draw(first, share)
        images = self._images[index.to(self._images.device)]
        if self._augment is not None:
            images = augmented(images, self._augment, self.seed, first)
        batch = to_model_range(images.to(self.device, non_blocking=True))
        if flips is None:
            return batch
        return torch.where(flips.to(self.device)[:, None, None, None], batch.flip(-1), batch)

    def labels(self, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Tensor | None:
        """Return the classes of the samples of :meth:`batch`, int64 on the device; None where they are not known."""
        if self.data.labels is None:
            return None
        share = batch_size // world_size
        index, _ = self.draw(step * batch_size + rank * share, share)
        return self.data.labels[index].to(self.device)

    def draw(self, start: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Return which data the samples `start ... start + count - 1` of the stream are, and which are mirrored."""
        n, stop, parts = len(self.data), start + count, []
        for epoch in range(start // n, (stop - 1) // n + 1):
            inside = slice(max(start - epoch * n, 0), min(stop - epoch * n, n))
            parts.append([values[inside] for values in self._epoch(epoch)])
        order, flips = (torch.cat(values) for values in zip(*parts, strict=True))
        return order, None if self.flip == "none" else flips

    def _draw_epoch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return order and flips of an epoch."""
        order = torch.randperm(len(self.data), generator=step_generator(self.seed, _ORDER, number))
        if self.flip == "random":
            return order, self._coins(_RANDOM_FLIP, number)
        if self.flip == "frozen":
            return order, self._coins(_FROZEN_FLIP, 0)[order]
        return order, torch.zeros(len(order), dtype=torch.bool)

    def _coins(self, tag: int, number: int) -> Tensor:
        return torch.rand(len(self.data), generator=step_generator(self.seed, tag, number)) < 0.5
