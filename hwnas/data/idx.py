"""The IDX format of MNIST and its relatives.

Source: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist: two zero bytes, a type byte, the number of
dimensions, each dimension as a big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.core import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, packed by gzip if the name ends in `.gz`.

    Args:
        path: The file.
        dimensions: How many the array must have: 3 for images, 1 for labels.

    Raises:
        DataError: If the file cannot be read, is of another kind, or is shorter or longer than it says.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.gz"
        >>> _ = path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])))
        >>> read_idx(path, dimensions=1)
        array([7, 9], dtype=uint8)
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="delete it and fetch it again") from error
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise DataError(
            f"{path}: starts with {content[:4].hex(' ') or 'nothing'}; expected {magic.hex(' ')}, an IDX file of "
            f"unsigned bytes with {dimensions} dimensions"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path}: ends within its header, after {len(content)} bytes; expected at least {start}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: holds {len(content) - start} values; its header says {' x '.join(map(str, shape))}",
            hint="delete it and fetch it again",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
