# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolution as three Triton kernels: gather, multiply and scatter in one.

No program writes where another one writes, so there are no atomics, and results are the same at
every run. `triton_maps` prepares what they walk along.
"""

# Triton reads annotations itself, and knows none but constexpr.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


# the numbers of voxels change at every step: no kernel of its own for those that 16 divides
@triton.jit(do_not_specialize=['num_in', 'num_out'])
def convolve_tiles(
    x,
    kernel,
    out,
    table,
    order,
    tile_offsets,
    tile_counts,
    num_in,
    num_out,
    num_padded,
    NUM_OFFSETS: tl.constexpr,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """`out[order[r]] = sum_k x[table[k, r]] kernel[k]` of ROWS sorted rows and WIDTH channels.

    The walk over the offsets that any row of the tile needs and, within each, over DEPTH input
    channels at a time is one loop without a branch, so that the compiler can fetch ahead.
    """
    WIDE: tl.constexpr = (C_OUT + WIDTH - 1) // WIDTH
    DEEP: tl.constexpr = (C_IN + DEPTH - 1) // DEPTH
    tile = tl.program_id(0) // WIDE  # neighbouring programs gather the same rows
    rows = tile * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(0) % WIDE * WIDTH + tl.arange(0, WIDTH)
    inside = columns < C_OUT
    sums = tl.full((ROWS, WIDTH), 0.0, tl.float32)
    for step in range(tl.load(tile_counts + tile) * DEEP):
        k = tl.load(tile_offsets + tile * NUM_OFFSETS + step // DEEP)
        channels = step % DEEP * DEPTH + tl.arange(0, DEPTH)
        source = tl.load(table + k * num_padded + rows)
        live = (source < num_in)[:, None]
        known = inside[None, :]
        if C_IN % DEPTH != 0:
            live = live & (channels < C_IN)[None, :]
            known = known & (channels < C_IN)[:, None]
        gathered = tl.load(
            x + source.to(tl.int64)[:, None] * C_IN + channels[None, :], mask=live, other=0.0
        )
        weights = tl.load(
            kernel + (k * C_IN + channels)[:, None] * C_OUT + columns[None, :],
            mask=known,
            other=0.0,
        )
        sums = tl.dot(gathered, weights, sums, input_precision=PRECISION)
    target = tl.load(order + rows).to(tl.int64)
    tl.store(
        out + target[:, None] * C_OUT + columns[None, :],
        sums.to(out.dtype.element_ty),
        mask=(rows < num_out)[:, None] & inside[None, :],
    )


@triton.jit
def multiply_chunks(
    x,
    grad,
    partial,
    pairs_in,
    pairs_out,
    chunk_starts,
    chunk_ends,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    PAIRS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """`partial[c] = sum_p x[in_p]^T grad[out_p]` over the pairs p of chunk c, all of one offset."""
    WIDE: tl.constexpr = (C_OUT + WIDTH - 1) // WIDTH
    HIGH: tl.constexpr = (C_IN + HEIGHT - 1) // HEIGHT
    chunk = tl.program_id(0) // (WIDE * HIGH)
    block = tl.program_id(0) % (WIDE * HIGH)
    channels = block // WIDE * HEIGHT + tl.arange(0, HEIGHT)
    columns = block % WIDE * WIDTH + tl.arange(0, WIDTH)
    start = tl.load(chunk_starts + chunk)
    end = tl.load(chunk_ends + chunk)
    sums = tl.full((HEIGHT, WIDTH), 0.0, tl.float32)
    for first in range(start, end, PAIRS):
        pairs = first + tl.arange(0, PAIRS)
        live = pairs < end
        source = tl.load(pairs_in + pairs, mask=live, other=0).to(tl.int64)
        target = tl.load(pairs_out + pairs, mask=live, other=0).to(tl.int64)
        gathered = tl.load(
            x + source[None, :] * C_IN + channels[:, None],
            mask=live[None, :] & (channels < C_IN)[:, None],
            other=0.0,
        )
        wanted = tl.load(
            grad + target[:, None] * C_OUT + columns[None, :],
            mask=live[:, None] & (columns < C_OUT)[None, :],
            other=0.0,
        )
        sums = tl.dot(gathered, wanted, sums, input_precision=PRECISION)
    tl.store(
        partial + (chunk * C_IN + channels[:, None]) * C_OUT + columns[None, :],
        sums,
        mask=(channels < C_IN)[:, None] & (columns < C_OUT)[None, :],
    )


@triton.jit
def add_chunks(partial, gradient, first_chunks, size, BLOCK: tl.constexpr):
    """`gradient[k] = sum of partial[c]` over the chunks c of offset k, in their order."""
    k = tl.program_id(0)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    sums = tl.full((BLOCK,), 0.0, tl.float32)
    for chunk in range(tl.load(first_chunks + k), tl.load(first_chunks + k + 1)):
        sums += tl.load(partial + chunk * size + places, mask=inside, other=0.0)
    tl.store(gradient + k * size + places, sums, mask=inside)
