# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Voxelisation and kernel maps in numpy, as they are commonly written: what ours are compared to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.sparse_workload import INPUTS
from reldistill_ros.core.kernel_maps import (
    CENTRE,
    NUM_LEVELS,
    OFFSETS_3,
    KernelMaps,
    LevelMaps,
    build_kernel_maps,
)
from reldistill_ros.core.settings import VoxelSettings
from reldistill_ros.core.voxels import HEIGHT_SCALE, RANGE_SCALE, Voxels, grid_size, voxelise

NUM_ROUNDS = 15
BITS = 20  # of a coordinate in a key
STEPS = np.array([1 << 2 * BITS, 1 << BITS, 1])


def numpy_voxelise(points: NDArray[np.float32], settings: VoxelSettings) -> Voxels:
    """The same as `voxelise` with `INPUTS`: `unique` on one integer per cell, sums by `bincount`."""
    low, size = np.array(settings.point_cloud_range[:3], np.float32), grid_size(settings)
    cells = np.floor((points[:, :3] - low) / np.float32(settings.voxel_size))
    inside = ((cells >= 0) & (cells < size)).all(axis=1) & np.isfinite(points[:, 3])
    keys = cells[inside].astype(np.int64) @ STEPS
    keys, voxel = np.unique(keys, return_inverse=True)
    coords = np.stack([keys >> 2 * BITS, keys >> BITS, keys], axis=1) & ((1 << BITS) - 1)
    counts = np.bincount(voxel)
    kept = points[inside]
    means = np.stack([np.bincount(voxel, kept[:, c]) / counts for c in range(4)], axis=1)
    centres = (coords + 0.5) * settings.voxel_size + low
    feats = np.column_stack(
        [
            (means[:, :3] - centres) / settings.voxel_size,
            (means[:, 3] - INPUTS.intensity_mean) / INPUTS.intensity_std,
            means[:, 2] / HEIGHT_SCALE,
            np.linalg.norm(means[:, :3], axis=1) / RANGE_SCALE,
        ]
    ).astype(np.float32)
    point_to_voxel = np.full(len(points), -1, np.int32)
    point_to_voxel[inside] = voxel
    return Voxels(coords.astype(np.int32), feats, point_to_voxel)


def numpy_maps(coords: NDArray[np.int32]) -> KernelMaps:
    """The same as `build_kernel_maps`: `searchsorted` for neighbours, `unique` for parents."""
    levels = []
    for _ in range(NUM_LEVELS - 1):
        level, coords = _level(coords)
        levels.append(level)
    empty = np.zeros(0, np.int32)
    last = LevelMaps(coords, _neighbours(coords), empty, empty, np.zeros((8, 0), np.int32))
    return (*levels, last)


def _level(coords: NDArray[np.int32]) -> tuple[LevelMaps, NDArray[np.int32]]:
    coarse = coords >> 1
    keys, first, parent = np.unique(coarse @ STEPS, return_index=True, return_inverse=True)
    child = (coords & 1) @ np.array([4, 2, 1])
    down = np.full((8, len(keys)), len(coords), np.int32)
    down[child, parent] = np.arange(len(coords))
    maps = LevelMaps(
        coords, _neighbours(coords), parent.astype(np.int32), child.astype(np.int32), down
    )
    return maps, coarse[first]


def _neighbours(coords: NDArray[np.int32]) -> NDArray[np.int32]:
    """Half of the offsets are searched; the others are their mirror images."""
    num = len(coords)
    keys = (coords + 1) @ STEPS
    table = np.full((27, num), num, np.int32)
    table[CENTRE] = np.arange(num)
    for k in range(CENTRE):
        wanted = keys + OFFSETS_3[k] @ STEPS
        found = np.minimum(np.searchsorted(keys, wanted), num - 1)
        row = np.flatnonzero(keys[found] == wanted)
        table[k, row] = found[row]
        table[26 - k, found[row]] = row
    return table


def compare_maps(points: NDArray[np.float32], voxel: VoxelSettings) -> dict[str, float]:
    """Time ours and numpy's in turn, from points to all maps.

    Raises:
        AssertionError: they do not give the same.
    """

    def ours() -> tuple[Voxels, KernelMaps]:
        voxels = voxelise(points, voxel, INPUTS)
        return voxels, build_kernel_maps(voxels.coords)

    def numpys() -> tuple[Voxels, KernelMaps]:
        voxels = numpy_voxelise(points, voxel)
        return voxels, numpy_maps(voxels.coords)

    _check_equal(ours(), numpys())
    times = [(_seconds(ours), _seconds(numpys)) for _ in range(NUM_ROUNDS)]
    ours_s, numpy_s = (statistics.median(column) for column in zip(*times))
    return {
        'points': len(points),
        'ours_s': ours_s,
        'numpy_s': numpy_s,
        'ratio': numpy_s / ours_s,
    }


def _check_equal(ours: tuple[Voxels, KernelMaps], other: tuple[Voxels, KernelMaps]) -> None:
    np.testing.assert_array_equal(ours[0].point_to_voxel, other[0].point_to_voxel)
    np.testing.assert_allclose(ours[0].feats, other[0].feats, atol=1e-4)
    for left, right in zip(ours[1], other[1]):
        for name in ('coords', 'submanifold', 'parent', 'child', 'down'):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), name)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
