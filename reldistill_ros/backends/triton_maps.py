# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolution on CUDA with our own Triton kernels: no build step, one path for training.

Implicit GEMM: every program computes a tile of output rows from the rows that they gather, and
walks only the kernel offsets that at least one row of its tile has (`sorted_tables`). A kernel's
gradient is summed over chunks of its pairs, and these sums in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reldistill_ros.backends.device_maps import DeviceMaps
from reldistill_ros.backends.sorted_tables import (
    OffsetPairs,
    SortedTable,
    find_pairs,
    sort_table,
)
from reldistill_ros.backends.triton_kernels import add_chunks, convolve_tiles, multiply_chunks

MOST_CHUNKS = 512  # of the pairs of a kernel's gradient, where one block of channels holds it
SMALLEST_CHUNK = 256  # pairs
SUM_BLOCK = 256  # places of a kernel's gradient that one program adds up
REVERSE = {'submanifold': 'submanifold', 'down': 'up', 'up': 'down'}


class TritonMaps:
    """See `SparseMaps`; in the precision of autocast or of its input, sums in float32.

    Args:
        maps: kernel maps on the device that the features are on.
        tf32: whether float32 may be rounded to TF32 before it is multiplied.
    """

    def __init__(self, maps: DeviceMaps, tf32: bool = False) -> None:
        self._precision = 'tf32' if tf32 else 'ieee'
        self._tables: dict[tuple[str, int], SortedTable] = {}
        self._pairs: dict[tuple[str, int], OffsetPairs] = {}
        for number, level in enumerate(maps):
            fine, coarse = level.num_voxels, level.num_coarser
            self._tables['submanifold', number] = sort_table(level.submanifold, fine)
            self._pairs['submanifold', number] = find_pairs(level.submanifold, fine)
            if number < len(maps) - 1:
                self._tables['down', number] = sort_table(level.down, fine)
                self._tables['up', number] = sort_table(level.up, coarse)
                self._pairs['down', number] = find_pairs(level.down, fine)
                self._pairs['up', number] = self._pairs['down', number].reversed()

    def submanifold(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return self._convolve('submanifold', level, x, kernel)

    def down(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return self._convolve('down', level, x, kernel)

    def up(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return self._convolve('up', level, x, kernel)

    def linear(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return x @ kernel

    def _convolve(self, kind: str, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        where = kind, level
        tables = self._tables[where], self._tables[REVERSE[kind], level]
        device = x.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else x.dtype
        expected = (tables[0].num_in, kernel.shape[1]), len(tables[0].table)
        if (x.shape, len(kernel)) != expected:  # the kernels read by address
            raise ValueError(f'expected x and offsets {expected}, got {x.shape}, {len(kernel)}')
        result: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            x.to(dtype), kernel, tables, self._pairs[where], self._precision
        )
        return result


class _Convolution(torch.autograd.Function):
    """`out[i] = sum_k x[table[k, i]] W[k]` and its two gradients.

    The kernel comes as it is stored, so that its gradient is not rounded to the precision of x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        tables: tuple[SortedTable, SortedTable],
        pairs: OffsetPairs,
        precision: str,
    ) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.tables, ctx.pairs, ctx.precision = tables, pairs, precision
        return convolve(x, kernel.to(x.dtype), tables[0], precision)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous()
        grad_x = grad_kernel = None
        if ctx.needs_input_grad[0]:
            table, reverse = ctx.tables
            # Seen from the input, offset k of a submanifold table is offset 26 - k.
            mirrored = kernel.flip(0) if table is reverse else kernel
            transposed = mirrored.transpose(1, 2).to(x.dtype)
            grad_x = convolve(grad, transposed, reverse, ctx.precision)
        if ctx.needs_input_grad[1]:
            gradient = kernel_gradient(x, grad, ctx.pairs, ctx.precision)
            grad_kernel = gradient.to(kernel.dtype)
        return grad_x, grad_kernel, None, None, None


@dataclass(frozen=True)
class Tile:
    """What one program computes, and how it is compiled.

    Attributes:
        height: input channels of a block of a kernel's gradient; rows, in a convolution, are
            those of the sorted table.
        width: output channels.
        depth: input channels, or pairs in a kernel's gradient, that are multiplied at a time.
        num_warps: of 32 threads.
        num_stages: of the loop that are under way at the same time.
    """

    height: int
    width: int
    depth: int
    num_warps: int
    num_stages: int = 3


def convolution_tile(rows: int, c_in: int, c_out: int) -> Tile:
    """Depth without a rest where there is one: a rest is multiplied as zeros."""
    width = _block(c_out, 128)
    depth = next((d for d in (64, 32, 16) if c_in % d == 0), _block(c_in, 64))
    return Tile(rows, width, depth, _num_warps(rows * width))


def gradient_tile(c_in: int, c_out: int, dtype: torch.dtype) -> Tile:
    """Of a kernel's gradient."""
    height, width = _block(c_in, 128), _block(c_out, 128)
    pairs = 32 if dtype == torch.float32 else 64
    return Tile(height, width, pairs, _num_warps(height * width))


def convolve(
    x: Tensor, kernel: Tensor, table: SortedTable, precision: str, tile: Tile | None = None
) -> Tensor:
    """Take x (M, C_in) along kernel (K, C_in, C_out) to (N, C_out).

    Args:
        x: rows.
        kernel: of the same type.
        table: of the rows.
        precision: of products of float32, `ieee` or `tf32`.
        tile: None for `convolution_tile`.
    """
    x, kernel = x.contiguous(), kernel.contiguous()
    num_offsets, c_in, c_out = kernel.shape
    out = x.new_empty(table.num_out, c_out)
    tile = tile or convolution_tile(table.rows, c_in, c_out)
    num_programs = len(table.tile_counts) * -(-c_out // tile.width)
    if num_programs:
        convolve_tiles[num_programs,](
            x, kernel, out, table.table, table.order, table.tile_offsets, table.tile_counts,
            table.num_in, table.num_out, table.table.shape[1],
            NUM_OFFSETS=num_offsets, C_IN=c_in, C_OUT=c_out, ROWS=table.rows, DEPTH=tile.depth,
            WIDTH=tile.width, PRECISION=precision, num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )  # fmt: skip
    return out


def kernel_gradient(
    x: Tensor, grad: Tensor, pairs: OffsetPairs, precision: str, tile: Tile | None = None
) -> Tensor:
    """Take x (M, C_in) and grad (N, C_out) to (K, C_in, C_out) in float32; see `convolve`."""
    x, grad = x.contiguous(), grad.contiguous()
    c_in, c_out, num_offsets = x.shape[1], grad.shape[1], len(pairs.starts) - 1
    tile = tile or gradient_tile(c_in, c_out, x.dtype)
    num_blocks = -(-c_in // tile.height) * -(-c_out // tile.width)
    share = -(-len(pairs.source) * num_blocks // MOST_CHUNKS)
    starts, ends, first = pairs.chunks(max(-(-share // 64) * 64, SMALLEST_CHUNK))
    partial = x.new_empty(len(starts), c_in, c_out, dtype=torch.float32)
    multiply_chunks[len(starts) * num_blocks,](
        x, grad, partial, pairs.source, pairs.target, starts, ends,
        C_IN=c_in, C_OUT=c_out, HEIGHT=tile.height, WIDTH=tile.width, PAIRS=tile.depth,
        PRECISION=precision, num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    gradient = x.new_empty(num_offsets, c_in, c_out, dtype=torch.float32)
    grid = num_offsets, -(-c_in * c_out // SUM_BLOCK)
    add_chunks[grid](partial, gradient, first, c_in * c_out, BLOCK=SUM_BLOCK)
    return gradient


def _block(channels: int, largest: int) -> int:
    """Smallest power of two that holds the channels, within what a matrix unit takes."""
    return min(max(1 << (channels - 1).bit_length(), 16), largest)


def _num_warps(sums: int) -> int:
    return 8 if sums >= 128 * 128 else 4
