# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The fused engine under torch's autograd: training on a CPU with the kernels of the robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from reldistill_ros.backends import micro_kernels
from reldistill_ros.backends.fused_steps import (
    SMALLEST_BLOCK,
    ThreadTeam,
    block_width,
    convolve,
    thread_team,
)
from reldistill_ros.backends.micro_kernels import (
    BLOCK_ROWS,
    WORD,
    add_outer_products,
    fetch_and_add,
)
from reldistill_ros.backends.tile_pairs import TilePairs, level_pairs
from reldistill_ros.core.compiled import compiled
from reldistill_ros.core.kernel_maps import KernelMaps

LARGEST_SHARE = 128  # input channels of the kernels' gradient that stay in the cache together
REVERSE = {'submanifold': 'submanifold', 'down': 'up', 'up': 'down'}


class FusedMaps:
    """See `SparseMaps`; float32 on the CPU, with the number of threads that torch has.

    Args:
        maps: kernel maps of a sweep or of a concatenated batch.
    """

    def __init__(self, maps: KernelMaps) -> None:
        self._team = thread_team(torch.get_num_threads())
        self._pairs = level_pairs(maps)

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
        return self._convolve('linear', level, x, kernel[None])

    def _convolve(self, kind: str, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        pairs = self._pairs[kind, level]
        reverse = self._pairs[REVERSE.get(kind, kind), level]
        # addresses follow: what does not fit would be read from somewhere else
        expected = (reverse.num_rows, kernel.shape[1]), (pairs.num_offsets, *kernel.shape[1:])
        if (x.shape, kernel.shape) != expected or {x.dtype, kernel.dtype} != {torch.float32}:
            raise ValueError(
                f'expected float32 rows and kernel of shapes {expected}, '
                f'got {x.dtype} {tuple(x.shape)} and {kernel.dtype} {tuple(kernel.shape)}'
            )
        arguments = (self._team, x, kernel, pairs, reverse)
        result: Tensor = _FusedConvolution.apply(*arguments)  # type: ignore[no-untyped-call]
        return result


class _FusedConvolution(torch.autograd.Function):
    """`out[i] = sum_k x[table[k, i]] W[k]` and its two gradients, both of the same form."""

    @staticmethod
    def forward(
        ctx: Any, team: ThreadTeam, x: Tensor, kernel: Tensor, pairs: TilePairs, reverse: TilePairs
    ) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.team, ctx.pairs, ctx.reverse = team, pairs, reverse
        return _convolve(team, x, kernel, pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        grad_x = grad_kernel = None
        if ctx.needs_input_grad[1]:
            # Seen from the input, offset k of a submanifold table is offset 26 - k.
            mirrored = kernel.flip(0) if ctx.pairs is ctx.reverse else kernel
            grad_x = _convolve(ctx.team, grad, mirrored.transpose(1, 2), ctx.reverse)
        if ctx.needs_input_grad[2]:
            grad_kernel = _kernel_gradient(ctx.team, x, grad, ctx.pairs)
        return None, grad_x, grad_kernel, None, None


def _convolve(team: ThreadTeam, x: Tensor, kernel: Tensor, pairs: TilePairs) -> Tensor:
    """Take x (U, C_in) along kernel (K, C_in, C_out) to (V, C_out)."""
    c_out = kernel.shape[2]
    kernel = _fill_block(kernel.detach())
    num_offsets, c_in, full = kernel.shape
    width = block_width(full)
    packed = kernel.reshape(num_offsets, c_in, full // width, width).transpose(1, 2).contiguous()
    bias = np.zeros(full, np.float32)
    rows = x.detach().contiguous().numpy()
    return torch.from_numpy(convolve(team, rows, packed.numpy(), bias, pairs)[:, :c_out])


def _fill_block(channels: Tensor) -> Tensor:
    """Append zero channels until the last dimension is made of whole blocks."""
    return F.pad(channels, (0, -channels.shape[-1] % SMALLEST_BLOCK))


def _kernel_gradient(team: ThreadTeam, x: Tensor, grad: Tensor, pairs: TilePairs) -> Tensor:
    """Take x (U, C_in) and grad (V, C_out) to (K, C_in, C_out)."""
    c_out = grad.shape[1]
    x, grad = x.detach().contiguous(), _fill_block(grad).contiguous()
    gradient = x.new_zeros(pairs.num_offsets, x.shape[1], grad.shape[1])
    width = block_width(grad.shape[1])
    rounds = -(-x.shape[1] // (LARGEST_SHARE * team.num_threads))
    team.call(
        _add_kernel_gradient,
        (x.numpy(), grad.numpy(), gradient.numpy()),
        (pairs.rows_in, pairs.rows_out, pairs.starts, pairs.tile_rows),
        (width, BLOCK_ROWS[width], -(-x.shape[1] // (rounds * team.num_threads))),
        np.zeros(1, np.int64),
    )
    return gradient[:, :, :c_out]


@compiled(micro_kernels)
def _add_kernel_gradient(
    tensors: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    pairs: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int],
    block: tuple[int, int, int],
    claimed: NDArray[np.int64],
    memory: NDArray[np.float32],  # not needed here
) -> None:
    """Claim and compute shares: some input channels by a block of output ones, at all offsets."""
    c_in, c_out = tensors[2].shape[1:]
    width, _, share = block
    num_blocks = c_out // width
    num_shares = (c_in + share - 1) // share
    item = fetch_and_add(claimed.ctypes.data)
    while item < num_blocks * num_shares:
        first = item // num_blocks * share
        channels = (first, min(first + share, c_in))
        _add_share(tensors, pairs, block, channels, item % num_blocks * width)
        item = fetch_and_add(claimed.ctypes.data)


@compiled(micro_kernels)
def _add_share(
    tensors: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    pairs: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int],
    block: tuple[int, int, int],
    channels: tuple[int, int],
    column: int,
) -> None:
    """Tile after tile, so that its rows stay in the cache for all offsets."""
    x, grad, gradient = tensors
    rows_in, rows_out, starts, tile_rows = pairs
    width, most, _ = block
    num_offsets, c_in, c_out = gradient.shape
    for tile in range(len(starts)):
        right = grad.ctypes.data + WORD * (tile * tile_rows * c_out + column)
        for k in range(num_offsets):
            start = np.int64(starts[tile, k])
            count = starts[tile, k + 1] - start
            if count == 0:
                continue
            for channel in range(channels[0], channels[1], most):
                add_outer_products(
                    width, min(most, channels[1] - channel),
                    x.ctypes.data + WORD * channel, WORD * c_in, rows_in.ctypes.data + WORD * start,
                    right, WORD * c_out, rows_out.ctypes.data + WORD * start, count,
                    gradient.ctypes.data + WORD * ((k * c_in + channel) * c_out + column),
                    WORD * c_out,
                )  # fmt: skip
