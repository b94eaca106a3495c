# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A sweep as one block of memory of a fixed size: what the GPU gets in one copy.

Every level is filled up to its size with empty voxels. A table says "no neighbour" with the number
of voxels of its level, the row of zeros behind the last one; filled up, that row is behind the
empty voxels, so that these entries are rewritten. Empty voxels have no neighbours and are nobody's
neighbour: what the network computes for them reaches no voxel of the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reldistill_ros.backends.engine_sizes import Sizes, input_shapes
from reldistill_ros.core.compiled import compiled
from reldistill_ros.core.kernel_maps import KernelMaps

ALIGNMENT = 256  # bytes; what CUDA gives, and TensorRT asks for


@dataclass(frozen=True)
class Place:
    """Where an input lies in the block.

    Attributes:
        start: first byte.
        shape: of the input.
        dtype: of its values.
    """

    start: int
    shape: tuple[int, ...]
    dtype: DTypeLike

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def view(self, block: NDArray[np.uint8]) -> NDArray[Any]:
        """The input in a block (num_bytes,)."""
        content: NDArray[Any] = block[self.start : self.start + self.num_bytes]
        return content.view(self.dtype).reshape(self.shape)


class Layout:
    """Places of all inputs of the graph for one set of sizes.

    Args:
        sizes: voxels of each level.
        num_features: input features of a voxel.

    Attributes:
        sizes: as given.
        places: by the name of the input.
        num_bytes: of the block.
    """

    def __init__(self, sizes: Sizes, num_features: int) -> None:
        self.sizes = sizes
        self.places: dict[str, Place] = {}
        self.num_bytes = 0
        for name, shape in input_shapes(sizes, num_features).items():
            place = Place(self.num_bytes, shape, np.float32 if name == 'feats' else np.int32)
            self.places[name] = place
            self.num_bytes += -(-place.num_bytes // ALIGNMENT) * ALIGNMENT

    def fill(self, block: NDArray[np.uint8], feats: NDArray[np.float32], maps: KernelMaps) -> None:
        """Write a sweep that fits into a block (num_bytes,).

        Args:
            block: to write to.
            feats: (V, F) input features.
            maps: with at most `sizes` voxels.
        """
        rows = self.places['feats'].view(block)
        rows[: len(feats)], rows[len(feats) :] = feats, 0
        for index, (level, size) in enumerate(zip(maps, self.sizes)):
            hole = level.num_voxels
            _fill_table(
                level.submanifold, hole, size, self.places[f'submanifold{index}'].view(block)
            )
            if index < len(maps) - 1:
                _fill_table(level.down, hole, size, self.places[f'down{index}'].view(block))
                _fill_up(level.parent, level.child, self.places[f'up{index}'].view(block))


@compiled()
def _fill_table(
    table: NDArray[np.int32], hole: int, new_hole: int, out: NDArray[np.int32]
) -> None:
    num = table.shape[1]
    for k in range(len(table)):
        for i in range(num):
            row = table[k, i]
            out[k, i] = new_hole if row == hole else row
        out[k, num:] = new_hole


@compiled()
def _fill_up(parent: NDArray[np.int32], child: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """`parent * 8 + child`; an empty voxel takes any parent."""
    for i in range(len(parent)):
        out[i] = parent[i] * 8 + child[i]
    out[len(parent) :] = 0
