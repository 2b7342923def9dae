r"""Where a network is better than a prior, and where to start for that reason.

$$\mathrm{gain}(s) = \frac{E\,|D(x_0 + s z, s) - x_0|^2}{E\,|D_P(x_0 + s z, s) - x_0|^2}$$

over pictures x_0 that neither saw and fresh noise: what the network's denoiser D leaves of the error that the prior's
leaves. At high noise it is about 1, or above: a warm start is then not only free but better. The fewer evaluations
there are, the lower it pays to start: at a gain of 0.8, 0.8, 0.87, 0.92, 0.95 for N = 1, 2, 3, 4, 5 and more. And there
is only so much that one to three steps can decide: they start no higher than 0.75, 0.75, 1.5, unless the prior is poor
there, with a gain below 0.6, 0.6, 0.7; then where the gain is that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor

from proxdm.grids import TimeGrid
from proxdm.operators import Model, denoise, of_classes, offers
from proxdm.priors.base import GainCurve, Prior, PriorError
from proxdm.schedules import Schedule, as_float64, per_sample

THRESHOLDS = (0.8, 0.8, 0.87, 0.92, 0.95)
"""Gain to start at, by the number of evaluations from 1 on; the last for more."""

MOST = ((0.75, 0.6), (0.75, 0.6), (1.5, 0.7))
"""Largest start of N = 1, 2, 3, and the gain that it may be raised to where the prior is poor."""

ENDS = (0.12, 0.12, 0.1, 0.08)
"""Last positive ratio, by the number of evaluations from 1 on; the last for more."""

RATIOS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
          14.0, 20.0)  # fmt: skip
"""Ratios that a gain is computed at."""


@torch.no_grad()
def gain(
    model: Model,
    prior: Prior,
    held: Tensor,
    ratios: Sequence[float] = RATIOS,
    *,
    labels: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> GainCurve:
    """Return the gain of a model's denoiser over that of a prior, at ratios that the schedule reaches.

    Args:
        model: Has `denoise` or `score`.
        prior: The prior.
        held: Pictures as the model sees them that neither saw, `(n, *)`; 256 are enough.
        ratios: s.
        labels: Classes of the held pictures `(n,)`, of a model with classes: gains are counted within them.
        seed: Of the noise.
        batch_size: Pictures at a time.

    Raises:
        PriorError: There is no picture, they have another shape, or no ratio is reached.
    """
    schedule = model.schedule
    reached = [s for s in sorted(ratios) if 0 < s <= float(schedule.ratio(1.0))]
    if not len(held) or not reached:
        raise PriorError(
            f"a gain needs held pictures ({len(held)}) and ratios within the schedule {schedule} ({reached})"
        )
    left, linear = [0.0] * len(reached), [0.0] * len(reached)
    generator = torch.Generator().manual_seed(seed)
    for first, batch in zip(range(0, len(held), batch_size), torch.split(held, batch_size), strict=True):
        classes = None if labels is None else labels[first : first + batch_size]
        asked, known = of_classes(model, classes), prior.given(classes)
        x_0 = batch.to(device=model.device, dtype=model.dtype)
        z = torch.randn(batch.shape, generator=generator, dtype=torch.float32).to(x_0)
        for i, s in enumerate(reached):
            x, t = x_0 + s * z, schedule.time_of_ratio(s)
            shown = x * per_sample(schedule.alpha(t), x)
            times = t.to(x.device, torch.promote_types(x.dtype, torch.float32)).expand(len(x))
            left[i] += float((as_float64(denoise(asked, shown, times)) - x_0).square().sum())
            linear[i] += float((as_float64(known.denoise(x, s)) - x_0).square().sum())
    gains = tuple(a / max(b, 1e-300) for a, b in zip(left, linear, strict=True))
    return GainCurve(tuple(reached), gains, len(held), str(schedule))


_CURVES: WeakKeyDictionary[Prior, dict[int, GainCurve]] = WeakKeyDictionary()


def with_gain(prior: Prior, model: Model) -> Prior:
    """Return a prior with the gain curve of a model, counted on the pictures it has held if it has no curve yet.

    It costs 23 evaluations on up to 256 pictures, once for a prior and a model. A prior without held pictures, or a
    model without a denoiser, comes back as it is.
    """
    if prior.curve is not None or prior.held is None or not offers(model, "denoiser"):
        return prior
    known = _CURVES.setdefault(prior, {})
    if id(model) not in known:
        known[id(model)] = gain(
            model, prior, prior.held, labels=prior.held_labels if getattr(model, "classes", ()) else None
        )
        finalize(model, known.pop, id(model), None)  # another model may get the same id
    return replace(prior, curve=known[id(model)])


def start_for(curve: GainCurve | None, steps: int) -> float:
    """Return the ratio to start at with N = `steps` evaluations.

    Raises:
        PriorError: There is no curve.
    """
    if curve is None:
        raise PriorError(
            "the prior does not say where the model gains over it: give the ratio sigma / alpha to start from (start=, "
            "--start 1.5), fit it to 20 pictures or more (fit_prior), or find it, proxdm.priors.with_gain(prior, model)"
        )
    start = curve.crossing(THRESHOLDS[min(steps, len(THRESHOLDS)) - 1])
    for most, poor in MOST[steps - 1 : steps]:
        start = min(start, max(most, curve.crossing(poor)))
    return start


def few_step_shape(steps: int, start: float) -> tuple[float, float]:
    """Return end and exponent of the grid `rho` from a start: :data:`ENDS`; 1.5 up to N = 5, 3 from N = 10 on."""
    return min(ENDS[min(steps, len(ENDS)) - 1], start / 2), 1.5 + 1.5 * min(1.0, max(0.0, (steps - 5) / 5))


def few_step_grid(schedule: Schedule, steps: int, start: float) -> TimeGrid:
    """Return the grid `rho` from a ratio `start` for N = `steps` (:func:`few_step_shape`)."""
    return TimeGrid.rho(steps, min(start, float(schedule.ratio(1.0))), *few_step_shape(steps, start), schedule)
