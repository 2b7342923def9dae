"""Files and folders of results: checked before the work, never half written, never overwritten in silence."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxdm.errors import OutputError, ProxdmError

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the system or safetensors says of a full or unwritable disk into an OutputError with the path."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ProxdmError):
            raise
        full = isinstance(error, OSError) and error.errno in _UNWRITABLE
        if not full and not (type(error).__name__ == "SafetensorError" and "os error" in str(error)):
            raise
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path} cannot be written ({reason}); make room, or choose another place") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there is synced and renamed when the block ends.

    An error in the block leaves what was at `path` as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            part.touch()
            mode = part.stat().st_mode
            yield part
            part.chmod(mode)  # safetensors makes files that nobody else may read, whatever the umask
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    there = [name for name in files if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(
            f"{folder} holds {', '.join(there)} already; add --overwrite to replace what is there, or choose another "
            "folder with --out"
        )
    if blocked := [name for name in there if (folder / name).is_dir()]:
        raise OutputError(f"{folder / blocked[0]} is a folder, not a file; choose another folder with --out")


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
