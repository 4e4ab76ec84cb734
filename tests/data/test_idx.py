import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hwnas.core import DataError
from hwnas.data.idx import read_idx


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=5)), st.booleans())
def test_reads_what_was_written(array: NDArray[np.uint8], packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "values.gz" if packed else "values")
        path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
        assert np.array_equal(read_idx(path, dimensions=array.ndim), array)


@given(st.integers(0, 15))
def test_every_cut_is_noticed(kept: int) -> None:
    whole = idx_bytes(np.arange(4, dtype=np.uint8).reshape(2, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "values")
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match="values"):
            read_idx(path, dimensions=2)


def test_errors_name_file_and_values(tmp_path: Path) -> None:
    path = tmp_path / "images"
    content = idx_bytes(np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="images: cannot be read"):
        read_idx(path, dimensions=2)
    path.write_bytes(content)
    with pytest.raises(DataError, match="starts with 00 00 08 02; expected 00 00 08 03"):
        read_idx(path, dimensions=3)
    path.write_bytes(content[:7])
    with pytest.raises(DataError, match="ends within its header, after 7 bytes"):
        read_idx(path, dimensions=2)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="holds 5 values; its header says 2 x 3"):
        read_idx(path, dimensions=2)
    path.write_bytes(content + b"x")
    with pytest.raises(DataError, match="holds 7 values"):
        read_idx(path, dimensions=2)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="starts with nothing"):
        read_idx(path, dimensions=2)


@pytest.mark.parametrize("break_it", [lambda c: c[:-9], lambda c: b"plain", lambda c: c[:12] + b"\xff\xff" + c[14:]])
def test_damaged_gzip_is_refused(tmp_path: Path, break_it: object) -> None:
    path = tmp_path / "images.gz"
    assert callable(break_it)
    path.write_bytes(break_it(gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)))))
    with pytest.raises(DataError, match=r"images\.gz: cannot be read"):
        read_idx(path, dimensions=1)
