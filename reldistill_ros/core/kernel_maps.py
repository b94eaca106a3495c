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

from reldistill_ros.core.compiled import as_kernel_array, compiled

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
        coords: (V, 3), unique and sorted by x, then y, then z, as `voxelise` gives them; from
            -2^20 to 2^20.
        num_levels: levels of the U-Net; each halves the resolution.
    """
    coords = as_kernel_array(coords, np.int32)
    levels = []
    for _ in range(num_levels - 1):
        level, coords = _level_maps(coords)
        levels.append(level)
    empty = np.zeros(0, np.int32)
    last = LevelMaps(coords, _neighbours(coords), empty, empty, np.zeros((8, 0), np.int32))
    return (*levels, last)


def coordinates_only(coords: NDArray[np.int32]) -> KernelMaps:
    """Maps of one level without its tables, for those who build them elsewhere."""
    empty = np.zeros((27, 0), np.int32)
    return (LevelMaps(coords, empty, empty[0], empty[0], empty[:8]),)


def _level_maps(coords: NDArray[np.int32]) -> tuple[LevelMaps, NDArray[np.int32]]:
    """Tables of a level, and the coordinates of the coarser one."""
    num = len(coords)
    parent, child = np.empty(num, np.int32), np.empty(num, np.int32)
    coarse = np.empty((num, 3), np.int32)
    coarse = coarse[: _coarsen(coords, coarse, parent)]
    down = np.empty((8, len(coarse)), np.int32)
    _fill_down(coords, parent, child, down)
    return LevelMaps(coords, _neighbours(coords), parent, child, down), coarse


def _neighbours(coords: NDArray[np.int32]) -> NDArray[np.int32]:
    table = np.empty((27, len(coords)), np.int32)
    _fill_neighbours(coords, table)
    return table


@compiled()
def _fill_neighbours(coords: NDArray[np.int32], table: NDArray[np.int32]) -> None:
    """Submanifold table (27, V).

    The 27 neighbours of a voxel stand in 9 columns of three along z. Neighbourhood is mutual, so
    4 columns and half of the voxel's own one are searched, and the others written as mirror
    images. In the sorted list the wanted keys of a column rise with the voxel, so that one
    pointer walks along beside it: no search, no hashing.
    """
    table[:] = len(coords)
    keys, step_x, step_y = _neighbour_keys(coords)
    _walk_own_column(keys, table)
    for column, x, y in ((0, -1, -1), (1, 0, -1), (2, 1, -1), (3, -1, 0)):
        _walk_column(keys, x * step_x + y * step_y, column, table)


@compiled()
def _neighbour_keys(coords: NDArray[np.int32]) -> tuple[NDArray[np.int64], np.int64, np.int64]:
    """Sortable key (V + 1,) of each voxel, a last one above all, and what x + 1, y + 1 add to it.

    Rows along z and y get one empty place more than they span, so that no neighbour beyond the
    end of a row has the key of the next row's first voxel.
    """
    num = len(coords)
    low_y = high_y = low_z = high_z = np.int64(0)
    for i in range(num):
        low_y, high_y = min(low_y, coords[i, 1]), max(high_y, coords[i, 1])
        low_z, high_z = min(low_z, coords[i, 2]), max(high_z, coords[i, 2])
    step_y = high_z - low_z + 2
    step_x = step_y * (high_y - low_y + 2)
    keys = np.empty(num + 1, np.int64)
    for i in range(num):
        keys[i] = coords[i, 0] * step_x + coords[i, 1] * step_y + coords[i, 2]
    keys[num] = np.iinfo(np.int64).max
    return keys, step_x, step_y


@compiled()
def _walk_own_column(keys: NDArray[np.int64], table: NDArray[np.int32]) -> None:
    below, centre, above = table[CENTRE - 9], table[CENTRE], table[CENTRE + 9]
    for i in range(len(centre)):
        centre[i] = i
        if i and keys[i] == keys[i - 1] + 1:
            below[i] = i - 1
            above[i - 1] = i


@compiled()
def _walk_column(
    keys: NDArray[np.int64], step: np.int64, column: int, table: NDArray[np.int32]
) -> None:
    """Three neighbours of every voxel in the column whose keys differ by `step`, and the mirror."""
    below, level, above = table[column], table[column + 9], table[column + 18]
    mirror_below, mirror_level = table[26 - column], table[17 - column]
    mirror_above = table[8 - column]
    found = 0
    for i in range(len(below)):
        wanted = keys[i] + step - 1
        while keys[found] < wanted:
            found += 1
        j = found
        if keys[j] == wanted:
            below[i], mirror_below[j] = j, i
            j += 1
        if keys[j] == wanted + 1:
            level[i], mirror_level[j] = j, i
            j += 1
        if keys[j] == wanted + 2:
            above[i], mirror_above[j] = j, i


@compiled()
def _coarsen(
    coords: NDArray[np.int32], coarse: NDArray[np.int32], parent: NDArray[np.int32]
) -> int:
    """Fill the sorted coordinates of the coarser level and each voxel's parent; count the former.

    The voxels of one x and y form a row, sorted along z. A coarser row X, Y takes its voxels from
    the rows 2X, 2Y to 2X + 1, 2Y + 1: merging up to four sorted rows replaces sorting.
    """
    starts, parents = _rows(coords)
    order = _order_by_parent(coords, starts, parents)
    next_voxel, end = np.empty(4, np.int64), np.empty(4, np.int64)
    num_coarse = num_merged = 0
    for i in range(len(order)):
        row = order[i]
        next_voxel[num_merged], end[num_merged] = starts[row], starts[row + 1]
        num_merged += 1
        if i + 1 == len(order) or parents[order[i + 1]] != parents[row]:
            num_coarse = _merge_rows(
                coords, next_voxel[:num_merged], end, coarse, parent, num_coarse
            )
            num_merged = 0
    return num_coarse


@compiled()
def _rows(coords: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Where each of R rows starts (R + 1,), and the sortable key (R,) of its coarser row."""
    num = len(coords)
    starts, parents = np.empty(num + 1, np.int32), np.empty(num, np.int64)
    row = 0
    for i in range(num):
        x, y = coords[i, 0], coords[i, 1]
        if i == 0 or x != coords[i - 1, 0] or y != coords[i - 1, 1]:
            starts[row] = i
            parents[row] = (np.int64(x >> 1) << 32) + (y >> 1)
            row += 1
    starts[row] = num
    return starts[: row + 1], parents[:row]


