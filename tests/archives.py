"""Pictures as bytes, folders and archives of them, and what PNG files say of themselves."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

from PIL import Image


def encoded(array, kind="png", **options):
    """The bytes of a picture."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def png_metadata(path):
    """How the samples in a PNG were made, as it says; None if it does not."""
    with Image.open(path) as picture:
        return json.loads(picture.info.get("proxdm", "null"))


def add(tar, name, content=b"", link=None, kind=tarfile.SYMTYPE):
    """Write a file, or a link, into a tar archive."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    if link is not None:
        member.type, member.linkname = kind, link
    tar.addfile(member, io.BytesIO(content))


def packed(path, contents):
    """Write files, given as bytes by their names, into a zip or tar archive or a folder, as its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.mkdir("b")  # folders have entries, too
            for name, content in contents.items():
                archive.writestr(name, content)
    elif ".t" in path.name:
        with tarfile.open(path, "w:" + {".tar": "", ".tgz": "gz", ".xz": "xz"}[path.suffix]) as tar:
            for name, content in contents.items():
                add(tar, f"./{name}", content)
    else:
        for name, content in contents.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path
