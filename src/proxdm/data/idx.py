"""The IDX format of MNIST and its relatives (Y. LeCun): a big-endian header, then the values.

Bytes 0 and 1 are zero, byte 2 is the type (8: unsigned byte), byte 3 the number of dimensions, then one 32-bit size
per dimension, then the values, last dimension fastest. Files may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proxdm.data.errors import DataError
from proxdm.errors import one_line

_UNSIGNED_BYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes, compressed or not.

    Args:
        path: The file; compression is recognised by its content.

    Returns:
        uint8 array of the shape that the header states; a writable copy.

    Raises:
        DataError: The file is not IDX, holds another type than unsigned bytes, or is shorter or longer than its
            header says.
    """
    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} is a broken gzip file ({one_line(error)}); delete it and download it again"
            ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[3] == 0:
        raise DataError(f"{path} is not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}")
    if content[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path} holds IDX type 0x{content[2]:02x}; only unsigned bytes (0x08) are images")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path} ends inside its IDX header; delete it and download it again")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if (size := math.prod(shape)) != len(content) - start:
        raise DataError(
            f"{path} should hold {size} bytes of shape {'x'.join(map(str, shape))} by its header, but holds "
            f"{len(content) - start}; delete it and download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
