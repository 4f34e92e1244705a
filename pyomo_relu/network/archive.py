"""Arrays of an ``.npz`` file, each checked before it is made; nothing is unpickled.

``numpy.load`` takes the memory that an array's header declares before it looks at the
data. Here the header must agree with the length of the data, all of it must fit the
memory that reading may take, and only numbers and text are accepted.
"""

from __future__ import annotations

import io
import zipfile
from math import prod
from pathlib import Path

import numpy as np

from pyomo_relu.network.limits import TooLargeError, need

#: Kinds of dtypes that a file may hold: bool, integers, floating point, text, bytes.
_KINDS = "biufUS"


class DamagedError(ValueError):
    """A file is not what it should be; the message says why, without the path."""


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file by name, in native byte order and writable.

    Raises
    ------
    DamagedError
        If it is no such file, is truncated or damaged, or holds pickled objects.
    TooLargeError
        If it declares more than reading may take.
    FileNotFoundError, PermissionError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [m.filename.removesuffix(".npy") for m in members]
            if len(set(names)) < len(names):
                raise DamagedError("it holds two arrays of one name")
            largest = max((m.file_size for m in members), default=0)
            total = sum(m.file_size for m in members)
            need(f"the {len(members)} arrays of the file", 2.0 * largest, total)
            return {n: _array(n, archive.read(m)) for n, m in zip(names, members)}
    except (DamagedError, TooLargeError, FileNotFoundError, PermissionError):
        raise
    except Exception as e:  # zipfile and zlib raise a dozen kinds on a damaged archive
        raise DamagedError(_first_line(e)) from e


def _array(name: str, data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise DamagedError(f"array '{name}' has the format {version}")
    if dtype.kind not in _KINDS:
        raise DamagedError(f"array '{name}' holds {dtype}, not numbers or text")
    start, count = file.tell(), prod(shape)
    if min(shape, default=0) < 0 or start + count * dtype.itemsize != len(data):
        raise DamagedError(
            f"array '{name}' declares shape {shape}, but holds {len(data) - start} bytes"
        )
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype=dtype)
    flat = np.frombuffer(data, dtype=dtype, count=count, offset=start)
    native = flat.astype(dtype.newbyteorder("="))
    return native.reshape(shape, order="F" if fortran else "C")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
