# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Points to voxels: one function for the trainer and the robot, so that both see the same input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.compiled import as_kernel_array, compiled
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import FEATURE_WIDTH, InputSettings, VoxelSettings

# Scales that bring metres to order one; part of the student's input definition.
HEIGHT_SCALE = 2.0
RANGE_SCALE = 30.0

# A pass of the radix sort counts 2^11 digits at most: the counters stay in the first-level cache.
MAX_DIGIT_BITS = 11


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

    Raises:
        InputError: points of another shape.
    """
    if points.ndim != 2 or points.shape[1] != 4:
        raise InputError(
            'points have x, y, z and intensity', expected='shape (N, 4)', got=points.shape
        )
    points = as_kernel_array(points, np.float32)
    size = grid_size(settings)
    grid = np.array([*settings.point_cloud_range[:3], settings.voxel_size])
    point_to_voxel = np.empty(len(points), np.int32)
    coords = _group(points, grid, size, 'intensity' in inputs.features, point_to_voxel)
    feats = np.empty((len(coords), inputs.num_features), np.float32)
    scale = np.array([inputs.intensity_mean, inputs.intensity_std])
    means = _means(points, point_to_voxel, len(coords))
    _input_features(means, coords, grid, _columns(inputs), scale, feats)
    return Voxels(coords, feats, point_to_voxel)


def _columns(inputs: InputSettings) -> NDArray[np.int64]:
    """First column of offset, intensity, height and range, -1 for one that is not used."""
    columns, start = dict.fromkeys(FEATURE_WIDTH, -1), 0
    for name in inputs.features:
        columns[name] = start
        start += FEATURE_WIDTH[name]
    return np.array([columns[name] for name in ('offset', 'intensity', 'height', 'range')])


@compiled()
def _group(
    points: NDArray[np.float32],
    grid: NDArray[np.float64],
    size: NDArray[np.int64],
    needs_intensity: bool,
    point_to_voxel: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Fill the voxel of each point; returns the coordinates (V, 3).

    One integer stands for a cell, so that sorting the integers brings the points of a voxel
    together and the voxels into order.
    """
    bits_y, bits_z = _num_bits(size[1] - 1), _num_bits(size[2] - 1)
    keys, rows = _pack(points, grid.astype(np.float32), size, needs_intensity)
    keys, rows = _radix_sort(keys, rows, _num_bits(size[0] - 1) + bits_y + bits_z)
    point_to_voxel[:] = -1
    coords = np.empty((len(keys), 3), np.int32)
    voxel = -1
    for i in range(len(keys)):
        if i == 0 or keys[i] != keys[i - 1]:
            voxel += 1
            coords[voxel, 0] = keys[i] >> (bits_y + bits_z)
            coords[voxel, 1] = (keys[i] >> bits_z) & ((1 << bits_y) - 1)
            coords[voxel, 2] = keys[i] & ((1 << bits_z) - 1)
        point_to_voxel[rows[i]] = voxel
    return coords[: voxel + 1]


@compiled()
def _num_bits(value: int) -> int:
    bits = 0
    while value >> bits:
        bits += 1
    return bits


@compiled()
def _pack(
    points: NDArray[np.float32],
    grid: NDArray[np.float32],
    size: NDArray[np.int64],
    needs_intensity: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Key and row of each point inside the grid: x, y, z side by side in the bits of a key."""
    bits_y, bits_z = _num_bits(size[1] - 1), _num_bits(size[2] - 1)
    keys = np.empty(len(points), np.int64)
    rows = np.empty(len(points), np.int32)
    num = 0
    for i in range(len(points)):
        x = np.floor((points[i, 0] - grid[0]) / grid[3])
        y = np.floor((points[i, 1] - grid[1]) / grid[3])
        z = np.floor((points[i, 2] - grid[2]) / grid[3])
        # comparing with NaN is false
        inside = 0 <= x < size[0] and 0 <= y < size[1] and 0 <= z < size[2]
        if inside and (not needs_intensity or np.isfinite(points[i, 3])):
            keys[num] = (((int(x) << bits_y) | int(y)) << bits_z) | int(z)
            rows[num] = i
            num += 1
    return keys[:num], rows[:num]


@compiled()
def _radix_sort(
    keys: NDArray[np.int64], rows: NDArray[np.int32], num_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Sort both by key, lowest digit first; stable, in as few passes as the grid needs."""
    num_passes = max((num_bits + MAX_DIGIT_BITS - 1) // MAX_DIGIT_BITS, 1)
    digit_bits = (num_bits + num_passes - 1) // num_passes
    keys_out, rows_out = np.empty_like(keys), np.empty_like(rows)
    for number in range(num_passes):
        _sort_by_digit(keys, rows, keys_out, rows_out, number * digit_bits, digit_bits)
        keys, keys_out = keys_out, keys
        rows, rows_out = rows_out, rows
    return keys, rows


@compiled()
def _sort_by_digit(
    keys: NDArray[np.int64],
    rows: NDArray[np.int32],
    keys_out: NDArray[np.int64],
    rows_out: NDArray[np.int32],
    shift: int,
    digit_bits: int,
) -> None:
    """Count each digit, turn the counts into places, move."""
    mask = (1 << digit_bits) - 1
    places = np.zeros(mask + 2, np.int64)
    for key in keys:
        places[((key >> shift) & mask) + 1] += 1
    for digit in range(mask):
        places[digit + 1] += places[digit]
    for i in range(len(keys)):
        digit = (keys[i] >> shift) & mask
        keys_out[places[digit]] = keys[i]
        rows_out[places[digit]] = rows[i]
        places[digit] += 1


@compiled()
def _means(
    points: NDArray[np.float32], point_to_voxel: NDArray[np.int32], num_voxels: int
) -> NDArray[np.float64]:
    """Mean point (V, 4) of each voxel; summed in the order of the points."""
    means = np.zeros((num_voxels, 4), np.float64)
    counts = np.zeros(num_voxels, np.int64)
    for i in range(len(points)):
        voxel = point_to_voxel[i]
        if voxel >= 0:
            counts[voxel] += 1
            for column in range(4):
                means[voxel, column] += points[i, column]
    for voxel in range(num_voxels):
        for column in range(4):
            means[voxel, column] /= counts[voxel]
    return means


@compiled()
def _input_features(
    means: NDArray[np.float64],
    coords: NDArray[np.int32],
    grid: NDArray[np.float64],
    columns: NDArray[np.int64],
    intensity_scale: NDArray[np.float64],
    feats: NDArray[np.float32],
) -> None:
    """Input features (V, F) from the mean point (V, 4) of each voxel."""
    offset, intensity, height, distance = columns
    for voxel in range(len(means)):
        x, y, z = means[voxel, 0], means[voxel, 1], means[voxel, 2]
        if offset >= 0:
            for axis in range(3):
                centre = (coords[voxel, axis] + 0.5) * grid[3] + grid[axis]
                feats[voxel, offset + axis] = (means[voxel, axis] - centre) / grid[3]
        if intensity >= 0:
            value = means[voxel, 3] - intensity_scale[0]
            feats[voxel, intensity] = value / intensity_scale[1]
        if height >= 0:
            feats[voxel, height] = z / HEIGHT_SCALE
        if distance >= 0:
            feats[voxel, distance] = np.sqrt(x * x + y * y + z * z) / RANGE_SCALE
