# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Points to voxels: one function for the trainer and the robot, so that both see the same input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.settings import InputSettings, VoxelSettings

# Scales that bring metres to order one; part of the student's input definition.
HEIGHT_SCALE = 2.0
RANGE_SCALE = 30.0


@dataclass(frozen=True)
class Voxels:
    """The occupied voxels of one sweep.

    Attributes:
        coords: (V, 3) int32, grid index from the low corner of the range, sorted by x, then y,
            then z.
        feats: (V, F) float32, input features in the order of `InputSettings.features`.
        point_to_voxel: (N,) int32, voxel of each point, -1 outside the range or not finite.
    """

    coords: NDArray[np.int32]
    feats: NDArray[np.float32]
    point_to_voxel: NDArray[np.int32]


def grid_size(settings: VoxelSettings) -> NDArray[np.int64]:
    """Voxels along x, y, z; a range that is no multiple of the voxel size is rounded."""
    low, high = np.reshape(settings.point_cloud_range, (2, 3))
    size: NDArray[np.int64] = np.maximum(np.rint((high - low) / settings.voxel_size), 1).astype(
        int
    )
    return size


def voxelise(
    points: NDArray[np.float32], settings: VoxelSettings, inputs: InputSettings
) -> Voxels:
    """Group points into voxels and compute the student's input.

    The range is cropped by integer index: a comparison in metres lets a float32 point on the
    edge through to an index one past the end.

    Args:
        points: (N, 4), x y z in metres in the lidar frame and intensity from 0 to 1; rows that
            are not finite belong to no voxel, whereby intensity counts only where it is one of
            the features.
        settings: the grid.
        inputs: which features, and how intensity is scaled.
    """
    low = np.asarray(settings.point_cloud_range[:3], dtype=np.float32)
    size = grid_size(settings)
    with np.errstate(invalid='ignore', over='ignore'):
        index = np.floor((points[:, :3] - low) / np.float32(settings.voxel_size))
        inside = ((index >= 0) & (index < size)).all(axis=1)
    if 'intensity' in inputs.features:
        inside &= np.isfinite(points[:, 3])
    kept = points[inside].astype(np.float64)
    cell = index[inside].astype(np.int64)
    keys, voxel_of_kept = np.unique(_pack(cell, size), return_inverse=True)
    coords = _unpack(keys, size)
    point_to_voxel = np.full(len(points), -1, dtype=np.int32)
    point_to_voxel[inside] = voxel_of_kept
    means = _means(kept, voxel_of_kept, len(keys))
    feats = _input_features(means, coords, settings, inputs)
    return Voxels(coords, feats, point_to_voxel)


def _pack(cell: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    return keys


def _unpack(keys: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int32]:
    rest, z = np.divmod(keys, size[2])
    x, y = np.divmod(rest, size[1])
    return np.stack([x, y, z], axis=1).astype(np.int32)


def _means(
    values: NDArray[np.float64], groups: NDArray[np.int64], num_groups: int
) -> NDArray[np.float64]:
    """Mean of the rows of each group, (num_groups, columns)."""
    counts = np.bincount(groups, minlength=num_groups)
    sums = [np.bincount(groups, column, minlength=num_groups) for column in values.T]
    return np.stack(sums, axis=1) / counts[:, None]


def _input_features(
    means: NDArray[np.float64],
    coords: NDArray[np.int32],
    settings: VoxelSettings,
    inputs: InputSettings,
) -> NDArray[np.float32]:
    """Input features (V, F) from the mean point (V, 4) of each voxel."""
    xyz, intensity = means[:, :3], means[:, 3:]
    centre = (coords + 0.5) * settings.voxel_size + np.asarray(settings.point_cloud_range[:3])
    columns = {
        'offset': (xyz - centre) / settings.voxel_size,
        'intensity': (intensity - inputs.intensity_mean) / inputs.intensity_std,
        'height': xyz[:, 2:] / HEIGHT_SCALE,
        'range': np.linalg.norm(xyz, axis=1, keepdims=True) / RANGE_SCALE,
    }
    return np.concatenate([columns[name] for name in inputs.features], axis=1).astype(np.float32)
