# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Kernel maps as lists of pairs, ordered as the fused engine walks them: by tile, then offset.

A tile is a run of output rows that one thread computes on its own; only pairs that exist are
listed, so nothing is multiplied by a hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.compiled import as_kernel_array, compiled
from reldistill_ros.core.kernel_maps import KernelMaps, LevelMaps

LARGEST_TILE = 512
SMALLEST_TILE = 16
TILES_OF_A_ROUND = 4


@dataclass(frozen=True)
class TilePairs:
    """Pairs of input and output rows of one kind of convolution at one level.

    Attributes:
        rows_in: (P,) int32.
        rows_out: (P,) int32, from the first row of the tile.
        starts: (T, K + 1) int32, where the pairs of each tile and offset begin and end.
        tile_rows: rows of every tile but the last.
        num_rows: output rows.
    """

    rows_in: NDArray[np.int32]
    rows_out: NDArray[np.int32]
    starts: NDArray[np.int32]
    tile_rows: int
    num_rows: int

    @property
    def num_offsets(self) -> int:
        return int(self.starts.shape[1]) - 1


def level_pairs(maps: KernelMaps) -> dict[tuple[str, int], TilePairs]:
    """The pairs of every kind of convolution at every level, by (kind, level)."""
    pairs = {}
    for index, level in enumerate(maps):
        size = tile_rows(level.num_voxels)
        pairs['submanifold', index] = _table_pairs(level.submanifold, level.num_voxels, size)
        pairs['linear', index] = linear_pairs(level.num_voxels, size)
        if index < len(maps) - 1:
            pairs['up', index] = _up_pairs(level, size)
            size = tile_rows(maps[index + 1].num_voxels)
            pairs['down', index] = _table_pairs(level.down, level.num_voxels, size)
    return pairs


def tile_rows(num_rows: int) -> int:
    """Rows of a tile: small enough for the cache, and tiles in fours, for two threads or four.

    It does not depend on the number of threads, and so neither do the sums over tiles.
    """
    rounds = -(-num_rows // (LARGEST_TILE * TILES_OF_A_ROUND))
    return max(SMALLEST_TILE, -(-num_rows // max(rounds * TILES_OF_A_ROUND, 1)))


def _table_pairs(table: NDArray[np.int32], num_in: int, tile_rows: int) -> TilePairs:
    """The pairs of a table (K, V) whose holes are `num_in`."""
    num_offsets, num_rows = table.shape
    starts = np.empty((-(-num_rows // tile_rows), num_offsets + 1), np.int32)
    rows = np.empty((2, table.size + 1), np.int32)  # of its pages only the used ones get memory
    num_pairs = _list_table(as_kernel_array(table, np.int32), num_in, tile_rows, rows, starts)
    return TilePairs(rows[0, :num_pairs], rows[1, :num_pairs], starts, tile_rows, num_rows)


def _up_pairs(level: LevelMaps, tile_rows: int) -> TilePairs:
    """Every voxel meets its parent, at its own offset."""
    num_rows = level.num_voxels
    starts = np.empty((-(-num_rows // tile_rows), 9), np.int32)
    rows = np.empty((2, num_rows + 1), np.int32)
    parent, child = (as_kernel_array(a, np.int32) for a in (level.parent, level.child))
    _list_children(parent, child, tile_rows, rows, starts)
    return TilePairs(rows[0, :-1], rows[1, :-1], starts, tile_rows, num_rows)


def linear_pairs(num_rows: int, tile_rows: int) -> TilePairs:
    """Every row meets itself."""
    rows = np.arange(num_rows, dtype=np.int32)
    first = np.arange(0, num_rows, tile_rows, dtype=np.int32)
    starts = np.stack([first, np.minimum(first + tile_rows, num_rows)], axis=1).astype(np.int32)
    return TilePairs(rows, rows % np.int32(tile_rows), starts, tile_rows, num_rows)


# Both list a pair that does not exist, too, and overwrite it with the next: no branch needed.


@compiled()
def _list_table(
    table: NDArray[np.int32],
    num_in: int,
    tile_rows: int,
    rows: NDArray[np.int32],
    starts: NDArray[np.int32],
) -> int:
    num_offsets, num_rows = table.shape
    rows_in, rows_out = rows[0], rows[1]
    pair = 0
    for tile in range(starts.shape[0]):
        first = tile * tile_rows
        for k in range(num_offsets):
            starts[tile, k] = pair
            for i in range(first, min(first + tile_rows, num_rows)):
                row = table[k, i]
                rows_in[pair] = row
                rows_out[pair] = i - first
                pair += row < num_in
        starts[tile, num_offsets] = pair
    return pair


@compiled()
def _list_children(
    parent: NDArray[np.int32],
    child: NDArray[np.int32],
    tile_rows: int,
    rows: NDArray[np.int32],
    starts: NDArray[np.int32],
) -> None:
    num_rows = len(parent)
    rows_in, rows_out = rows[0], rows[1]
    pair = 0
    for tile in range(starts.shape[0]):
        first = tile * tile_rows
        for k in range(8):
            starts[tile, k] = pair
            for i in range(first, min(first + tile_rows, num_rows)):
                rows_in[pair] = parent[i]
                rows_out[pair] = i - first
                pair += child[i] == k
        starts[tile, 8] = pair
