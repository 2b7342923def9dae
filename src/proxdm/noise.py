"""Where random numbers come from. Samplers receive noise, they never draw it.

Three sources, one interface: :class:`GeneratorNoise` (one `torch.Generator` for the batch, in the order of the
paper's code: first x_T, then one tensor per step that uses noise), :class:`SeededNoise` (one seed per sample, so
that an image depends on (seed, index) alone, not on the batch it is drawn in) and :class:`GivenNoise` (tensors
from outside, for paired comparisons and tests).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class NoiseSource(Protocol):
    """Standard normal numbers for one batch, in sampling order."""

    def initial(self) -> Tensor:
        """Return x_T, standard normal, shape `(B, *)`; called once, first."""
        ...

    def step(self, t: float, s: float) -> Tensor:
        """Return z `(B, *)`, standard normal, for the step from `t` to `s`; called for steps that use noise."""
        ...


class GeneratorNoise:
    """All numbers of a batch from one generator: `x_T`, then a tensor per noisy step.

    With the same generator, shape and dtype the numbers are those of the paper's code. They depend on the batch
    size; use :class:`SeededNoise` where that matters.

    Args:
        shape: Shape of the batch, `(B, *)`.
        generator: Source; the numbers are drawn on its device. None means torch's global generator.
        dtype: Type of the numbers.
        device: Where they are moved.
    """

    def __init__(
        self,
        shape: Sequence[int],
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape, self.generator, self.dtype, self.device = tuple(shape), generator, dtype, torch.device(device)

    def initial(self) -> Tensor:
        """Return the next tensor of the generator."""
        source = self.device if self.generator is None else self.generator.device
        return torch.randn(self.shape, generator=self.generator, dtype=self.dtype, device=source).to(self.device)

    def step(self, t: float, s: float) -> Tensor:
        """Return the next tensor of the generator, whatever the interval."""
        return self.initial()


def sample_generator(seed: int, index: int) -> torch.Generator:
    """Return the CPU generator of sample `index` under `seed`, both at least 0; pairs give independent streams."""
    if seed < 0 or index < 0:
        raise ValueError(f"seed = {seed} and index = {index} must both be at least 0")
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


class SeededNoise:
    """One generator per sample: sample i of the set depends on `(seed, i)` alone.

    Numbers are drawn on the CPU, so they are the same on every device and at every batch size.

    Args:
        seed: Seed of the whole set of samples.
        indices: Numbers of the samples of this batch within the set.
        shape: Shape of one sample, without the batch dimension.
        dtype: Type of the numbers.
        device: Where they are moved.
    """

    def __init__(
        self,
        seed: int,
        indices: Iterable[int],
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.generators = [sample_generator(seed, index) for index in indices]
        self.shape, self.dtype, self.device = tuple(shape), dtype, torch.device(device)

    def initial(self) -> Tensor:
        """Return the next numbers of every sample's own generator, shape `(B, *shape)`."""
        out = torch.empty((len(self.generators), *self.shape), dtype=self.dtype)
        for row, generator in zip(out, self.generators, strict=True):
            row.normal_(generator=generator)
        return out.to(self.device)

    def step(self, t: float, s: float) -> Tensor:
        """Return the next numbers of every sample's own generator, whatever the interval."""
        return self.initial()


class StartedNoise:
    """Another source whose x_T is drawn at once, and may be looked at."""

    def __init__(self, noise: NoiseSource) -> None:
        self._x_T, self.step = noise.initial(), noise.step

    def initial(self) -> Tensor:
        """Return x_T, always the same."""
        return self._x_T


class GivenNoise:
    """Noise from given tensors: the same numbers for two samplers, or numbers that a test knows.

    Args:
        x_T: The starting point, shape `(B, *)`.
        steps: One tensor of that shape for each step that uses noise, in sampling order.
    """

    def __init__(self, x_T: Tensor, steps: Iterable[Tensor] = ()) -> None:
        self.x_T = x_T
        self._steps: Iterator[Tensor] = iter(steps)

    def initial(self) -> Tensor:
        """Return x_T."""
        return self.x_T

    def step(self, t: float, s: float) -> Tensor:
        """Return the next given tensor; a ValueError says that there is none, or one of another shape than x_T."""
        z = next(self._steps, None)
        if z is None:
            raise ValueError(
                f"no noise tensor is left for the step from t = {t:g} to s = {s:g}: give one for each noisy step"
            )
        if z.shape != self.x_T.shape:
            raise ValueError(
                f"the noise of the step from t = {t:g} has shape {tuple(z.shape)}, x_T has {tuple(self.x_T.shape)}"
            )
        return z
