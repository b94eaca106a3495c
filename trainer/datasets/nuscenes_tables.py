# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The JSON tables of nuScenes, read without holding the large ones in memory.

Each table is a list of flat objects that point to each other by tokens. Of the full data set
`sample_data.json` and `ego_pose.json` have 2.6 million rows each, so they are read piece by
piece, and only the rows that are asked for are decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from reldistill_ros.core.errors import InputError

Row = dict[str, Any]
PIECE = 1 << 22  # bytes
FLAT_OBJECT = re.compile(rb'\{[^{}]*\}')


def read_table(folder: Path, name: str, columns: Sequence[str]) -> list[Row]:
    """Read a table whole.

    Args:
        folder: of a version, such as `v1.0-mini`.
        name: of the table, without ending.
        columns: what every row must have.

    Raises:
        InputError: no such table, not JSON, or a row lacks a column.
    """
    path = folder / f'{name}.json'
    try:
        rows = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise _no_table(path) from error
    except ValueError as error:
        raise _incomplete(path, error) from error
    if not isinstance(rows, list):
        raise _incomplete(path, f'{type(rows).__name__} instead of a list')
    for row in rows:
        _check_columns(row, columns, path)
    return rows


def scan_table(
    folder: Path, name: str, columns: Sequence[str], wanted: Container[str]
) -> Iterator[Row]:
    """Read the rows of a large table whose first column is one of the wanted values.

    Args:
        folder: of a version.
        name: of the table, without ending.
        columns: what every row must have; the first holds plain text, such as a token.
        wanted: values of that column.

    Raises:
        InputError: no such table, it is cut off, or a row lacks a column.
    """
    path = folder / f'{name}.json'
    value = re.compile(rb'"%s"\s*:\s*"([^"]*)"' % columns[0].encode())
    for text in _objects(path):
        found = value.search(text)
        if found is None:
            raise _no_column(path, columns, text.decode(errors='replace'))
        if found[1].decode() in wanted:
            row = _decode(text, path)
            _check_columns(row, columns, path)
            yield row


def _objects(path: Path) -> Iterator[bytes]:
    """The text of each object of a list of flat objects."""
    try:
        file = path.open('rb')
    except FileNotFoundError as error:
        raise _no_table(path) from error
    with file:
        rest = file.read(PIECE).lstrip()
        if not rest.startswith(b'['):
            raise _incomplete(path, 'it does not begin with [')
        while True:
            end = rest.rfind(b'}') + 1
            yield from FLAT_OBJECT.findall(rest[:end])
            piece = file.read(PIECE)
            rest = rest[end:] + piece
            if not piece:
                break
    if rest.strip().lstrip(b'[').strip() != b']':
        raise _incomplete(path, 'it does not end with ]')


def _decode(text: bytes, path: Path) -> Row:
    try:
        row: Row = json.loads(text)
    except ValueError as error:
        raise _incomplete(path, error) from error
    return row


def _check_columns(row: Any, columns: Sequence[str], path: Path) -> None:
    if not isinstance(row, dict) or any(column not in row for column in columns):
        raise _no_column(path, columns, row)


def _no_table(path: Path) -> InputError:
    return InputError(
        'a table of nuScenes does not exist',
        where=path,
        fix='extract the metadata archive of this version (the labels have one of their own) '
        'into the folder of the data set',
    )


def _no_column(path: Path, columns: Sequence[str], row: object) -> InputError:
    return InputError(
        'a row of the table lacks a column',
        where=path,
        expected=', '.join(columns),
        got=f'{row!s:.300}',
        fix='extract the original tables; those of lidarseg replace the plain ones',
    )


def _incomplete(path: Path, got: object) -> InputError:
    return InputError(
        'the table is not a complete JSON list',
        where=path,
        got=got,
        fix='extract the metadata archive again: the file was probably cut off',
    )
