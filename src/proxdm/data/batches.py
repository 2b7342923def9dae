"""Training batches without worker processes: the whole set lies on the device and is batched and flipped there.

Sample number p of the endless stream (p = 0, 1, ...) belongs to epoch `e = p div n`, and is image `perm_e[p mod n]`,
`perm_e` a permutation drawn from (seed, e) alone. Step k with a batch of B takes the numbers `k B ... (k + 1) B - 1`.
Hence:

- the order is a function of (seed, step): a resumed run goes on with the very images that were due;
- rank r of W takes the r-th slice of B / W, so the union over the ranks is the same for every W;
- every epoch shows each image once; nothing is dropped at its end, and B may exceed n.

Flips are decided at position p as well, afresh in every epoch; or, `frozen`, once per image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from proxdm.data import images
from proxdm.data.errors import DataError
from proxdm.data.images import ImageData, to_model_range
from proxdm.data.load import Flip

# Tags of the three uses of random numbers, chosen apart from the small numbers that index samples elsewhere.
_ORDER, _RANDOM_FLIP, _FROZEN_FLIP = 0x6F726465, 0x72666C70, 0x66666C70


@dataclass(frozen=True)
class _Epoch:
    number: int
    order: Tensor
    flips: Tensor | None


class DataStream:
    """The endless stream of training images of one data set under one seed.

    Args:
        data: The images.
        seed: Seed of order and flips, at least 0.
        flip: `none`, `random` (each image is mirrored with probability 1/2 at every draw), or `frozen` (the same, but
            decided once per image, as the paper's code does: each image is then seen in one orientation only). On
            latents the latent array is mirrored, which is close to, but not, the latent of the mirrored picture.
        device: Where batches are wanted.
        resident: Whether all images are kept on that device; None keeps them there if they are in memory already and
            need no more than :data:`proxdm.data.images.MEMORY_LIMIT`; otherwise each batch is gathered and sent.

    Raises:
        DataError: `seed` is negative or `flip` is not one of the three.
    """

    def __init__(
        self,
        data: ImageData,
        *,
        seed: int,
        flip: Flip = "none",
        device: torch.device | str = "cpu",
        resident: bool | None = None,
    ) -> None:
        if seed < 0:
            raise DataError(f"seed = {seed} must be at least 0")
        if flip not in ("none", "random", "frozen"):
            raise DataError(f"flip = {flip!r} must be none, random or frozen")
        self.data = data
        self.seed = seed
        self.flip = flip
        self.device = torch.device(device)
        if resident is None:
            resident = not data.memory_mapped and data.images.nbytes <= images.MEMORY_LIMIT
        self._images = data.images.to(self.device) if resident else data.images
        self._epochs: dict[int, _Epoch] = {}
        self._frozen = self._coins(_FROZEN_FLIP, 0) if flip == "frozen" else None

    def __len__(self) -> int:
        """Return n, the number of images of an epoch."""
        return len(self.data)

    def batch(self, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Tensor:
        """Return the images of one training step, float32 `(batch_size / world_size, C, H, W)` in the model's range.

        Args:
            step: Number of the step, from 0.
            batch_size: B, the total over all ranks.
            rank: Which process asks, from 0.
            world_size: W, the number of processes.

        Raises:
            DataError: A number is out of range, or W does not divide B.
        """
        if step < 0 or batch_size < 1:
            raise DataError(f"step = {step} must be at least 0 and batch_size = {batch_size} at least 1")
        if not 0 <= rank < world_size:
            raise DataError(f"rank = {rank} must lie in [0, world_size = {world_size})")
        if batch_size % world_size:
            raise DataError(
                f"batch_size = {batch_size} cannot be shared evenly by {world_size} processes; take a multiple"
            )
        share = batch_size // world_size
        index, flips = self.draw(step * batch_size + rank * share, share)
        batch = to_model_range(self._images[index.to(self._images.device)].to(self.device, non_blocking=True))
        if flips is None:
            return batch
        return torch.where(flips.to(self.device)[:, None, None, None], batch.flip(-1), batch)

    def draw(self, start: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Return which images the samples `start ... start + count - 1` of the stream are, and which are mirrored.

        Returns:
            int64 `(count,)` and bool `(count,)`, on the CPU; None in place of the second where nothing is mirrored.
        """
        n = len(self)
        stop = start + count
        cuts = [start, *range((start // n + 1) * n, stop, n), stop]
        parts = []
        for low, high in pairwise(cuts):
            epoch = self._epoch(low // n)
            inside = slice(low - epoch.number * n, high - epoch.number * n)
            parts.append((epoch.order[inside], None if epoch.flips is None else epoch.flips[inside]))
        order = torch.cat([part[0] for part in parts])
        flips = [part[1] for part in parts if part[1] is not None]
        return order, torch.cat(flips) if flips else None

    def _epoch(self, number: int) -> _Epoch:
        """Return order and flips of an epoch; the two latest are kept."""
        if number not in self._epochs:
            order = torch.randperm(len(self), generator=self._generator(_ORDER, number))
            flips = None if self._frozen is None else self._frozen[order]
            if self.flip == "random":
                flips = self._coins(_RANDOM_FLIP, number)
            self._epochs = {k: v for k, v in self._epochs.items() if k == number - 1}
            self._epochs[number] = _Epoch(number, order, flips)
        return self._epochs[number]

    def _coins(self, tag: int, number: int) -> Tensor:
        return torch.rand(len(self), generator=self._generator(tag, number)) < 0.5

    def _generator(self, tag: int, number: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, tag, number]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state))
