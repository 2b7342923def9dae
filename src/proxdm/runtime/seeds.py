"""Random numbers of a training step: a function of (seed, step), never of what came before.

Hence a resumed run draws the numbers that were due, two processes draw those of one, and there is no state of a random
generator to store. Conditions and noise are drawn for the whole batch on every process, which then takes its rows: the
cost is small beside the network's, and the numbers do not depend on the number of processes. Noise is drawn on the
device, so it differs between kinds of devices. Dropout alone depends on the process and on `micro_batch`.
"""

from __future__ import annotations

import numpy as np
import torch

CONDITIONS, NOISE, DROPOUT, WEIGHTS, LABELS = 0x636F6E64, 0x6E6F6973, 0x64726F70, 0x77656967, 0x6C61626C
VALIDATION = 0x76616C69
"""Tags of the uses of random numbers: conditions, noise, dropout, initial weights, labels that are left out, errors on
held samples."""


def derived_seed(seed: int, use: int, *numbers: int) -> int:
    """Return a 64-bit seed that depends on `seed`, the use and the numbers (step, rank) and on nothing else.

    torch's CPU generators take the lower 32 bits of it: of a million steps a hundred pairs share their noise, at other
    images. That is of no consequence here, as it would be for samples.
    """
    return int(np.random.SeedSequence([seed, use, *numbers]).generate_state(1, np.uint64)[0])


def step_generator(seed: int, use: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of one use of random numbers in one step."""
    return torch.Generator(device).manual_seed(derived_seed(seed, use, step))
