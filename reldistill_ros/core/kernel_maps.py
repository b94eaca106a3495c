# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Kernel maps: which voxel each kernel offset of each voxel meets, at every level of the U-Net.

A sparse convolution is `out[i] = sum_k W[k]^T x[table[k, i]]`. The tables depend on the
coordinates alone, so they are built once per sweep, outside the network, and every engine takes
the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_LEVELS = 5

# Weight order of torchsparse: x fastest for odd kernels, z fastest for even ones.
OFFSETS_3 = np.array([(x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)])
OFFSETS_2 = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
CENTRE = 13


@dataclass(frozen=True)
class LevelMaps:
    """Tables of one level with V voxels; its coarser level has U.

    Attributes:
        coords: (V, 3) int32, sorted by x, then y, then z.
        submanifold: (27, V) int32, voxel at `coords + OFFSETS_3[k]`, or V for a hole.
        parent: (V,) int32, voxel of the coarser level that contains each voxel; empty at the
            last level.
        child: (V,) int32, which of the `OFFSETS_2` of its parent each voxel is.
        down: (8, U) int32, voxel at offset k of each coarser voxel, or V for a hole.
    """

    coords: NDArray[np.int32]
    submanifold: NDArray[np.int32]
    parent: NDArray[np.int32]
    child: NDArray[np.int32]
    down: NDArray[np.int32]

    @property
    def num_voxels(self) -> int:
        return len(self.coords)


KernelMaps = tuple[LevelMaps, ...]


def build_kernel_maps(coords: NDArray[np.int32], num_levels: int = NUM_LEVELS) -> KernelMaps:
    """All tables of a U-Net.

    Args:
        coords: (V, 3), unique and sorted by x, then y, then z, as `voxelise` gives them.
        num_levels: levels of the U-Net; each halves the resolution.
    """
    levels = []
    for _ in range(num_levels - 1):
        coarse, parent = _coarsen(coords)
        levels.append(_level_maps(coords, len(coarse), parent))
        coords = coarse
    empty = np.zeros(0, np.int32)
    last = LevelMaps(coords, _neighbours(coords), empty, empty, np.zeros((8, 0), np.int32))
    return (*levels, last)


def _level_maps(
    coords: NDArray[np.int32], num_coarse: int, parent: NDArray[np.int32]
) -> LevelMaps:
    child = ((coords & 1) @ np.array([4, 2, 1])).astype(np.int32)
    down = np.full((8, num_coarse), len(coords), dtype=np.int32)
    down[child, parent] = np.arange(len(coords))
    return LevelMaps(coords, _neighbours(coords), parent, child, down)


def _keys(coords: NDArray[np.int32]) -> NDArray[np.int64]:
    """Pack into one sortable integer; a border of one keeps neighbours apart across rows."""
    x, y, z = coords.astype(np.int64).T + 1
    keys: NDArray[np.int64] = (x << 42) | (y << 21) | z
    return keys


def _coarsen(coords: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sorted coordinates (U, 3) at half the resolution, and the parent (V,) of each voxel."""
    halved = coords >> 1
    _, first, parent = np.unique(_keys(halved), return_index=True, return_inverse=True)
    return halved[first], parent.astype(np.int32)


def _neighbours(coords: NDArray[np.int32]) -> NDArray[np.int32]:
    """Submanifold table (27, V); the second half mirrors the first."""
    num = len(coords)
    table = np.full((27, num), num, dtype=np.int32)
    table[CENTRE] = np.arange(num)
    keys = _keys(coords)
    for k in range(CENTRE if num else 0):
        x, y, z = OFFSETS_3[k].tolist()
        wanted = keys + x * (1 << 42) + y * (1 << 21) + z
        found = np.minimum(np.searchsorted(keys, wanted), num - 1)
        voxels = np.flatnonzero(keys[found] == wanted)
        table[k, voxels] = found[voxels]
        table[26 - k, found[voxels]] = voxels
    return table


def concatenate_maps(sweeps: Sequence[KernelMaps]) -> KernelMaps:
    """One set of maps for a batch whose voxel rows are stacked sweep after sweep."""
    return tuple(_concatenate_level(levels) for levels in zip(*sweeps))


def _concatenate_level(levels: Sequence[LevelMaps]) -> LevelMaps:
    sizes = [level.num_voxels for level in levels]
    coarse_sizes = [level.down.shape[1] for level in levels]
    return LevelMaps(
        coords=np.concatenate([level.coords for level in levels]),
        submanifold=_stack_tables([level.submanifold for level in levels], sizes),
        parent=_stack_tables([level.parent[None] for level in levels], coarse_sizes)[0],
        child=np.concatenate([level.child for level in levels]),
        down=_stack_tables([level.down for level in levels], sizes),
    )


def _stack_tables(tables: Sequence[NDArray[np.int32]], sizes: Sequence[int]) -> NDArray[np.int32]:
    """Stack tables side by side; indices move behind the earlier sweeps, holes to the end."""
    total = sum(sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    moved = [
        np.where(table == size, total, table + start)
        for table, size, start in zip(tables, sizes, starts)
    ]
    return np.concatenate(moved, axis=1).astype(np.int32)
