# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The fused sparse convolution: one operation for every layer of the network.

    target[i] = relu(bias + residual[i] + sum_k source[table[k, i]] W[k])

is computed tile by tile. For each offset k the rows of the tile that have a neighbour go through
a micro-kernel that reads the source rows where they lie; the tile itself stays in the cache until
all offsets are added. A network is a list of such steps. Every thread walks the whole list and
claims tiles; a row's sum does not depend on the tile or the thread, so that results are the same
with any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import overload
from numpy.typing import NDArray

from reldistill_ros.backends import micro_kernels
from reldistill_ros.backends.micro_kernels import (
    WORD,
    as_pointer,
    atomic_load,
    fetch_and_add,
    multiply_rows,
)
from reldistill_ros.core.compiled import compiled

# One step. Addresses are in bytes, strides in elements of the activations. `depth` counts input
# channels, or pairs of them in bfloat16; `block` is the width of a block of output channels and
# `block_rows` its most rows; `float_target` has a bfloat16 step write float32.
STEP = np.dtype(
    [
        (name, np.int64)
        for name in (
            *('source', 'source_stride', 'target', 'target_stride', 'residual', 'residual_stride'),
            *('weights', 'bias', 'rows_in', 'rows_out', 'starts'),
            *('num_rows', 'num_offsets', 'tile_rows', 'depth', 'c_out', 'block', 'block_rows'),
            *('relu', 'float_target'),
        )
    ]
)
HALF_WORD = 2  # bytes of a bfloat16
HALF = 0x7FFF  # rounds to the nearest bfloat16, ties to even
SPINS = 2000  # before a waiting thread lets others have the core

kernel = compiled(micro_kernels)
sched_yield = types.ExternalFunction('sched_yield', types.int32())


@kernel
def run_steps(
    element: NDArray[Any], steps: NDArray[Any], progress: NDArray[np.int64], memory: NDArray[Any]
) -> None:
    """Claim and compute tiles of each step; go on when all tiles of the step are done.

    Args:
        element: empty, of the activations' type: float32, or uint16 that holds bfloat16.
        steps: (S,) `STEP`.
        progress: (S, 2) zeros, shared by all threads: tiles that are claimed, and done.
        memory: of this thread, for a tile.
    """
    for number in range(len(steps)):
        step = steps[number]
        claimed = progress[number, :1].ctypes.data
        done = progress[number, 1:].ctypes.data
        num_tiles = (step.num_rows + step.tile_rows - 1) // step.tile_rows
        tile = fetch_and_add(claimed)
        while tile < num_tiles:
            _run_tile(element, step, tile, memory)
            fetch_and_add(done)
            tile = fetch_and_add(claimed)
        waited = 0
        while atomic_load(done) < num_tiles:
            waited += 1
            if waited > SPINS:
                sched_yield()


@kernel
def _run_tile(element: NDArray[Any], step: Any, number: int, memory: NDArray[Any]) -> None:
    first = number * step.tile_rows
    num_rows = min(step.tile_rows, step.num_rows - first)
    tile = memory[: num_rows * step.c_out].reshape(num_rows, step.c_out)
    _start_tile(element, step, first, tile)
    starts = carray(
        as_pointer(step.starts + WORD * number * (step.num_offsets + 1)),
        (step.num_offsets + 1,),
        np.int32,
    )
    for k in range(step.num_offsets):
        if starts[k] < starts[k + 1]:
            _add_offset(element, step, k, np.int64(starts[k]), np.int64(starts[k + 1]), tile)
    if step.relu:
        _clip_tile(tile)
    if step.float_target:
        _finish_float_tile(step, first, tile)
    else:
        _finish_tile(element, step, first, tile)


