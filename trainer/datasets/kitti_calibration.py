# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Calibration files of KITTI: `key: numbers` lines, and what its projections mean.

KITTI raw and KITTI odometry write them alike. A pixel is `P @ rectified_from_lidar @ point` (A.
Geiger et al., Vision meets Robotics: The KITTI Dataset, IJRR 2013, equation 8).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.transforms import make_transform
from reldistill_ros.core.errors import InputError


class KeyedNumbers(dict[str, NDArray[np.float64]]):
    """Numbers by key, and the file that they come from."""

    path: Path


def read_calibration(path: Path) -> KeyedNumbers:
    """Read `key: numbers` lines; lines whose value is not numbers (dates) are left out.

    Raises:
        InputError: no such file.
    """
    values = KeyedNumbers()
    values.path = path
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except FileNotFoundError as error:
        raise InputError(
            'the calibration does not exist', where=path, fix='copy it beside the recordings'
        ) from error
    for line in lines:
        key, _, text = line.partition(':')
        try:
            values[key.strip()] = np.array([float(word) for word in text.split()])
        except ValueError:
            continue
    return values


def read_matrix(
    calibration: KeyedNumbers, key: str, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Matrix under a key.

    Raises:
        InputError: no such key, or not as many finite numbers.
    """
    numbers = calibration.get(key)
    if numbers is None or numbers.size != shape[0] * shape[1] or not np.isfinite(numbers).all():
        raise InputError(
            'the calibration is incomplete',
            where=calibration.path,
            expected=f'{key}: {shape[0] * shape[1]} finite numbers',
            got='no such key' if numbers is None else numbers.tolist(),
            fix='restore the original calibration file',
        )
    return numbers.reshape(shape)


def split_projection(
    projection: NDArray[np.float64], rectified_from_lidar: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intrinsics (3, 3) and camera_from_lidar (4, 4) of a camera beside the reference camera.

    The fourth column of the projection is moved into camera_from_lidar:
    `K x + p = K (x + K^-1 p)`.

    Args:
        projection: (3, 4), from the rectified reference camera to pixels.
        rectified_from_lidar: (4, 4).
    """
    intrinsics = projection[:, :3]
    offset = make_transform(np.eye(3), np.linalg.solve(intrinsics, projection[:, 3]))
    return intrinsics, offset @ rectified_from_lidar
