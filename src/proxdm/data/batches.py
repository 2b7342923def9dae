"""Training batches without worker processes: the whole set lies on the device and is batched and flipped there.

Sample number p of the endless stream (p = 0, 1, ...) belongs to epoch `e = p div n`, and is sample `perm_e[p mod n]` of
the data, `perm_e` a permutation drawn from (seed, e) alone. Step k with a batch of B takes the numbers
`k B ... (k + 1) B - 1`. Hence:

- the order is a function of (seed, step): a resumed run goes on with the very samples that were due;
- rank r of W takes the r-th slice of B / W, so the union over the ranks is the same for every W;
- every epoch shows each sample once; nothing is dropped at its end, and B may exceed n.

Flips are decided at position p as well, afresh in every epoch; or, `frozen`, once per image. Augmentations, transforms
of torchvision such as `RandomAffine(degrees=10, fill=0)`, have random numbers of their own for every position. What a
model then learns is the law of the augmented pictures.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import get_args

import torch
from torch import Tensor, nn

from proxdm.data import images
from proxdm.data.images import ImageData
from proxdm.data.load import Flip
from proxdm.errors import DataError, did_you_mean, one_line
from proxdm.pixels import to_model_range
from proxdm.runtime.registry import parse_call
from proxdm.runtime.seeds import derived_seed, step_generator

# Tags of the four uses of random numbers, chosen apart from the small numbers that index samples elsewhere.
_ORDER, _RANDOM_FLIP, _FROZEN_FLIP, _AUGMENT = 0x6F726465, 0x72666C70, 0x66666C70, 0x6175676D


class DataStream:
    """The endless stream of training samples of one data set under one seed.

    Flips (:data:`proxdm.data.load.Flip`) have probability 1/2. On latents the latent array is mirrored, which is close
    to, but not, the latent of the mirrored picture. Augmentations (:func:`make_augmentation`) come before the flips.

    All samples are kept on the device if they are in memory already and need no more than
    :data:`proxdm.data.images.MEMORY_LIMIT`; otherwise each batch is gathered and sent.
    """

    def __init__(
        self,
        data: ImageData,
        *,
        seed: int,
        flip: Flip = "none",
        device: torch.device | str = "cpu",
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


def make_augmentation(texts: Sequence[str], shape: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return transforms of `torchvision.transforms.v2`, one after the other, for uint8 pictures of a shape (C, H, W).

    A DataError says that there is no such transform or parameter, or that it makes something else of a picture.
    """
    from torchvision.transforms import v2

    kinds = {name: kind for name, kind in vars(v2).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    made: list[nn.Module] = []
    for text in texts:
        try:
            name, parameters = parse_call(text)
            if name not in kinds:
                raise ValueError(f"torchvision has no transform {name!r}{did_you_mean(name, kinds)}")
            made.append(kinds[name](**parameters))
        except (ValueError, TypeError) as error:
            raise DataError(f"augment {text!r}: {one_line(error)}") from error
    chain = nn.Sequential(*made)
    with torch.random.fork_rng([]):
        try:
            out = chain(torch.zeros(*shape, dtype=torch.uint8))
        except Exception as error:  # transforms raise whatever comes to their mind
            raise DataError(f"augment {', '.join(texts)}: {one_line(error)}") from error
    if not isinstance(out, Tensor) or tuple(out.shape) != tuple(shape) or out.dtype != torch.uint8:
        there = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise DataError(f"augment {', '.join(texts)} makes {there} of uint8 pictures {tuple(shape)}: these must stay")
    return chain


def augmented(images: Tensor, transform: Callable[[Tensor], Tensor], seed: int, first: int) -> Tensor:
    """Return uint8 pictures `(B, C, H, W)`, numbers `first ...` of the stream, transformed, on the CPU."""
    out = torch.empty_like(images, device="cpu")
    with torch.random.fork_rng([]):
        for place, image in enumerate(images.cpu()):
            torch.default_generator.manual_seed(derived_seed(seed, _AUGMENT, first + place))
            out[place] = transform(image)
    return out