@kernel
def _add_offset(
    element: NDArray[Any], step: Any, k: int, start: np.int64, stop: np.int64, tile: NDArray[Any]
) -> None:
    """Add `source[rows_in] W[k]` to the tile's `rows_out`, block of channels by block.

    The rows are dealt out evenly, so that no call is left with one or two of them.
    """
    num_calls = (stop - start + step.block_rows - 1) // step.block_rows
    for column in range(0, step.c_out, step.block):
        weights = step.weights + WORD * step.depth * (k * step.c_out + column)
        pair = start
        for call in range(num_calls):
            left = num_calls - call
            rows = (stop - pair + left - 1) // left
            multiply_rows(
                element, step.block, rows,
                step.source, step.source_stride * element.itemsize, step.rows_in + WORD * pair,
                weights, step.depth,
                tile.ctypes.data + WORD * column, WORD * step.c_out, step.rows_out + WORD * pair,
            )  # fmt: skip
            pair += rows


@kernel
def _float_row(address: int, columns: int) -> NDArray[np.float32]:
    return carray(as_pointer(address), (columns,), np.float32)


@kernel
def _bfloat16_row(address: int, columns: int) -> NDArray[np.uint16]:
    return carray(as_pointer(address), (columns,), np.uint16)


# The loops over channels vectorise because nothing in them is read from the step.


@kernel
def _start_float_tile(step: Any, first: int, tile: NDArray[np.float32]) -> None:
    num_rows, c_out = tile.shape
    bias = _float_row(step.bias, c_out)
    for i in range(num_rows):
        if step.residual:
            row = _float_row(step.residual + WORD * (first + i) * step.residual_stride, c_out)
            for c in range(c_out):
                tile[i, c] = bias[c] + row[c]
        else:
            for c in range(c_out):
                tile[i, c] = bias[c]


@kernel
def _start_bfloat16_tile(step: Any, first: int, tile: NDArray[np.float32]) -> None:
    num_rows, c_out = tile.shape
    bias = _float_row(step.bias, c_out)
    bits = tile.view(np.uint32)
    for i in range(num_rows):
        if step.residual:
            row = _bfloat16_row(
                step.residual + HALF_WORD * (first + i) * step.residual_stride, c_out
            )
            for c in range(c_out):
                bits[i, c] = np.uint32(row[c]) << np.uint32(16)
            for c in range(c_out):
                tile[i, c] += bias[c]
        else:
            for c in range(c_out):
                tile[i, c] = bias[c]


@kernel
def _clip_tile(tile: NDArray[np.float32]) -> None:
    num_rows, c_out = tile.shape
    for i in range(num_rows):
        for c in range(c_out):
            tile[i, c] = max(tile[i, c], np.float32(0))


@kernel
def _finish_float_tile(step: Any, first: int, tile: NDArray[np.float32]) -> None:
    num_rows, c_out = tile.shape
    for i in range(num_rows):
        row = _float_row(step.target + WORD * (first + i) * step.target_stride, c_out)
        for c in range(c_out):
            row[c] = tile[i, c]


@kernel
def _finish_bfloat16_tile(step: Any, first: int, tile: NDArray[np.float32]) -> None:
    num_rows, c_out = tile.shape
    bits = tile.view(np.uint32)
    for i in range(num_rows):
        row = _bfloat16_row(step.target + HALF_WORD * (first + i) * step.target_stride, c_out)
        for c in range(c_out):
            value = bits[i, c]
            even = (value >> np.uint32(16)) & np.uint32(1)
            row[c] = np.uint16((value + np.uint32(HALF) + even) >> np.uint32(16))


def _start_tile(element: NDArray[Any], step: Any, first: int, tile: NDArray[Any]) -> None:
    """Fill a tile with bias and residual."""


def _finish_tile(element: NDArray[Any], step: Any, first: int, tile: NDArray[Any]) -> None:
    """Write a tile to the target."""


# numba compares the names of overloads with the lambdas': no annotations here.
@overload(_start_tile)
def _start_tile_of(element, step, first, tile):  # type: ignore[no-untyped-def]
    start = _start_bfloat16_tile if element.dtype == types.uint16 else _start_float_tile
    return lambda element, step, first, tile: start(step, first, tile)


@overload(_finish_tile)
def _finish_tile_of(element, step, first, tile):  # type: ignore[no-untyped-def]
    finish = _finish_bfloat16_tile if element.dtype == types.uint16 else _finish_float_tile
    return lambda element, step, first, tile: finish(step, first, tile)