@compiled()
def _order_by_parent(
    coords: NDArray[np.int32], starts: NDArray[np.int32], parents: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Rows (R,) such that those of one coarser row follow each other.

    Within the slab of an even x and within that of the odd x after it they do already: the two
    slabs are merged.
    """
    num_rows = len(parents)
    order = np.empty(num_rows, np.int32)
    end = 0
    while end < num_rows:
        even = num = end
        odd_x = coords[starts[even], 0] | 1
        odd = end_of_even = _end_of_slab(coords, starts, even, odd_x)
        end = _end_of_slab(coords, starts, odd, odd_x + 1)
        while num < end:
            if odd == end or (even < end_of_even and parents[even] <= parents[odd]):
                order[num] = even
                even += 1
            else:
                order[num] = odd
                odd += 1
            num += 1
    return order


@compiled()
def _end_of_slab(
    coords: NDArray[np.int32], starts: NDArray[np.int32], row: int, next_x: int
) -> int:
    """First row from `row` on that reaches x = `next_x`."""
    while row < len(starts) - 1 and coords[starts[row], 0] < next_x:
        row += 1
    return row


@compiled()
def _merge_rows(
    coords: NDArray[np.int32],
    next_voxel: NDArray[np.int64],
    end: NDArray[np.int64],
    coarse: NDArray[np.int32],
    parent: NDArray[np.int32],
    num_coarse: int,
) -> int:
    """Append the coarser voxels of rows with a common parent; returns how many there are now."""
    x, y = coords[next_voxel[0], 0] >> 1, coords[next_voxel[0], 1] >> 1
    above_all = np.iinfo(np.int32).max
    while True:
        z = above_all
        for row in range(len(next_voxel)):
            if next_voxel[row] < end[row]:
                z = min(z, coords[next_voxel[row], 2] >> 1)
        if z == above_all:
            return num_coarse
        coarse[num_coarse, 0], coarse[num_coarse, 1], coarse[num_coarse, 2] = x, y, z
        for row in range(len(next_voxel)):
            while next_voxel[row] < end[row] and coords[next_voxel[row], 2] >> 1 == z:
                parent[next_voxel[row]] = num_coarse
                next_voxel[row] += 1
        num_coarse += 1


@compiled()
def _fill_down(
    coords: NDArray[np.int32],
    parent: NDArray[np.int32],
    child: NDArray[np.int32],
    down: NDArray[np.int32],
) -> None:
    """Which child of its parent each voxel is, and the table (8, U) of the children."""
    down[:] = len(coords)
    for i in range(len(coords)):
        child[i] = (coords[i, 0] & 1) * 4 + (coords[i, 1] & 1) * 2 + (coords[i, 2] & 1)
        down[child[i], parent[i]] = i


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
