"""Rows of results: one JSON object a line in `results.jsonl`, which only ever grows by whole lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from proxdm.errors import OutputError
from proxdm.runtime.files import replacing
from proxdm.runtime.locks import lock

RESULTS = "results.jsonl"

IDENTITY = ("digest", "sampler", "grid", "steps", "samples", "seed", "bf16", "features", "reference")
"""What makes two rows the same measurement; where it was made, and how fast, does not count."""


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the results.

    Attributes:
        source: Name that the model was asked for by.
        preset: Preset of its configuration, if it has one.
        weights: Name of the weight set.
        digest: SHA-256 of the weights.
        sampler: Name of the rule.
        grid: Times it went through, by name and parameters.
        steps: N.
        nfe: Network evaluations per sample, measured.
        samples: Number of samples.
        seed: Of all random numbers.
        chunk: Samples in one call of the network.
        bf16: Whether the network ran in bfloat16.
        features: What the metrics were taken on: name, dim, weights (SHA-256) and resize.
        reference: What the samples were compared with: name, kind, sha256, dataset, split and n.
        metrics: Values by name.
        used: For every metric, the number of samples and of reference images it was taken on (None: not known).
        seconds: Time for samples and their features, interrupted runs included.
        metric_seconds: Time for metrics, and for the reference where it had to be computed.
        images_per_second: Samples over that time.
        nfe_per_second: Network evaluations over that time.
        versions: Of proxdm, torch and Python.
        device: Where it was computed.
        processes: Number of processes.
        finished: When, in UTC (ISO 8601).
        picture: File with the first samples, beside the results.
        compile: Whether the network was compiled.
    """

    source: str
    preset: str | None
    weights: str
    digest: str
    sampler: str
    grid: str
    steps: int
    nfe: int
    samples: int
    seed: int
    chunk: int
    bf16: bool
    features: Mapping[str, Any]
    reference: Mapping[str, Any]
    metrics: Mapping[str, float]
    used: Mapping[str, Sequence[int | None]]
    seconds: float
    metric_seconds: float
    images_per_second: float
    nfe_per_second: float
    versions: Mapping[str, str]
    device: str
    processes: int
    finished: str
    picture: str | None = None
    compile: bool = False

    def record(self) -> dict[str, Any]:
        """Return it in plain types."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> EvaluationRow:
        """Return the row of a line; what a newer version has added is left out.

        Raises:
            ValueError: The line lacks a value.
        """
        known = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"this is no row of results ({error})") from None


def identity(record: Mapping[str, Any]) -> str:
    """Return what makes two rows the same measurement, as one string."""
    parts = {name: record.get(name) for name in IDENTITY}
    if isinstance(reference := parts["reference"], Mapping):
        parts["reference"] = reference.get("sha256")
    return json.dumps(parts, sort_keys=True)


class ResultsFile:
    """The lines of a results file.

    A line that an interrupted writer left unfinished is ignored, and removed before the next is written. Writers take
    turns by a lock.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[dict[str, Any]]:
        """Return all lines.

        Raises:
            OutputError: A line, other than an unfinished last one, is not a JSON object.
        """
        lines, _ = self._read()
        return lines

    def find(self, wanted: str, metrics: Sequence[str]) -> dict[str, Any] | None:
        """Return the latest line of that identity with values of all these names, or None."""

        def fits(record: dict[str, Any]) -> bool:
            values = record.get("metrics")
            return isinstance(values, dict) and set(metrics) <= set(values) and identity(record) == wanted

        return next(filter(fits, reversed(self.records())), None)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line; it is on the disk when this returns, whole or not at all.

        Raises:
            OutputError: The file is damaged, or cannot be written.
        """
        line = _line(record)
        with self._writing():
            _, whole = self._read()
            with self.path.open("r+b" if self.path.exists() else "xb") as file:
                file.truncate(whole)
                start = file.seek(0, os.SEEK_END)
                if start and not _ends_line(self.path, start):
                    line = b"\n" + line
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(start)
                    raise

    def replace(self, record: Mapping[str, Any]) -> None:
        """Put a line in the place of all lines of its identity, or at the end: a new file takes the place of the old.

        Raises:
            OutputError: The file is damaged, or cannot be written.
        """
        wanted = identity(record)
        with self._writing():
            others, _ = self._read()
            lines = [_line(other) for other in others if identity(other) != wanted]
            with replacing(self.path) as part:
                part.write_bytes(b"".join([*lines, _line(record)]))

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """Return the whole lines and where they end."""
        content = self.path.read_bytes() if self.path.exists() else b""
        found: list[dict[str, Any]] = []
        end = 0
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            try:
                record = json.loads(line) if line.strip() else None
                if record is not None and not isinstance(record, dict):
                    raise ValueError("not an object")
            except ValueError:
                if line.endswith(b"\n"):
                    raise OutputError(
                        f"line {number} of {self.path} is not a JSON object; repair it, or move the file away"
                    ) from None
                break
            if record is not None:
                found.append(record)
            end += len(line)
        return found, end

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with lock(self.path.with_name(f".{self.path.name}.lock"), wait=True):
                yield
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror or error})") from error


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _ends_line(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
