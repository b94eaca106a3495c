# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sparse convolution in plain torch: pairs for training and inference, tables for export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reldistill_ros.backends.device_maps import DeviceLevel, DeviceMaps
from reldistill_ros.core.kernel_maps import CENTRE, KernelMaps, LevelMaps

Pairs = list[tuple[Tensor, Tensor]]


class PairMaps:
    """Only existing pairs are multiplied: per offset gather, multiply, add to the output rows.

    Args:
        maps: kernel maps of a sweep or of a concatenated batch.
        device: where the indices live.
    """

    def __init__(self, maps: KernelMaps | DeviceMaps, device: torch.device | str = 'cpu') -> None:
        self._sizes = [level.num_voxels for level in maps]
        self._submanifold = [_table_pairs(level, device) for level in maps]
        self._children = [_child_pairs(level, device) for level in maps[:-1]]

    def submanifold(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return _convolve(x, kernel, self._submanifold[level], self._sizes[level])

    def down(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return _convolve(x, kernel, self._children[level], self._sizes[level + 1])

    def up(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        pairs = [(parent, child) for child, parent in self._children[level]]
        return _convolve(x, kernel, pairs, self._sizes[level])

    def linear(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return x @ kernel


class TableMaps:
    """Gather and one product per convolution: the form that exports to any engine.

    Args:
        submanifold: per level (27, V) integer tables, V for a hole.
        down: per level but the last (8, U) integer tables, V for a hole.
        up: per level but the last (V,), `parent * 8 + child`.
    """

    def __init__(self, submanifold: list[Tensor], down: list[Tensor], up: list[Tensor]) -> None:
        self._submanifold, self._down, self._up = submanifold, down, up

    def submanifold(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return _gather_product(x, kernel, self._submanifold[level])

    def down(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return _gather_product(x, kernel, self._down[level])

    def up(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        _, c_in, c_out = kernel.shape
        children = x @ kernel.permute(1, 0, 2).reshape(c_in, 8 * c_out)  # (U, 8 C_out)
        return children.reshape(-1, c_out).index_select(0, self._up[level])

    def linear(self, level: int, x: Tensor, kernel: Tensor) -> Tensor:
        """See `SparseMaps`."""
        return x @ kernel


def _gather_product(x: Tensor, kernel: Tensor, table: Tensor) -> Tensor:
    volume, c_in, c_out = kernel.shape
    padded = torch.cat([x, x.new_zeros(1, c_in)])  # the hole's row
    rows = table.transpose(0, 1).reshape(-1)
    gathered = padded.index_select(0, rows).reshape(-1, volume * c_in)
    return gathered @ kernel.reshape(volume * c_in, c_out)


def _table_pairs(level: LevelMaps | DeviceLevel, device: torch.device | str) -> Pairs:
    table = torch.as_tensor(level.submanifold, device=device).long()
    live = table < level.num_voxels
    return [(row[mask], mask.nonzero()[:, 0]) for row, mask in zip(table, live)]


def _child_pairs(level: LevelMaps | DeviceLevel, device: torch.device | str) -> Pairs:
    parent = torch.as_tensor(level.parent, device=device).long()
    child = torch.as_tensor(level.child, device=device)
    fine = [(child == k).nonzero()[:, 0] for k in range(8)]
    return [(rows, parent[rows]) for rows in fine]


class _PairConvolution(torch.autograd.Function):
    """Saves only x and the kernel; the gathered rows are gathered again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, pairs: Pairs, num_out: int) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.pairs = pairs
        # The centre of a submanifold kernel meets every voxel: no gather needed.
        aligned = len(kernel) == 27
        out = x @ kernel[CENTRE] if aligned else x.new_zeros(num_out, kernel.shape[2])
        for k, (source, target) in enumerate(pairs):
            if len(source) and not (aligned and k == CENTRE):
                out.index_add_(0, target, x.index_select(0, source) @ kernel[k])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, kernel = ctx.saved_tensors
        grad_x, grad_kernel = torch.zeros_like(x), torch.zeros_like(kernel)
        for k, (source, target) in enumerate(ctx.pairs):
            grad_rows = grad.index_select(0, target)
            grad_kernel[k] = x.index_select(0, source).T @ grad_rows
            grad_x.index_add_(0, source, grad_rows @ kernel[k].T)
        return grad_x, grad_kernel, None, None


def _convolve(x: Tensor, kernel: Tensor, pairs: Pairs, num_out: int) -> Tensor:
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    result: Tensor = _PairConvolution.apply(x.to(dtype), kernel.to(dtype), pairs, num_out)  # type: ignore[no-untyped-call]
    return result
