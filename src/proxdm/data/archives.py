"""Archives that are read without unpacking them: tar, compressed or not, zip, and folders of tar archives (shards).

Of each the names of its files, in the order in which they stand in it (so that reading is quick), and what reads one.
What an archive says of sizes is not believed: memory is set aside for no more than it can hold.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from proxdm.errors import DataError, one_line

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Archives that are read without unpacking them."""

LARGEST = 2**30
"""Bytes of an encoded picture at most."""

Opened = tuple[list[str], Callable[[str], bytes]]


def is_archive(path: Path) -> bool:
    """Return whether the name is that of an archive which can be read (:data:`ARCHIVES`)."""
    return path.name.lower().endswith(ARCHIVES)


def open_archive(path: Path, stack: ExitStack) -> Opened:
    """Open an archive for as long as `stack`; a DataError says what is wrong with it."""
    try:
        return _open_zip(path, stack) if path.suffix.lower() == ".zip" else _open_tar(path, stack)
    except Exception as error:  # of a damaged archive tarfile and zipfile raise whatever comes to their mind
        raise DataError(f"{path} is a broken archive ({one_line(error)}); make or download it again") from error


def _open_tar(path: Path, stack: ExitStack) -> Opened:
    kind, plain = _compression(path), stack.enter_context(_Measured(io.FileIO(path)))
    opened = tarfile.open(fileobj=plain, mode=f"r:{kind}")  # type: ignore[call-overload]  # noqa: SIM115
    tar: tarfile.TarFile = stack.enter_context(opened)
    members = {_portable(one.name): one for one in tar.getmembers() if one.isfile() or one.islnk() or one.issym()}
    most = LARGEST if kind else min(LARGEST, path.stat().st_size)

    def content(name: str) -> bytes:
        member = members[name]
        if member.size > most:  # tarfile would set that memory aside
            raise tarfile.TarError(f"it says that it has {member.size:,} bytes")
        return tar.extractfile(member).read()  # type: ignore[union-attr]  # links were resolved, folders left out

    return list(members), content


def _open_zip(path: Path, stack: ExitStack) -> Opened:
    archive = stack.enter_context(zipfile.ZipFile(path))
    infos = {_portable(info.filename): info for info in archive.infolist() if not info.is_dir()}
    whole = path.stat().st_size

    def content(name: str) -> bytes:
        info = infos[name]
        if info.compress_size > whole or info.file_size > LARGEST:  # zipfile would set that memory aside
            raise zipfile.BadZipFile(f"it says that it has {info.file_size:,} bytes")
        return archive.read(info)

    return sorted(infos, key=lambda name: infos[name].header_offset), content


def shards_of(path: Path) -> list[Path]:
    """Return the tar archives of a folder that has but texts beside them, in sorted order; else none."""
    shards = []
    for file in path.iterdir():
        if file.name.startswith(".") or file.suffix.lower() in (".json", ".txt", ".md"):
            continue
        if not is_archive(file) or file.suffix.lower() == ".zip" or not file.is_file():
            return []
        shards.append(file)
    return sorted(shards)


def open_shards(shards: Sequence[Path], stack: ExitStack) -> Opened:
    """Open several archives as one; names are `shard.tar:name`, as a folder would be a class."""
    opened = {shard.name: open_archive(shard, stack) for shard in shards}

    def content(name: str) -> bytes:
        shard, _, rest = name.partition(":")
        return opened[shard][1](rest)

    return [f"{shard}:{name}" for shard, (names, _) in opened.items() for name in names], content


def _compression(path: Path) -> str:
    """Return how an archive is compressed, by its first bytes: tarfile would try everything, at any price."""
    with path.open("rb") as file:
        start = file.read(6)
    magic = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
    return next((kind for first, kind in magic.items() if start.startswith(first)), "")


class _Measured(io.BufferedReader):
    """A file that sets no more memory aside than it has bytes, whatever the headers in it say."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most `size` bytes."""
        left = os.fstat(self.fileno()).st_size - self.tell()
        return super().read(left if size is None or size < 0 else max(0, min(size, left)))


def _portable(name: str) -> str:
    """Return the name of a member with slashes, which archives made on Windows may lack."""
    return name.replace("\\", "/")
