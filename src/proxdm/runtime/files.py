"""Files: checked before the work, never half written, never overwritten in silence, known by their digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxdm.errors import OutputError

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
               errno.EEXIST, errno.ENOTDIR, errno.EISDIR)  # fmt: skip


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the system or safetensors says of a full or unwritable disk into an OutputError with the path."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _UNWRITABLE
        if not full and not (type(error).__name__ == "SafetensorError" and "os error" in str(error)):
            raise
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path} cannot be written ({reason}); make room, or choose another place") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there is synced and renamed when the block ends.

    Folders above it are made. An error in the block leaves what was at `path` as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            mode = part.stat().st_mode
            yield part
            part.chmod(mode)  # safetensors makes files that nobody else may read, whatever the umask
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):  # a folder above it is a file
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as :func:`replacing` does."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def check_new(*paths: Path, overwrite: bool) -> None:
    """Raise an OutputError if a folder has the name of a result, or a file has it that must not be replaced."""
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path} is a folder, not a file; choose another name")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already; overwrite it (--overwrite), or choose another name")


def check_folder(folder: Path, files: Sequence[str], *, overwrite: bool) -> None:
    """Make the folder if need be, and check that results can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"results cannot be written to {folder} ({error.strerror}); choose another folder with --out"
        ) from error
    check_new(*(folder / name for name in files), overwrite=overwrite)


@contextmanager
def staged(folder: Path, last: str) -> Iterator[Path]:
    """Give a temporary folder whose files move into `folder` when the block ends without an error.

    A reader never sees half a file, and an interrupted run leaves what was there as it was.
    """
    with tempfile.TemporaryDirectory(prefix=".proxdm-", dir=folder) as name:
        stage = Path(name)
        with naming(folder / last):
            yield stage
        for path in sorted(stage.iterdir(), key=lambda path: (path.name == last, path.name)):
            path.replace(folder / path.name)


@contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a file for this process; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise OutputError(f"another process holds {path}; wait for it, or choose another folder") from None
        except OSError as error:  # a file system without locks
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
        yield


class JsonLines:
    """A file of one JSON object a line, which need not exist, and only ever grows by whole lines.

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
        with naming(self.path), self._lock():
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
        with naming(self.path), self._lock():
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

    def _lock(self) -> AbstractContextManager[None]:
        return lock(self.path.with_name(f".{self.path.name}.lock"), wait=True)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
