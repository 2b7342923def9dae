"""Augmentations of training pictures: transforms of torchvision by name, `RandomAffine(degrees=10, fill=0)`.

Each sample is transformed by random numbers of its own, a function of the seed and its place in the endless stream, so
that runs can be resumed and shared. What a model then learns is the law of the augmented pictures.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from proxdm.errors import DataError, did_you_mean, one_line
from proxdm.runtime.registry import parse_call
from proxdm.runtime.seeds import derived_seed

AUGMENT = 0x6175676D
"""Tag of this use of random numbers."""


def make_augmentation(texts: Sequence[str], shape: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return transforms of `torchvision.transforms.v2`, one after the other, for uint8 pictures `(C, H, W)`.

    Args:
        texts: Such as `RandomAffine(degrees=10)`, `ColorJitter(brightness=0.2)`.
        shape: Of a picture, which the transforms must keep.

    Raises:
        DataError: There is no such transform or parameter, or it makes something else of a picture.
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
            torch.default_generator.manual_seed(derived_seed(seed, AUGMENT, first + place))
            out[place] = transform(image)
    return out
