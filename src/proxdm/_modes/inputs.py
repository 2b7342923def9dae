"""What users give to a mixture, checked and brought to float64 data space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from proxdm._modes.atoms import PerRow
from proxdm.errors import NonFiniteError
from proxdm.schedules import Schedule, Time, as_float64

Array = Tensor | NDArray[np.floating] | Sequence[float] | Sequence[Sequence[float]] | float
"""Numbers as users have them."""

SIGNAL_FLOOR = 1e-100
"""alpha_bar below this (never reached by usual schedules) is taken as this, so that data space stays finite."""
NUMBERS_AT_ONCE = 2**21


@dataclass(frozen=True)
class Query(PerRow):
    """A batch in data space."""

    x: Tensor  # `x / sqrt(alpha_bar)`, centred as the atoms are, `(B, n)`
    noise: Tensor  # `(1 - alpha_bar) / alpha_bar`, `(B,)`
    signal: Tensor  # `sqrt(alpha_bar)`, `(B,)`

    @classmethod
    def make(cls, x: Tensor, t: Tensor, schedule: Schedule, centre: Tensor) -> Query:
        """Return the query of float64 points `(B, n)` at times `(B,)`."""
        alpha = schedule.alpha_bar(t).clamp(min=SIGNAL_FLOOR)
        signal = alpha.sqrt()
        return cls(x / signal[:, None] - centre, schedule.noise_variance(t) / alpha, signal)

    def pieces(self, components: int) -> Iterator[Query]:
        """Yield parts small enough for arrays of rows by components; at least one, be it empty."""
        size = max(1, NUMBERS_AT_ONCE // components)
        for rows in torch.split(torch.arange(len(self.x), device=self.x.device), size):
            yield self[rows]


def home(device: torch.device) -> torch.device:
    """Return where float64 numbers live for tensors on `device`: there, or on the CPU where it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def checked_means(means: Array) -> Tensor:
    """Return means `(K, *)` as a private floating tensor."""
    out = torch.as_tensor(means).detach().clone()
    if not out.is_floating_point():
        out = out.to(torch.get_default_dtype())
    if out.ndim < 1 or out.numel() == 0:
        raise ValueError(f"means has shape {tuple(out.shape)}, must be (K, *) with at least one mean")
    _require_finite(out, "means")
    return out


def checked_std(std: Array, count: int, device: torch.device) -> Tensor:
    """Return std as float64, 0-dimensional or `(K,)`."""
    out = _one_or_each("std", "mean", _float64(std), count, device)
    _require_finite(out, "std")
    if bool((out < 0).any()):
        raise ValueError(f"std = {float(out.min()):g} must be at least 0; 0 means point masses")
    return out


def checked_weights(weights: Array | None, count: int, device: torch.device) -> Tensor:
    """Return weights as float64 `(K,)` with sum 1."""
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64, device=home(device))
    out = _float64(weights).to(home(device))
    if out.shape != (count,):
        raise ValueError(f"weights has shape {tuple(out.shape)}, must be one for each mean: ({count},)")
    _require_finite(out, "weights")
    if not bool((out > 0).all()):
        raise ValueError(f"weights must be positive, the least is {float(out.min()):g}; leave such components out")
    return out / out.sum()


def checked_points(x: Tensor, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return points `(B, *)` as float64 `(B, n)`."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must be a floating tensor (B, *), got {kind}; convert it with torch.as_tensor(x).float()")
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape:
        wanted = ", ".join(["B", *map(str, shape)])
        raise ValueError(f"x has shape {tuple(x.shape)}, the mixture takes ({wanted}); give one point as x[None]")
    if x.device != device:
        raise ValueError(f"x is on {x.device}, the mixture on {device}; move one of them with .to()")
    flat = as_float64(x).reshape(len(x), prod(shape))
    finite = torch.isfinite(flat).all(1)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise NonFiniteError(f"{bad} of {len(x)} rows of x contain NaN or infinite numbers; look at the step before")
    return flat


def checked_times(t: Time, rows: int, device: torch.device) -> Tensor:
    """Return times as float64 `(B,)` in [0, 1]."""
    out = _one_or_each("t", "point", as_float64(t).detach(), rows, device).expand(rows)
    inside = (out >= 0) & (out <= 1)
    if not bool(inside.all()):
        raise ValueError(f"t = {float(out[~inside][0]):g} must lie in [0, 1]: 0 is data, 1 is noise")
    return out


def checked_lam(lam: Time, rows: int, device: torch.device) -> Tensor:
    """Return prox weights as float64 `(B,)`, at least 0 and finite."""
    out = _one_or_each("lam", "point", as_float64(lam).detach(), rows, device).expand(rows)
    good = (out >= 0) & (out < torch.inf)
    if not bool(good.all()):
        raise ValueError(f"lam = {float(out[~good][0]):g} must be at least 0 and finite; 0 gives x back")
    return out


def _one_or_each(name: str, of: str, values: Tensor, count: int, device: torch.device) -> Tensor:
    """Return a number, or a tensor with one for each, where float64 numbers live."""
    if values.ndim > 1 or (values.ndim == 1 and len(values) != count):
        shape = tuple(values.shape)
        raise ValueError(f"{name} has shape {shape}, must be one number, or one for each {of}: ({count},)")
    return values.to(home(device))


def _float64(values: Array) -> Tensor:
    """Return a private float64 copy; numbers that are no tensor yet never pass through float32."""
    if not isinstance(values, Tensor):
        values = torch.as_tensor(values, dtype=torch.float64)
    return as_float64(values).detach().clone()


def _require_finite(values: Tensor, name: str) -> None:
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise NonFiniteError(f"{bad} of {values.numel()} numbers in {name} are NaN or infinite; all must be finite")
