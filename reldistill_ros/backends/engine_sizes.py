# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""For how many voxels an engine is built: measured in training, rounded up to a few sizes.

A sweep has another number of voxels at each level every time. An engine for the GPU wants few
sizes, for each of which its work is recorded once. So sweeps are filled up with empty voxels to
the next of a dozen or two sizes, which bounds the waste to `STEP` - 1 where the levels grow alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from reldistill_ros.core.bundle import Bundle
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import NUM_LEVELS
from reldistill_ros.core.settings import Settings, parse_settings

SWEEP_SIZES = 'sweep_sizes.json'

STEP = 1.2  # from one size to the next
MARGIN = 2.0  # largest size of the engine over the largest sweep seen in training
ROW_BLOCK = 64  # rows that a GPU's matrix product takes at once, so that no size splits one

Sizes = tuple[int, ...]


class SweepSizes(Settings):
    """Voxels of each level, the finest first, over the training sweeps: `sweep_sizes.json`.

    Attributes:
        num_sweeps: how many were looked at.
        small: the 1st percentile.
        typical: the median.
        large: the 99th percentile.
        largest: the most.
    """

    num_sweeps: int = Field(gt=0)
    small: tuple[int, int, int, int, int]
    typical: tuple[int, int, int, int, int]
    large: tuple[int, int, int, int, int]
    largest: tuple[int, int, int, int, int]


@dataclass(frozen=True)
class EngineSizes:
    """The sizes of an engine; each has a number of voxels for every level.

    Attributes:
        buckets: from the smallest to the largest.
        typical: index of the one that the engine is tuned for.
    """

    buckets: tuple[Sizes, ...]
    typical: int

    @property
    def profile(self) -> tuple[Sizes, Sizes, Sizes]:
        """Smallest, typical and largest: the optimisation profile."""
        return self.buckets[0], self.buckets[self.typical], self.buckets[-1]

    def fit(self, sizes: Sequence[int]) -> int:
        """Index of the smallest bucket that a sweep fits into.

        Raises:
            InputError: the sweep is too large.
        """
        index = _first_that_fits(self.buckets, sizes)
        if index is None:
            raise InputError(
                'the sweep has more voxels than the engine was built for',
                expected=f'per level at most {self.buckets[-1]}',
                got=tuple(sizes),
                fix='label such sweeps with the backend fused, or export the run again with '
                'sweeps of this lidar among its training data',
            )
        return index


def engine_sizes(seen: SweepSizes) -> EngineSizes:
    """Buckets from a small sweep of the training data to `MARGIN` times its largest."""
    most = [MARGIN * size for size in seen.largest]
    buckets: list[Sizes] = []
    shrink = 1.0
    while not buckets or buckets[-1][0] > max(seen.small[0], ROW_BLOCK):
        buckets.append(tuple(_whole_blocks(size / shrink) for size in most))
        shrink *= STEP
    buckets.reverse()
    typical = _first_that_fits(buckets, seen.typical)
    assert typical is not None, 'the median exceeds the largest'
    return EngineSizes(tuple(buckets), typical)


def bundle_sizes(bundle: Bundle) -> EngineSizes:
    """The sizes for the engines of a bundle.

    Raises:
        InputError: the bundle does not hold how large the training sweeps were.
    """
    where = bundle.path / SWEEP_SIZES
    if not bundle.holds(SWEEP_SIZES):
        raise InputError(
            'the bundle does not say how many voxels its sweeps have, which TensorRT asks for',
            where=where,
            fix='export the run again with this version of reldistill',
        )
    return engine_sizes(parse_settings(json.loads(bundle.read(SWEEP_SIZES)), SweepSizes, where))


def input_shapes(sizes: Sizes, num_features: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs of the exported graph by name, see `tables.table_inputs`."""
    shapes: dict[str, tuple[int, ...]] = {'feats': (sizes[0], num_features)}
    for level in range(NUM_LEVELS):
        shapes[f'submanifold{level}'] = (27, sizes[level])
        if level < NUM_LEVELS - 1:
            shapes[f'down{level}'] = (8, sizes[level + 1])
            shapes[f'up{level}'] = (sizes[level],)
    return shapes


def _first_that_fits(buckets: Sequence[Sizes], sizes: Sequence[int]) -> int | None:
    for index, bucket in enumerate(buckets):
        if all(size <= most for size, most in zip(sizes, bucket)):
            return index
    return None


def _whole_blocks(size: float) -> int:
    return max(1, -(-int(size) // ROW_BLOCK)) * ROW_BLOCK
