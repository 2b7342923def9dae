"""What is kept of the samples while they stream by: moments of all, features and pixels (uint8) of the first.

Moments take memory `O(D^2)` whatever the number of samples; features and pixels are kept up to the limits of the
metrics (:mod:`proxdm.metrics.registry`). Samples come in chunks, sample i in chunk `i // size`. What has been added is
saved between batches, so that an interrupted row goes on where it was, and gathered from all processes at the end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from proxdm.metrics.frechet import MomentAccumulator
from proxdm.metrics.registry import METRICS, Metric
from proxdm.pixels import to_model_range
from proxdm.runtime.files import replacing
from proxdm.runtime.processes import Place

Kind = Literal["features", "pixels"]
KINDS: tuple[Kind, ...] = ("features", "pixels")


@dataclass(frozen=True)
class Limits:
    """What to keep."""

    size: int  # Samples of a chunk
    dim: int  # Number of features of which moments are taken; 0 for none
    features: int  # Samples whose features are kept
    pixels: int  # Samples whose pixels are kept

    @classmethod
    def of(cls, metrics: Sequence[str], samples: int, size: int, dim: int) -> Limits:
        """Return what these metrics need of so many samples."""
        chosen = [METRICS[name] for name in metrics]
        features, pixels = (
            max((min(samples, one.most or samples) for one in chosen if one.keeps == kind), default=0) for kind in KINDS
        )
        return cls(size, dim if any(one.keeps == "moments" for one in chosen) else 0, features, pixels)

    @property
    def takes_features(self) -> bool:
        """Whether any features are needed."""
        return self.dim > 0 or self.features > 0

    def room(self, kind: Kind, chunk: int) -> int:
        """Return how many samples of a chunk are kept."""
        most: int = getattr(self, kind)
        return min(max(most - chunk * self.size, 0), self.size)


class Accumulator:
    """Moments, features and pixels of some chunks of samples; moments are summed on a device that has float64."""

    def __init__(self, limits: Limits, device: torch.device | str = "cpu") -> None:
        self.limits = limits
        self.chunks: list[int] = []  # Numbers of those that are in it
        self.nfe = 0  # Network evaluations of each sample; 0 before the first
        self.seconds = 0.0  # Time spent on them
        self.moments = MomentAccumulator(limits.dim, device=device) if limits.dim else None
        self.rows: dict[Kind, dict[int, Tensor]] = {kind: {} for kind in KINDS}  # By chunk
        self._saved = 0

    def add(self, chunk: int, pixels: Tensor, features: Tensor | None, nfe: int = 0) -> None:
        """Take in a chunk."""
        if features is not None and self.moments is not None:
            self.moments.add(features)
        for kind, rows in zip(KINDS, (features, pixels), strict=True):
            if rows is not None and (room := self.limits.room(kind, chunk)):
                self.rows[kind][chunk] = rows[:room].cpu().clone()
        self.chunks.append(chunk)
        self.nfe = nfe

    def merge(self, other: Accumulator) -> None:
        """Take in the chunks of another one, which stays as it is."""
        if self.moments is not None and other.moments is not None:
            self.moments.merge(other.moments)
        for kind in KINDS:
            self.rows[kind] |= other.rows[kind]
        self.chunks += other.chunks
        self.nfe = self.nfe or other.nfe
        self.seconds += other.seconds

    def kept(self, kind: Kind) -> Tensor:
        """Return the rows of a kind that are kept, `(n, *)`, in the order of the samples."""
        parts = [rows for _, rows in sorted(self.rows[kind].items())]
        return torch.cat(parts) if parts else torch.empty(0)

    def taken(self, metric: Metric, labels: Tensor | None = None) -> Any:
        """Return what a metric takes of the samples; `labels` are the classes that they were asked for."""
        if metric.keeps == "moments":
            assert self.moments is not None, f"{metric.name} was not asked for when samples were drawn"
            return self.moments.mean.cpu().numpy(), self.moments.cov.cpu().numpy()
        rows = self.kept(metric.keeps)[: metric.most]
        rows = to_model_range(rows) if metric.keeps == "pixels" else rows
        if metric.against == "classes" and labels is not None:
            return rows, labels[: len(rows)]
        return rows

    def gather(self, place: Place) -> Accumulator:
        """Return what all processes have together, on the CPU; every process must call this.

        Its time is that of the slowest.
        """
        total, parts = Accumulator(self.limits), [Accumulator(self.limits)] * place.world
        parts[0].merge(self)
        if place.world > 1:
            torch.distributed.all_gather_object(parts, parts[0])
        for part in parts:
            total.merge(part)
        total.seconds = max(part.seconds for part in parts)
        return total

    def save(self, folder: Path) -> None:
        """Save what has been added, into a folder for one row alone.

        `moments-C.safetensors`, C the first chunk, has the moments and the numbers of the chunks; `kept-C.safetensors`
        features and pixels of the chunks since the last time, C the first of them, written before. A chunk counts once
        it is in the former. Other processes have files of their own; one that goes on with them all leaves them.
        """
        from safetensors.torch import save_file

        new = self.chunks[self._saved :]
        kept = {
            f"{kind}.{chunk}": self.rows[kind][chunk] for kind in KINDS for chunk in new if chunk in self.rows[kind]
        }
        if kept:
            with replacing(folder / f"kept-{new[0]}.safetensors") as part:
                save_file(kept, part)
        facts = {"chunks": self.chunks, "nfe": self.nfe, "seconds": self.seconds}
        state = {} if self.moments is None else self.moments.state()
        with replacing(folder / f"moments-{self.chunks[0]}.safetensors") as part:
            save_file({key: value.cpu() for key, value in state.items()}, part, metadata={"facts": json.dumps(facts)})
        self._saved = len(self.chunks)

    @classmethod
    def load(cls, folder: Path, limits: Limits, device: torch.device | str = "cpu") -> Accumulator:
        """Return what all processes of interrupted runs have saved; empty if there is nothing.

        Files that are damaged are left out. Moments without what was to be kept beside them are of no use, and cannot
        be taken apart: then all files are removed.
        """
        found = cls(limits, device)
        parts = [part for path in folder.glob("moments-*.safetensors") if (part := _read(path))[1]]
        # Largest first: where a sum lies beside its parts, the sum is taken.
        for tensors, facts in sorted(parts, key=lambda part: -len(part[1]["chunks"])):
            if not set(facts["chunks"]) & set(found.chunks):
                one = cls(limits)
                one.chunks, one.nfe, one.seconds = facts["chunks"], facts["nfe"], facts["seconds"]
                one.moments = MomentAccumulator.from_state(tensors) if limits.dim else None
                found.merge(one)
        kept: dict[str, Tensor] = {}
        for path in folder.glob("kept-*.safetensors"):
            kept |= _read(path)[0]
        for kind in KINDS:
            wanted = [chunk for chunk in found.chunks if limits.room(kind, chunk)]
            if any(f"{kind}.{chunk}" not in kept for chunk in wanted):
                for path in folder.glob("*.safetensors"):
                    path.unlink()
                return cls(limits, device)
            found.rows[kind] = {chunk: kept[f"{kind}.{chunk}"] for chunk in wanted}
        found._saved = len(found.chunks)
        return found


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts of a file, none of a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {}).get("facts", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return {}, {}
