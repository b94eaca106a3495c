# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writes the pickles of a pandas older than 1.1, opcode by opcode, for tests without pandas."""

from __future__ import annotations

import gzip
import pickle

import numpy as np


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def value(content):
    return pickle.dumps(content, protocol=3)[2:-1]  # without the header and the stop


def many(opening, *parts, closing):
    return opening + b''.join(parts) + closing


def call(function, *arguments):
    return function + many(b'(', *arguments, closing=b't') + b'R'


def array(content, kind=None):
    content = np.asarray(content)
    kind = kind or content.dtype.str[1:]
    dtype_state = value((3, '<', None, None, None, -1, -1, 0))
    dtype = call(name('numpy', 'dtype'), value(kind), value(0), value(1)) + dtype_state + b'b'
    empty = call(
        name('numpy.core.multiarray', '_reconstruct'),
        name('numpy', 'ndarray'),
        value((0,)),
        value(b'b'),
    )
    data = value(content.tolist() if kind == 'O8' else content.tobytes())
    state = many(b'(', value(1), value(content.shape), dtype, value(False), data, closing=b't')
    return empty + state + b'b'


def index(names):
    attributes = many(
        b'}(', value('data'), array(names, 'O8'), value('name'), value(None), closing=b'u'
    )
    kind = name('pandas.core.indexes.base', 'Index')
    return call(name('pandas.core.indexes.base', '_new_Index'), kind, attributes)


def block(rows, first):
    places = (value(first), value(first + len(rows)), value(1))
    return many(
        b'}(',
        value('values'),
        array(rows),
        value('mgr_locs'),
        call(name('builtins', 'slice'), *places),
        closing=b'u',
    )


def frame(blocks):
    """Pickle of a DataFrame of blocks, each a dict of columns with one type."""
    names = [column for columns in blocks for column in columns]
    first, parts = 0, []
    for columns in blocks:
        parts.append(block(np.array(list(columns.values())), first))
        first += len(columns)
    content = many(
        b'}(',
        value('axes'),
        many(b'](', index(names), closing=b'e'),
        value('blocks'),
        many(b'](', *parts, closing=b'e'),
        closing=b'u',
    )
    versions = many(b'}(', value('0.14.1'), content, closing=b'u')
    state = many(b'(', value([]), value([]), value([]), versions, closing=b't')
    manager = name('pandas.core.internals.managers', 'BlockManager') + b')\x81' + state + b'b'
    state = many(b'}(', value('_data'), manager, value('_typ'), value('dataframe'), closing=b'u')
    return b'\x80\x03' + name('pandas.core.frame', 'DataFrame') + b')\x81' + state + b'b.'


def write_table(path, *blocks):
    path.write_bytes(gzip.compress(frame(blocks), compresslevel=1))
