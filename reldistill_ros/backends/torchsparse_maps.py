# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolution by TorchSparse++ 2.1 (Tang et al., MICRO 2023), driven by our maps; CUDA only.

Its convolution takes the map as a dictionary of tables, which `torchsparse.nn.functional` fills
from hashed coordinates. It is filled from our tables instead: voxels keep our order, no voxel at
an even border loses its parent (as with torchsparse's default map), and kernels need no copy, for
ours are in torchsparse's order.
"""

from __future__ import annotations

from typing import Any

import torch
import torchsparse
import torchsparse.backend
import torchsparse.backends
from torch import Tensor
from torchsparse.nn.functional.conv.func.implicit_gemm import ImplicitGEMMConvolutionFuntion

from reldistill_ros.backends.device_maps import DeviceMaps

TILE, GRADIENT_TILE = 128, 64  # rows; cta_M and cta_M_wgrad of its kernels
CONFIG = {'ifsort': True}  # rows with the same neighbours share tiles
BACKWARD_SPLITS = 3  # parts of the offsets that are sorted apart; its default
HOLE = -1


class TorchsparseMaps:
    """See `SparseMaps`; float32 or float16, the latter also where autocast says so.

    Args:
        maps: kernel maps on the CUDA device that the features are on.
        tf32: whether float32 may be rounded to TF32 before it is multiplied.
    """

    def __init__(self, maps: DeviceMaps, tf32: bool = False) -> None:
        torchsparse.backends.allow_tf32 = tf32
        # seen from the input, offset k of a submanifold table is offset 26 - k
        self._same = [_kernel_map(m.submanifold, m.submanifold.flip(0)) for m in maps]
        self._down = [_kernel_map(level.down, level.up) for level in maps[:-1]]
        self._up = [_kernel_map(level.up, level.down) for level in maps[:-1]]

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


def _kernel_map(forward: Tensor, reverse: Tensor) -> dict[str, Any]:
    """What `build_kernel_map` of torchsparse returns for training, from two tables (K, N), (K, M).

    The names are torchsparse's.
    """
    num_in, num_out = reverse.shape[1], forward.shape[1]
    out_in_map = _padded(forward, num_in)
    mask, order, sorted_map = _sorted_map(out_in_map, 1, num_out)
    back_map = _padded(reverse, num_out)
    back_mask, back_order, sorted_back_map = _sorted_map(back_map, BACKWARD_SPLITS, num_in)
    reduce = torchsparse.backend.reduce_bitmask_cuda
    return {
        'sizes': (num_in, num_out),
        'out_in_map': out_in_map,
        'reorder_out_in_map': sorted_map,
        'reduced_sorted_mask': reduce(mask, TILE),
        'reorder_loc': order,
        'out_in_map_bwd': back_map,
        'reorder_out_in_map_bwd': sorted_back_map,
        'reduced_sorted_mask_bwd_wgrad': reduce(back_mask, GRADIENT_TILE),
        'reduced_sorted_mask_bwd_dgrad': reduce(back_mask, TILE),
        'reorder_loc_bwd': back_order,
    }


def _padded(table: Tensor, num: int) -> Tensor:
    """(K, N) with `num` for a hole -> whole tiles of (N, K) with -1 for a hole."""
    rows = torch.where(table < num, table, HOLE).T
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % TILE), value=HOLE).contiguous()


def _sorted_map(out_in_map: Tensor, splits: int, num: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted masks, the order that sorts them, and the map in this order."""
    masks = torchsparse.backend.derive_bitmask_from_out_in_map(out_in_map, splits, num)
    masks, order = torch.sort(masks, descending=True)
    order = order.int()
    return masks, order, torchsparse.backend.reorder_out_in_map_cuda(out_in_map, order)


def _convolve(x: Tensor, kernel: Tensor, kernel_map: dict[str, Any]) -> Tensor:
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    expected = kernel_map['sizes'][0], kernel.shape[1]
    if x.shape != expected:  # torchsparse reads by address
        raise ValueError(f'expected x of shape {expected}, got {tuple(x.shape)}')
    result: Tensor = ImplicitGEMMConvolutionFuntion.apply(
        x.to(dtype), kernel.to(dtype), kernel_map, CONFIG
    )
    return result
