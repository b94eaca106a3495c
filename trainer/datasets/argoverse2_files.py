# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The feather tables of an Argoverse 2 log: sweeps, calibration and poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.transforms import from_wxyz
from reldistill_ros.core.errors import InputError, import_extra
from trainer.datasets.sweeps import check_all_finite, check_points

INTENSITY_MAX = 255.0
POSE_COLUMNS = ('qw', 'qx', 'qy', 'qz', 'tx_m', 'ty_m', 'tz_m')
Columns = dict[str, NDArray[Any]]


def read_columns(path: Path, names: Sequence[str]) -> Columns:
    """Columns of a feather table.

    Raises:
        InputError: no such file, not a complete table, or a column is missing.
    """
    feather = import_extra('pyarrow.feather', 'argoverse2')
    arrow = import_extra('pyarrow', 'argoverse2')
    try:
        table = feather.read_table(path, memory_map=False)
    except FileNotFoundError as error:
        raise InputError('the table does not exist', where=path, fix='complete the log') from error
    except (arrow.ArrowInvalid, OSError) as error:
        raise InputError(
            'the table cannot be read', where=path, got=error, fix='download the file again'
        ) from error
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InputError(
            'the table lacks columns', where=path, expected=missing, got=table.column_names
        )
    return {name: table.column(name).to_numpy() for name in names}


def read_sweep(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Read a sweep.

    Returns:
        xyz: (N, 3) metres in the frame of the car, which is x forward, y left, z up.
        intensity: (N,) 0 to 1.
        times: (N,) seconds from the sweep's stamp, its beginning.

    Raises:
        InputError: the table cannot be read, no points, or not finite.
    """
    table = read_columns(path, ('x', 'y', 'z', 'intensity', 'offset_ns'))
    xyz = np.column_stack([table['x'], table['y'], table['z']]).astype(np.float64)
    intensity = (table['intensity'] / INTENSITY_MAX).astype(np.float32)
    points = np.column_stack([xyz, intensity]).astype(np.float32)
    check_points(points, path)
    check_all_finite(points, path)
    return xyz, intensity, (table['offset_ns'] * 1e-9).astype(np.float32)


def read_poses(path: Path, stamps_ns: Sequence[int]) -> NDArray[np.float64]:
    """Read where the car was at some stamps.

    Returns:
        (len(stamps_ns), 7), quaternion w x y z and metres of city_from_car.

    Raises:
        InputError: the table cannot be read, or has no pose of a stamp.
    """
    table = read_columns(path, ('timestamp_ns', *POSE_COLUMNS))
    rows = {int(stamp): row for row, stamp in enumerate(table['timestamp_ns'])}
    missing = [stamp for stamp in stamps_ns if stamp not in rows]
    if missing:
        raise InputError(
            'the log has no pose of a recording',
            where=path,
            expected=f'timestamp_ns {missing[0]}',
            got=f'nothing for {len(missing)} of {len(stamps_ns)} sweeps and images',
            fix='restore the original file',
        )
    chosen = [rows[stamp] for stamp in stamps_ns]
    return np.column_stack([table[name][chosen] for name in POSE_COLUMNS]).astype(np.float64)


def read_extrinsics(log: Path, sensors: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """car_from_sensor (4, 4) of some sensors.

    Raises:
        InputError: the table cannot be read or lacks a sensor.
    """
    path = log / 'calibration' / 'egovehicle_SE3_sensor.feather'
    table = read_columns(path, ('sensor_name', *POSE_COLUMNS))
    poses = np.column_stack([table[name] for name in POSE_COLUMNS]).astype(np.float64)
    rows = _rows(table, sensors, path)
    return {name: from_wxyz(poses[row]) for name, row in rows.items()}


def read_intrinsics(
    log: Path, cameras: Sequence[str]
) -> dict[str, tuple[NDArray[np.float64], tuple[int, int]]]:
    """Pinhole matrix (3, 3), height and width of some cameras.

    The table also holds k1, k2 and k3. They tell of the lens and not of the images, which are
    published without distortion (user guide of the data set, sensor suite).

    Raises:
        InputError: the table cannot be read or lacks a camera.
    """
    path = log / 'calibration' / 'intrinsics.feather'
    names = ('fx_px', 'fy_px', 'cx_px', 'cy_px', 'height_px', 'width_px')
    table = read_columns(path, ('sensor_name', *names))
    found = {}
    for camera, row in _rows(table, cameras, path).items():
        fx, fy, cx, cy, height, width = (float(table[name][row]) for name in names)
        matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        found[camera] = matrix, (int(height), int(width))
    return found


def _rows(table: Mapping[str, NDArray[Any]], sensors: Sequence[str], path: Path) -> dict[str, int]:
    """Row of each sensor."""
    rows = {str(name): row for row, name in enumerate(table['sensor_name'])}
    missing = [name for name in sensors if name not in rows]
    if missing:
        raise InputError(
            'the calibration lacks sensors', where=path, expected=missing, got=sorted(rows)
        )
    return {name: rows[name] for name in sensors}
