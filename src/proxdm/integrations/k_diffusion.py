"""k-diffusion: `multistep` with its prior by the contract of k-diffusion's samplers.

A model is called as `model(x, sigma, **extra_args)` and returns denoised samples; `x = x_0 + sigma z`, hat coordinates
(:mod:`proxdm.schedules`). Nothing of k-diffusion is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from proxdm.errors import StepError
from proxdm.grids import TimeGrid
from proxdm.noise import GivenNoise
from proxdm.operators import FunctionModel
from proxdm.priors import Prior, start_for
from proxdm.priors.gain import few_step_grid
from proxdm.samplers import solve
from proxdm.schedules import VE, Flow, Schedule


@torch.no_grad()
def sample_prox_multistep(
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    prior: Prior | None = None,
    flow: bool = False,
) -> Tensor:
    """Return samples by DPM-Solver++(2M) with the history, and the start, that a prior gives; one evaluation a step.

    Without a prior it is `sample_dpmpp_2m`. With one, x is the noise that any sampler starts from, sigma_0 times
    standard normal numbers, and sigma_0 is where the network begins to be better than the prior, not the largest:
    :func:`get_sigmas_prox` gives such sigmas.

    Args:
        model: `(x, sigma (B,), **extra_args) -> denoised`.
        x: `sigma_0 z`, `(B, *)`.
        sigmas: Decreasing, the last 0 or not, `(N + 1,)`.
        extra_args: Keyword arguments of every call.
        callback: Called at every step with `x`, `i`, `sigma`, `sigma_hat` and `denoised`.
        disable: Whether to hide the progress bar.
        prior: The prior, in the coordinates of x.
        flow: Whether x_t is `(1 - sigma) x_0 + sigma z`, as of rectified flows, sigma in (0, 1].

    Raises:
        StepError: The sigmas do not decrease, or there are fewer than two.
    """
    values = sigmas.detach().double().cpu()
    if values.ndim != 1 or len(values) < 2 or bool((values.diff() >= 0).any()):
        raise StepError(f"sigmas must be at least two decreasing numbers, and are {values.flatten()[:5].tolist()}")
    largest = float(values[0])
    schedule: Schedule = Flow() if flow else VE(largest)
    grid = TimeGrid(values if flow else values / largest, "sigmas")
    levels = enumerate(sigmas)

    def denoise(shown: Tensor, t: Tensor) -> Tensor:
        i, level = next(levels)
        sigma = level.to(shown)
        out = model(shown, sigma * shown.new_ones(len(shown)), **(extra_args or {}))
        if callback is not None:
            callback({"x": shown, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": out})
        return out

    known = FunctionModel(schedule, denoise=denoise, device=x.device, dtype=x.dtype)
    return solve("multistep", known, grid, GivenNoise(x / largest), prior=prior, progress=not disable).x


def get_sigmas_prox(
    n: int, prior: Prior, sigma_max: float = 80.0, start: float | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the N + 1 sigmas of `n` evaluations from where a network begins to be better than its prior.

    Args:
        n: Evaluations, at least 1.
        prior: The prior, with the gain curve of the network unless `start` is given.
        sigma_max: Largest sigma that the network knows.
        start: Where to start instead.
        device: Where they go.

    Raises:
        PriorError: The prior has no gain curve, and there is no start.
    """
    start = start_for(prior.curve, n) if start is None else start
    schedule = VE(sigma_max)
    return schedule.ratio(few_step_grid(schedule, n, min(start, sigma_max)).times).float().to(device)
