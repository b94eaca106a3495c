# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolution by spconv 2 (Yan et al., github.com/traveller59/spconv), driven by our maps.

Its operations take the tables as arguments, so voxels keep our order and weights ours: no search,
no sorting of coordinates, no copy in another order. On CUDA it is spconv's implicit GEMM, what
its own layers use there. On a CPU, for tests, it is its gather and scatter; that one has a race
between threads: set torch to one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from spconv import constants
from spconv.core import ConvAlgo
from spconv.pytorch import ops
from torch import Tensor
from torch.autograd.function import once_differentiable

from reldistill_ros.backends.device_maps import DeviceMaps

ALL_OFFSETS = [np.array([0xFFFFFFFF], np.uint32)]
HOLE = -1


class Table:
    """One table and its reverse as spconv takes them.

    Args:
        forward: (K, N) int32 rows of the source, M for a hole.
        reverse: (K, M) int32, for each source row where it goes, N for a hole.
        submanifold: whether both sides are the same voxels.
    """

    def __init__(self, forward: Tensor, reverse: Tensor, submanifold: bool) -> None:
        self.submanifold = submanifold
        self.num_in, self.num_out = reverse.shape[1], forward.shape[1]
        if forward.is_cuda:
            self.pairs = _with_holes(forward, self.num_in), _with_holes(reverse, self.num_out)
            self.masks = _sorted_masks(self.pairs[0])
            self.reverse_masks = ([], []) if submanifold else _sorted_masks(self.pairs[1])
        else:
            self.indices, self.counts = _compact(forward, self.num_in)


class SpconvMaps:
    """See `SparseMaps`; float32 or float16, the latter also where autocast says so.

    Args:
        maps: kernel maps on the device that the features are on.
        tf32: whether float32 may be rounded to TF32 before it is multiplied.
    """

    def __init__(self, maps: DeviceMaps, tf32: bool = False) -> None:
        constants.SPCONV_ALLOW_TF32 = tf32
        self._same = [Table(m.submanifold, m.submanifold.flip(0), True) for m in maps]
        self._down = [Table(level.down, level.up, False) for level in maps[:-1]]
        self._up = [Table(level.up, level.down, False) for level in maps[:-1]]

    def submanifold(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return _convolve(x, kernel, self._same[level])

    def down(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return _convolve(x, kernel, self._down[level])

    def up(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return _convolve(x, kernel, self._up[level])

    def linear(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return x @ kernel


def _with_holes(table: Tensor, num: int) -> Tensor:
    return torch.where(table < num, table, HOLE).contiguous()


def _sorted_masks(table: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Bits of the offsets (N, 1) that each row has, sorted, and the order (N,) that sorts them."""
    bit = torch.arange(len(table), device=table.device)[:, None]
    mask, order = torch.sort(((table >= 0).int() << bit).sum(dim=0, dtype=torch.int32))
    return [mask[:, None].contiguous()], [order.int()]


def _compact(table: Tensor, num_in: int) -> tuple[Tensor, Tensor]:
    """Pairs (2, K, most) of rows in and out, the existing ones first, and their counts (K,)."""
    live = table < num_in
    counts = live.sum(dim=1)
    pairs = table.new_full((2, len(table), table.shape[1]), HOLE)
    offset, target = live.nonzero(as_tuple=True)
    place = torch.arange(len(offset)) - (counts.cumsum(0) - counts)[offset]
    pairs[0, offset, place] = table[offset, target]
    pairs[1, offset, place] = target.int()
    return pairs, counts.int()


def _convolve(x: Tensor, kernel: Tensor, table: Table) -> Tensor:
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    expected = table.num_in, kernel.shape[1]
    if x.shape != expected:  # spconv reads by address
        raise ValueError(f'expected x of shape {expected}, got {tuple(x.shape)}')
    weights = kernel.to(dtype).permute(2, 0, 1).contiguous()  # (C_out, K, C_in)
    function = _ImplicitGemm if x.is_cuda else _GatherScatter
    result: Tensor = function.apply(x.to(dtype).contiguous(), weights, table)  # type: ignore[no-untyped-call]
    return result


class _ImplicitGemm(torch.autograd.Function):
    """Not spconv's own function: under autocast that one rounds to float16, whatever was said."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, table: Table) -> Tensor:
        out, ctx.mask_output, ctx.mask_width = ops.implicit_gemm(
            x, weights, table.pairs[0], *table.masks, table.num_out, ALL_OFFSETS, True,
            table.submanifold,
        )  # fmt: skip
        ctx.save_for_backward(x, weights)
        ctx.table = table
        result: Tensor = out
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights = ctx.saved_tensors
        table: Table = ctx.table
        masks, orders = table.masks
        reverse_masks, reverse_orders = table.reverse_masks
        grad_x, grad_weights = ops.implicit_gemm_backward(
            x, weights, grad.contiguous(), *table.pairs, masks, reverse_masks, orders,
            reverse_orders, ctx.mask_output, ALL_OFFSETS, ctx.mask_width, table.submanifold,
        )  # fmt: skip
        return grad_x, grad_weights.view_as(weights), None


class _GatherScatter(torch.autograd.Function):
    """On the CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, table: Table) -> Tensor:
        ctx.save_for_backward(x, weights)
        ctx.table = table
        out: Tensor = ops.indice_conv(
            x, weights, table.indices, table.counts, table.num_out, False, table.submanifold,
            ConvAlgo.Native,
        )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights = ctx.saved_tensors
        table: Table = ctx.table
        stream, ops.get_current_stream = ops.get_current_stream, lambda: 0  # it asks CUDA's
        try:
            grad_x, grad_weights = ops.indice_conv_backward(
                x, weights, grad.contiguous(), table.indices, table.counts, False,
                table.submanifold, ConvAlgo.Native,
            )  # fmt: skip
        finally:
            ops.get_current_stream = stream
        return grad_x, grad_weights.view_as(weights), None
