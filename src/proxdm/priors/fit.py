"""Fit a prior to pictures, in bounded memory and a few passes.

Leading directions by subspace iteration (Halko, Martinsson and Tropp 2011, arXiv 0909.4061) on at most 20,000 pictures,
k-means on the first 64 coefficients, then mean and covariance of every cluster. Sizes that are left to `auto`:

- m, the directions: the fewest of 16, 32, 64, 128, 256 that leave at most 5 % of the variance outside, at most one
  for 10 pictures;
- K, the components: one for 200 pictures, so that a component copies none of them, at most 200, and at most as many
  as keep the file below 5 MB; of that number, its half, fifth, and 1 the largest that gives pictures held out a
  density at ratio 1/2 within 0.02 nats a direction of the best;
- r, the rank of a component: half of the directions, but 8 to 16; 32 of 64 directions or more, where K components of
  that rank fit into the file and have 100 pictures each.

Pictures of known classes share the K components by their numbers, at least one a class, and each is fitted by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from proxdm.pixels import to_model_range
from proxdm.priors.base import Facts, PriorError
from proxdm.priors.gaussian import GaussianPrior
from proxdm.priors.mixture import PER_COMPONENT, MixturePrior

Images = Tensor | np.ndarray[Any, Any] | Sequence[Any] | Callable[[], Iterable[Tensor]]
"""Pictures `(n, *)`, uint8 or as the model sees them; a sequence of them; or what starts a stream of batches."""

Stream = Callable[[], Iterator[Tensor]]

EVERY = 20
"""One picture in so many is not fitted to: gains are counted on up to 256 of them."""

HELD_FOR_GAIN = 256
BATCH = 512
PASSES = 3
MOST_FOR_DIRECTIONS = 20_000
DENSE = 1024
"""Dimensions up to which the directions are those of the dense covariance matrix."""

CLUSTERED = 64
"""Leading coefficients that k-means sees."""

MOST_NUMBERS = 440_000
"""Numbers of the components at most, K m (r + 1): with 256 directions of 3x32x32 pictures, a file of 5 MB."""

HELD = 2_000
TOLERANCE = 0.02
"""Nats a direction: of nearly equal densities the larger mixture gives the better pictures."""

LEAST_IN_CLUSTER = 32


def fit_prior(
    images: Images,
    components: int | Literal["auto"] = "auto",
    directions: int | Literal["auto"] = "auto",
    rank: int | Literal["auto"] = "auto",
    *,
    data: str = "",
    seed: int = 0,
    labels: Tensor | None = None,
) -> GaussianPrior | MixturePrior:
    """Return the prior of pictures: one Gaussian for `components` = 1, else a mixture.

    Args:
        images: Pictures `(n, *)`, uint8 or as the model sees them: a tensor, an array (memory-mapped if need be), a
            sequence or `torch.utils.data.Dataset` of pictures (or tuples that begin with one), or a function that
            starts a stream of batches anew, which is called once for each of up to 5 passes.
        components: K.
        directions: m; of one Gaussian k.
        rank: r, less than m.
        data: Name of the pictures, for the record.
        seed: Of the directions' start and of k-means.
        labels: Classes of the pictures `(n,)`, 0 and up: then the mixture also knows those of its components
            (:meth:`MixturePrior.given`).

    Raises:
        PriorError: There are fewer than 2 pictures, values are not finite, or K, m or r are out of their range.
    """
    raw, stream = _stream(images)
    shape, facts, mean, total, (held, numbers) = _first_pass(raw)
    if labels is not None and len(labels) != facts.count:
        raise PriorError(f"{facts.count} pictures have {len(labels)} labels; give one for each")
    n, d = facts.count - facts.count // EVERY, len(mean)
    limit = min(d, n - 1)
    sizes = _asked(components, directions, rank, n, limit)
    most = sizes[1] or min(limit, max(16, n // 10), 256)
    basis, variances = _directions(stream, mean, n, most, seed)
    m = sizes[1] or _enough(variances, total, n)
    basis, variances = basis[:, :m], variances[:m]
    rest = ((total - variances.sum()) / (d - m)).clamp(min=0) if d > m else torch.zeros((), dtype=torch.float64)
    common: dict[str, Any] = {
        "shape": shape,
        "held": held,
        "held_labels": None if labels is None or held is None else labels[numbers],
        "mean": _rounded(mean),
        "basis": _rounded(basis),
        "rest": _rounded(rest),
    }
    if (sizes[0] == 1 and labels is None) or n < 2 * LEAST_IN_CLUSTER:
        rule = f"1 component, {m} directions of {n:,} pictures"
        return GaussianPrior(**common, variances=_rounded(variances), facts=replace(facts, data=data, rule=rule))
    z, done = torch.empty(n, m), 0
    for batch in stream():
        z[done : done + len(batch)] = ((batch.double() - mean) @ basis).float()
        done += len(batch)
    r = min(sizes[2] or max(8, min(16, m // 2)), m)
    k, said = (sizes[0], "as asked") if sizes[0] else _choose_components(z, m, r, seed)
    if not sizes[2] and 64 <= m <= MOST_NUMBERS // (k * (2 * r + 1)) and n >= 100 * k:
        r *= 2
    parts = None
    if labels is not None:
        classes = labels[~_held(0, facts.count)]
        parts = _components_of_classes(z, classes, k, r, seed)
        k, said = len(parts["groups"]), f"shared by {len(set(classes.tolist()))} classes; {said}"
    rule = f"{k} components of rank {r} in {m} directions of {n:,} pictures; {said}"
    facts = replace(facts, data=data, rule=rule)
    if k == 1:
        return GaussianPrior(**common, variances=_rounded(variances), facts=facts)
    return MixturePrior(**common, **(parts or _components(z, k, r, seed)), facts=facts)


def _stream(images: Images) -> tuple[Stream, Stream]:
    """Return what starts a pass: over batches as they are given, and over those to fit to, flat, float32 `(B, d)`."""

    def batches() -> Iterator[Tensor]:
        if callable(images):
            yield from images()
            return
        for start in range(0, len(images), BATCH):
            if isinstance(images, Tensor | np.ndarray):  # a copy of an array, for a mapped file may not be written to
                part = images[start : start + BATCH]
                yield part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
                continue
            items = (images[i] for i in range(start, min(start + BATCH, len(images))))
            yield torch.stack([torch.as_tensor(item[0] if isinstance(item, tuple | list) else item) for item in items])

    def run() -> Iterator[Tensor]:
        seen = 0
        for batch in batches():
            yield to_model_range(batch[~_held(seen, len(batch))]).cpu().flatten(1)
            seen += len(batch)

    return batches, run


def _held(first: int, count: int) -> Tensor:
    """Return which of `count` pictures, from number `first` on, are not fitted to: every twentieth."""
    return torch.arange(first, first + count) % EVERY == EVERY - 1


def _first_pass(raw: Stream) -> tuple[tuple[int, ...], Facts, Tensor, Tensor, tuple[Tensor | None, Tensor]]:
    """Return shape and facts of the pictures, mean and total variance of those to fit to, and up to 256 held ones.

    With the held ones come their numbers.
    """
    count, low, high, digest = 0, math.inf, -math.inf, hashlib.sha256()
    total = squares = torch.zeros((), dtype=torch.float64)
    kept, seen, filled, stride, fitted = torch.empty(0), 0, 0, 1, 0
    for batch in raw():
        images = to_model_range(batch).cpu()
        flat, out = images.flatten(1), _held(count, len(batch))
        if not (finite := torch.isfinite(flat).all(1)).all():
            bad = count + int((~finite).nonzero()[0])
            raise PriorError(f"picture {bad} has NaN or infinite values; take it out")
        digest.update(flat.contiguous().numpy().data)
        low, high, count = min(low, float(flat.min())), max(high, float(flat.max())), count + len(flat)
        if not count - len(flat):  # one block of memory: small pieces between the batches would keep these from it
            kept = torch.empty(2 * HELD_FOR_GAIN, *images.shape[1:])
        for image in images[out]:
            if seen % stride == 0 and filled == len(kept):  # of a long stream: thin it out
                kept[:HELD_FOR_GAIN], filled, stride = kept[::2].clone(), HELD_FOR_GAIN, 2 * stride
            if seen % stride == 0:
                kept[filled] = image
                filled += 1
            seen += 1
        rows = flat[~out]
        fitted += len(rows)
        total, squares = total + rows.sum(0, dtype=torch.float64), squares + rows.double().square().sum()
    if count < 2:
        raise PriorError(f"a prior needs 2 pictures at least, and there are {count}")
    mean = total / fitted
    facts = Facts(count, low, high, digest.hexdigest())
    number = min(filled, HELD_FOR_GAIN)
    chosen = torch.arange(number) if stride == 1 else torch.linspace(0, filled - 1, number).round().long()
    held = kept[chosen] if number else None, (chosen * stride + 1) * EVERY - 1
    return tuple(kept.shape[1:]), facts, mean, (squares / fitted - mean.square().sum()).clamp(min=0), held


def _asked(components: Any, directions: Any, rank: Any, n: int, limit: int) -> tuple[int, int, int]:
    """Return the sizes that were asked for, 0 for auto."""
    asked = []
    most = {"components": max(1, n // 2), "directions": limit, "rank": limit if directions == "auto" else directions}
    for (name, largest), value in zip(most.items(), (components, directions, rank), strict=True):
        if value != "auto" and not 1 <= value <= largest:
            raise PriorError(
                f"{name} = {value} must lie between 1 and {largest} for {n:,} pictures of {limit} directions"
            )
        asked.append(0 if value == "auto" else int(value))
    return asked[0], asked[1], asked[2]


def _directions(stream: Stream, mean: Tensor, n: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the leading directions `(d, count)` and the variances along them, decreasing."""
    every, d = max(1, n // MOST_FOR_DIRECTIONS), len(mean)
    width = min(d, count + 16)

    def product(q: Tensor | None) -> Tensor:
        """Return `C q`; C itself for None."""
        out, seen, used = torch.zeros(d, d if q is None else q.shape[1], dtype=torch.float64), 0, 0
        small = None if q is None else q.float()
        for batch in stream():
            rows = batch[(-seen) % every :: every] - mean.float()
            out += (rows.T @ (rows if small is None else rows @ small)).double()
            seen, used = seen + len(batch), used + len(rows)
        return out / used

    if d <= max(DENSE, 2 * width):
        c, u = torch.linalg.eigh(product(None))
        return u.flip(1)[:, :count], c.flip(0)[:count].clamp(min=0)
    q = torch.linalg.qr(torch.randn(d, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    for _ in range(PASSES - 1):
        q = torch.linalg.qr(product(q))[0]
    inner = q.T @ product(q)
    c, u = torch.linalg.eigh((inner + inner.T) / 2)
    return q @ u.flip(1)[:, :count], c.flip(0)[:count].clamp(min=0)


def _enough(variances: Tensor, total: Tensor, n: int) -> int:
    """Return the number of directions by the rule of the module."""
    kept = variances.cumsum(0) / total.clamp(min=1e-300)
    fewest = next((m for m in (16, 32, 64, 128, 256) if m <= len(kept) and kept[m - 1] >= 0.95), len(kept))
    return max(1, min(fewest, max(16, n // 10), len(kept)))


def _choose_components(z: Tensor, m: int, r: int, seed: int) -> tuple[int, str]:
    """Return K by the rule of the module, and what is said of it."""
    n = len(z)
    cap = max(1, min(n // 200, 200, MOST_NUMBERS // (m * (r + 1))))
    choices = sorted({cap, max(1, cap // 2), max(1, cap // 5), 1}, reverse=True)
    if len(choices) == 1:
        return choices[0], "one for 200 pictures at most"
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    held, rest = z[order[: min(HELD, n // 5)]], z[order[min(HELD, n // 5) :]]
    zero, eye = torch.zeros(m, dtype=torch.float64), torch.eye(m, dtype=torch.float64)
    plane: dict[str, Any] = {"mean": zero, "basis": eye, "rest": zero[0], "shape": (m,)}
    figures = {
        k: float(MixturePrior(**plane, **_components(rest, k, r, seed)).log_prob(held, 0.5).mean()) for k in choices
    }
    enough = max(figures.values()) - TOLERANCE * m
    best = max(k for k, value in figures.items() if value >= enough)
    said = ", ".join(f"{k}: {value / m:.3f}" for k, value in figures.items())
    return best, f"held-out log density a direction at ratio 0.5 by components: {said}"


def _components(z: Tensor, k: int, r: int, seed: int) -> dict[str, Any]:
    """Return weights, centres, axes, variances and floors of K clusters of z `(n, m)`."""
    m, labels = z.shape[1], _cluster(z, k, seed)
    counts = torch.bincount(labels)
    found = []
    for label in range(len(counts)):
        rows = z[labels == label].double()
        centre = rows.mean(0)
        rows -= centre
        c, u = torch.linalg.eigh(rows.T @ rows / len(rows))
        c = c.clamp(min=0)
        floor = c[: m - r].mean() if m > r else c.new_zeros(())
        weight = torch.tensor(len(rows) / len(z), dtype=c.dtype).log()
        found.append((weight, centre, u[:, m - r :].flip(1), c[m - r :].flip(0), floor))
    return {name: _rounded(torch.stack(values)) for name, *values in zip(PER_COMPONENT, *found, strict=True)}


def _components_of_classes(z: Tensor, classes: Tensor, k: int, r: int, seed: int) -> dict[str, Any]:
    """Return the same, of clusters within each class, and the class of every component."""
    found = []
    for label in sorted(set(classes.tolist())):
        rows = z[classes == label]
        parts = _components(rows, max(1, round(k * len(rows) / len(z))), r, seed)
        share = torch.tensor(len(rows) / len(z), dtype=torch.float64)
        parts["log_weights"] = _rounded(parts["log_weights"] + share.log())
        found.append({**parts, "groups": torch.full((len(parts["floors"]),), float(label), dtype=torch.float64)})
    return {name: torch.cat([parts[name] for parts in found]) for name in found[0]}


def _cluster(z: Tensor, k: int, seed: int) -> Tensor:
    """Return the cluster of every row, by k-means on the leading coefficients; clusters of a few rows are dissolved."""
    if k == 1:
        return torch.zeros(len(z), dtype=torch.long)
    from sklearn.cluster import KMeans

    seen = z[:, :CLUSTERED].contiguous().numpy()
    found = KMeans(k, n_init=1, max_iter=50, random_state=seed).fit(seen)
    counts = np.bincount(found.labels_, minlength=k)
    kept = counts >= min(LEAST_IN_CLUSTER, len(z) // k)
    centres = torch.from_numpy(found.cluster_centers_[kept])
    labels = torch.cat([torch.cdist(part, centres).argmin(1) for part in torch.split(torch.from_numpy(seen), 8192)])
    inverse: Tensor = torch.unique(labels, return_inverse=True)[1]
    return inverse


def _rounded(values: Tensor) -> Tensor:
    """Return float64 numbers that float32 holds exactly, as files keep them."""
    return values.float().double()
