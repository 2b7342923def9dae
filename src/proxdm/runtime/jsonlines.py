"""Files of one JSON object a line, which only ever grow by whole lines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxdm.errors import OutputError
from proxdm.runtime.files import replacing
from proxdm.runtime.locks import lock


class JsonLines:
    """The lines of a file, which need not exist.

    A line that an interrupted writer left unfinished is ignored, and removed before the next is written. Writers take
    turns by a lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[dict[str, Any]]:
        """Return all lines."""
        return self._read()[0]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line; it is on the disk when this returns, whole or not at all."""
        line = _line(record)
        with self._writing():
            _, whole = self._read()
            with self.path.open("r+b" if self.path.exists() else "x+b") as file:
                file.truncate(whole)
                if whole:
                    file.seek(whole - 1)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                try:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(whole)
                    raise

    def replace(self, record: Mapping[str, Any], same: Callable[[Mapping[str, Any]], bool]) -> None:
        """Put a line in the place of all that are the `same`, or at the end: a new file takes the place of the old."""
        line = _line(record)
        with self._writing():
            lines = [_line(other) for other in self.records() if not same(other)]
            with replacing(self.path) as part:
                part.write_bytes(b"".join([*lines, line]))

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """Return the whole lines and where they end."""
        content = self.path.read_bytes() if self.path.exists() else b""
        found: list[dict[str, Any]] = []
        end = 0
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            try:
                record = json.loads(line) if line.strip() else None
                if not isinstance(record, dict | None):
                    raise ValueError("not an object")
            except ValueError:
                if line.endswith(b"\n"):
                    raise OutputError(
                        f"line {number} of {self.path} is not a JSON object; repair it, or move the file away"
                    ) from None
                break
            found += [] if record is None else [record]
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
