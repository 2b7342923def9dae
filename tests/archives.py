"""Pictures as bytes, and members of tar archives."""

from __future__ import annotations

import io
import tarfile

from PIL import Image


def encoded(array, kind="png", **options):
    """The bytes of a picture."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def add(tar, name, content=b"", link=None, kind=tarfile.SYMTYPE):
    """Write a file, or a link, into a tar archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    if link is not None:
        member.type, member.linkname = kind, link
    tar.addfile(member, io.BytesIO(content))
