# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Read the tables of pickled pandas DataFrames without running anything a pickle asks for.

A pickle is a program. Here every name that it may use stands for an inert record of this module,
neither numpy nor pandas takes part in unpickling, and any other name ends with an `InputError`.
Arrays are built at the end from their bytes, for plain numbers only.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError

NUMBER_KINDS = frozenset({'b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8'})


class _Record:
    """Stands for any object of the pickle: remembers what it was made of, does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Record):
    """A DataFrame."""


class _Manager(_Record):
    """A BlockManager: the columns of a DataFrame grouped by type."""


class _Array(_Record):
    """A numpy array."""


class _Dtype(_Record):
    """A numpy dtype."""


class _Index(_Record):
    """A pandas Index, made of its kind and a dict with its data."""


class _Slice(_Record):
    """A slice."""


# Only classes of this module: a pickle may set attributes of anything without `__setstate__`.
ADMITTED: dict[tuple[str, str], type[_Record]] = {
    ('pandas.core.frame', 'DataFrame'): _Frame,
    ('pandas.core.internals.managers', 'BlockManager'): _Manager,
    ('pandas.core.indexes.base', '_new_Index'): _Index,
    ('pandas.core.indexes.base', 'Index'): _Index,
    ('pandas.core.indexes.numeric', 'Int64Index'): _Index,
    ('pandas.core.indexes.range', 'RangeIndex'): _Index,
    ('numpy.core.multiarray', '_reconstruct'): _Array,
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _Dtype,
    ('builtins', 'slice'): _Slice,
}


# The one written in Python: the other takes as much memory as a forged memo number asks for.
class _Unpickler(pickle._Unpickler):
    """Resolves the admitted names to records, and no other name to anything."""

    def find_class(self, module: str, name: str) -> type[_Record]:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f'the name {module}.{name} is not admitted')
        return ADMITTED[module, name]

    def persistent_load(self, _pid: Any) -> Any:
        raise pickle.UnpicklingError('persistent objects are not admitted')


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Read the numeric columns of a gzipped DataFrame pickle.

    Args:
        path: a `.pkl.gz` written by a pandas older than 1.1.

    Returns:
        Column name -> 1-D array in native byte order; all columns have the same length.

    Raises:
        InputError: no such file, not such a pickle, or a pickle that asks for anything other
            than the parts of a DataFrame of numbers.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except FileNotFoundError as error:
        raise InputError('the file does not exist', where=path) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError('the file is not a complete gzip file', where=path, got=error) from error
    return _parse_table(content, path)


def _parse_table(content: bytes, where: Path) -> dict[str, NDArray[Any]]:
    """Unpickle into records, then build the columns."""
    try:
        return _columns(_Unpickler(io.BytesIO(content)).load())
    # Bytes that are no pickle make the unpickler raise nearly anything; nothing has been run.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise InputError(
            'the file is not a pickled table of numbers',
            where=where,
            expected='a DataFrame of an old pandas, as PandaSet ships them',
            got=error,
            fix='use the original files of the data set, and do not trust this one',
        ) from error


def _columns(frame: Any) -> dict[str, NDArray[Any]]:
    """Columns of a DataFrame record, from its BlockManager's blocks."""
    if not isinstance(frame, _Frame):
        raise ValueError(f'a {type(frame).__name__} is not a DataFrame')
    _axes, _blocks, _items, versions = frame.state['_data'].state
    content = versions['0.14.1']  # layout of the block manager, the same since pandas 0.14.1
    names = _strings(content['axes'][0])
    columns: dict[str, NDArray[Any]] = {}
    for block in content['blocks']:
        values = _numbers(block['values'])
        positions = _positions(block['mgr_locs'])
        if len(positions) != len(values):
            raise ValueError(f'{len(positions)} places for {len(values)} columns')
        columns.update((names[position], row) for position, row in zip(positions, values))
    return columns


def _strings(index: _Index) -> list[str]:
    """Names held by an Index of strings."""
    _version, _shape, _dtype, _fortran, names = index.arguments[1]['data'].state
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError('the column names are not strings')
    return names


def _positions(places: _Slice | _Array) -> list[int]:
    """Column numbers of a block, a slice or an array of them."""
    if isinstance(places, _Slice):
        return list(range(*places.arguments))
    return [int(place) for place in _numbers(places)]


def _numbers(array: _Array) -> NDArray[Any]:
    """Array of plain numbers from its recorded state."""
    _version, shape, dtype, is_fortran, content = array.state
    kind, byte_order = dtype.arguments[0], dtype.state[1]
    if kind not in NUMBER_KINDS or byte_order not in ('<', '>', '|', '='):
        raise ValueError(f'an array of {kind!r} is not an array of plain numbers')
    numbers = np.frombuffer(content, dtype=np.dtype(kind).newbyteorder(byte_order))
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f'a shape of {shape!r}')
    if math.prod(shape) != len(numbers):
        raise ValueError(f'{len(numbers)} numbers for the shape {shape}')
    ordered = numbers.reshape(shape, order='F' if is_fortran else 'C')
    return ordered.astype(np.dtype(kind), copy=False)
