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


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes, compressed (recognised by its content) or not."""
    content, start = path.read_bytes(), 4 + 4 * dimensions
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a broken gzip file ({one_line(error)}); delete it and download it again") from error
    if content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimensions (it starts with "
            f"{content[:4].hex(' ') or 'nothing'}, not 00 00 08 {dimensions:02x}); get the right file"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start].ljust(start - 4, b"\0"))
    if (size := math.prod(shape)) != len(content) - start:
        raise DataError(
            f"{path} should hold {size} bytes of shape {'x'.join(map(str, shape))} by its header, but holds "
            f"{len(content) - start}; delete it and download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
