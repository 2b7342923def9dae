"""What is kept of the samples of a row while they stream by: moments of all, features and pixels of the first.

Samples come in chunks, sample i in chunk `i // size`. What has been collected is saved between batches, so that an
interrupted row goes on where it was, and gathered from all processes at the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from proxdm.metrics.frechet import MomentAccumulator
from proxdm.runtime.files import replacing
from proxdm.runtime.processes import Place

_KINDS = ("features", "pixels")


@dataclass(frozen=True)
class Wanted:
    """What to keep.

    Attributes:
        chunk: Samples of a chunk.
        dim: Number of features of which moments are taken; 0 for none.
        features: Samples whose features are kept.
        pixels: Samples whose pixels are kept.
    """

    chunk: int
    dim: int
    features: int
    pixels: int


@dataclass(frozen=True, eq=False)
class Total:
    """What all processes have collected.

    Attributes:
        moments: Of the features of all samples, if they were wanted.
        features: Of the first samples, `(k, D)`, in order.
        pixels: Of the first samples, uint8 `(l, C, H, W)`, in order.
        nfe: Network evaluations of each sample.
        seconds: Time of the slowest process, interrupted runs included.
    """

    moments: MomentAccumulator | None
    features: Tensor
    pixels: Tensor
    nfe: int
    seconds: float


class Collected:
    """Moments, features and pixels of some chunks of samples.

    Args:
        wanted: What to keep.
        device: Where moments are summed; it must have float64.

    Attributes:
        chunks: Numbers of the chunks that are in it.
        nfe: Network evaluations of each sample; 0 before the first.
        seconds: Time spent on them.
        moments: Of the features of all of them, if they are wanted.
        kept: Features and pixels to keep, by kind and chunk.
    """

    def __init__(self, wanted: Wanted, device: torch.device | str = "cpu") -> None:
        self.wanted = wanted
        self.chunks: list[int] = []
        self.nfe = 0
        self.seconds = 0.0
        self.moments = MomentAccumulator(wanted.dim, device=device) if wanted.dim else None
        self.kept: dict[str, dict[int, Tensor]] = {kind: {} for kind in _KINDS}

    def add(self, chunk: int, pixels: Tensor, features: Tensor | None, nfe: int) -> None:
        """Take in a chunk.

        Args:
            chunk: Its number.
            pixels: uint8 `(b, C, H, W)`.
            features: `(b, D)`; None where nothing needs them.
            nfe: Network evaluations of each sample.

        Raises:
            NonFiniteError: NaN or infinite features.
        """
        if features is not None and self.moments is not None:
            self.moments.add(features)
        limits = {"features": self.wanted.features, "pixels": self.wanted.pixels}
        for kind, rows in (("features", features), ("pixels", pixels)):
            room = limits[kind] - chunk * self.wanted.chunk
            if rows is not None and room > 0:
                self.kept[kind][chunk] = rows[:room].cpu().clone()
        self.chunks.append(chunk)
        self.nfe = nfe

    def merge(self, other: Collected) -> None:
        """Take in the chunks of another one, which stays as it is."""
        if self.moments is not None and other.moments is not None:
            self.moments.merge(other.moments)
        for kind in _KINDS:
            self.kept[kind].update(other.kept[kind])
        self.chunks += other.chunks
        self.nfe = self.nfe or other.nfe
        self.seconds += other.seconds

    def total(self, place: Place) -> Total:
        """Return what all processes have together; every process must call this."""
        rows = {kind: self._rows(kind) for kind in _KINDS}
        if place.world == 1:
            return Total(self.moments, rows["features"][0], rows["pixels"][0], self.nfe, self.seconds)
        moments = None
        if self.moments is not None:
            states = {key: _gather(value, place) for key, value in self.moments.state().items()}
            moments = MomentAccumulator(self.wanted.dim)
            for rank in range(place.world):
                moments.merge(MomentAccumulator.from_state({key: value[rank] for key, value in states.items()}))
        found = {kind: _gather_rows(*rows[kind], place) for kind in _KINDS}
        facts = torch.stack(_gather(torch.tensor([self.nfe, self.seconds], dtype=torch.float64), place))
        nfe, seconds = facts.max(0).values.tolist()
        return Total(moments, found["features"], found["pixels"], int(nfe), seconds)

    def _rows(self, kind: str) -> tuple[Tensor, Tensor]:
        """Return what was kept, in the order of the samples, and their numbers."""
        parts = sorted(self.kept[kind].items())
        if not parts:
            return torch.empty(0), torch.empty(0, dtype=torch.int64)
        index = [torch.arange(len(rows)) + chunk * self.wanted.chunk for chunk, rows in parts]
        return torch.cat([rows for _, rows in parts]), torch.cat(index)


class Savings:
    """Where one row is saved between batches: a folder, removed when the row is done.

    `moments-R.safetensors` has the moments of process R and the numbers of its chunks; `kept-C.safetensors` the
    features and pixels of the batch that begins with chunk C, written before. A chunk counts once it is in the former.

    Args:
        folder: The folder, of this row alone.
        wanted: What is collected.
    """

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self.folder = folder
        self.wanted = wanted
        self._saved: set[int] = set()

    def save(self, collected: Collected, rank: int) -> None:
        """Save what a process has collected; what has been saved before is not written again."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        new = [chunk for chunk in collected.chunks if chunk not in self._saved]
        tensors = {
            f"{kind}.{chunk}": collected.kept[kind][chunk]
            for kind in _KINDS
            for chunk in new
            if chunk in collected.kept[kind]
        }
        if tensors:
            with replacing(self.folder / f"kept-{min(new)}.safetensors") as part:
                save_file(tensors, part)
        facts = {"chunks": collected.chunks, "nfe": collected.nfe, "seconds": collected.seconds}
        state = {} if collected.moments is None else collected.moments.state()
        with replacing(self.folder / f"moments-{rank}.safetensors") as part:
            save_file({key: value.cpu() for key, value in state.items()}, part, metadata={"facts": json.dumps(facts)})
        self._saved |= set(new)

    def load(self, device: torch.device | str = "cpu") -> Collected:
        """Return what all processes of an interrupted run have saved, empty if there is nothing.

        Files that are damaged, or that an interruption left beside those that count, are left out. The folder then
        holds one process's part.
        """
        found = Collected(self.wanted, device)
        if not self.folder.is_dir():
            return found
        parts = [part for path in self.folder.glob("moments-*.safetensors") if (part := self._part(path)) is not None]
        # Largest first: where an interruption left both a sum and its parts, the sum is taken.
        for part in sorted(parts, key=lambda part: -len(part.chunks)):
            if not set(part.chunks) & set(found.chunks):
                part.moments = None if part.moments is None else _moved(part.moments, device)
                found.merge(part)
        kept = self._kept(set(found.chunks))
        if not all(self._complete(chunk, kept) for chunk in found.chunks):
            # Moments without what was to be kept beside them are of no use, and cannot be taken apart.
            for path in self.folder.glob("*.safetensors"):
                path.unlink()
            return Collected(self.wanted, device)
        found.kept = kept
        if found.chunks:
            self.save(found, 0)
            for path in self.folder.glob("moments-*.safetensors"):
                if path.name != "moments-0.safetensors":
                    path.unlink()
        return found

    def remove(self) -> None:
        """Remove the folder, and the one above it if it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def _part(self, path: Path) -> Collected | None:
        from safetensors import SafetensorError, safe_open

        part = Collected(self.wanted)
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            part.chunks, part.nfe, part.seconds = (
                [int(chunk) for chunk in facts["chunks"]],
                facts["nfe"],
                facts["seconds"],
            )
            part.moments = MomentAccumulator.from_state(state) if self.wanted.dim else None
        except (SafetensorError, OSError, KeyError, ValueError):
            return None
        return part

    def _kept(self, chunks: set[int]) -> dict[str, dict[int, Tensor]]:
        """Return what was kept of these chunks."""
        from safetensors import SafetensorError, safe_open

        kept: dict[str, dict[int, Tensor]] = {kind: {} for kind in _KINDS}
        for path in self.folder.glob("kept-*.safetensors"):
            try:
                with safe_open(path, framework="pt") as file:
                    for key in file.keys():  # noqa: SIM118
                        kind, chunk = key.split(".")
                        if int(chunk) in chunks:
                            kept[kind][int(chunk)] = file.get_tensor(key)
            except (SafetensorError, OSError):
                continue
        return kept

    def _complete(self, chunk: int, kept: dict[str, dict[int, Tensor]]) -> bool:
        first = chunk * self.wanted.chunk
        limits = {"features": self.wanted.features, "pixels": self.wanted.pixels}
        return all(first >= most or chunk in kept[kind] for kind, most in limits.items())


def share(chunks: Iterable[int], rank: int, world: int) -> list[int]:
    """Return the chunks that fall to one of several processes: every `world`-th."""
    return list(chunks)[rank::world]


def _moved(moments: MomentAccumulator, device: torch.device | str) -> MomentAccumulator:
    return MomentAccumulator.from_state({key: value.to(device) for key, value in moments.state().items()})


def _gather(value: Tensor, place: Place) -> list[Tensor]:
    """Return a tensor of every process, all of one shape, on the CPU."""
    own = value.to(place.device)
    parts = [torch.empty_like(own) for _ in range(place.world)]
    torch.distributed.all_gather(parts, own)
    return [part.cpu() for part in parts]


def _gather_rows(rows: Tensor, index: Tensor, place: Place) -> Tensor:
    """Return the rows of all processes in the order of their numbers."""
    counts = [int(count) for count in _gather(torch.tensor(len(index)), place)]
    if not any(counts):
        return rows
    # A process that has kept nothing does not know the shape of a row: it learns it from one that has.
    axes = max(int(n) for n in _gather(torch.tensor(rows.ndim if len(index) else 0), place))
    shape = torch.tensor(rows.shape[1:] if len(index) else [0] * (axes - 1), dtype=torch.int64)
    shape = torch.stack(_gather(shape, place)).amax(0)
    kinds = (torch.float32, torch.uint8)
    kind = kinds[max(int(k) for k in _gather(torch.tensor(int(rows.dtype == torch.uint8)), place))]
    most = max(counts)
    padded = torch.zeros(most, *shape.tolist(), dtype=kind)
    numbers = torch.zeros(most, dtype=torch.int64)
    if len(index):
        padded[: len(index)], numbers[: len(index)] = rows, index
    parts = [part[:count] for part, count in zip(_gather(padded, place), counts, strict=True)]
    order = torch.cat([part[:n] for part, n in zip(_gather(numbers, place), counts, strict=True)]).argsort()
    return torch.cat(parts)[order]
