# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The rows of the tables of nuScenes that the chosen scenes and sensors need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.transforms import from_wxyz
from reldistill_ros.core.errors import InputError
from trainer.datasets.nuscenes_tables import Row, read_table, scan_table

LIDAR = 'LIDAR_TOP'
EXTRACT_AGAIN = 'extract the metadata archive again'
FILE_COLUMNS = (
    'calibrated_sensor_token',
    'token',
    'sample_token',
    'ego_pose_token',
    'timestamp',
    'is_key_frame',
    'filename',
    'height',
    'width',
)


class Sensor(NamedTuple):
    """A sensor as it was mounted in one scene.

    Attributes:
        channel: its name, such as `CAM_FRONT`.
        ego_from_sensor: (4, 4).
        intrinsics: (3, 3), zeros of a lidar.
    """

    channel: str
    ego_from_sensor: NDArray[np.float64]
    intrinsics: NDArray[np.float64]


class File(NamedTuple):
    """A row of `sample_data`, with the scene of its sample."""

    sample: str
    scene: str
    sensor: int
    stamp_us: int
    is_key_frame: bool
    token: str
    ego_pose: str
    path: str
    size: tuple[int, int]


def read_sensors(
    tables: Path, channels: Sequence[str]
) -> tuple[tuple[Sensor, ...], dict[str, int]]:
    """The sensors of some channels, and their positions by token."""
    names = {
        row['token']: row['channel'] for row in read_table(tables, 'sensor', ['token', 'channel'])
    }
    columns = ('token', 'sensor_token', 'translation', 'rotation', 'camera_intrinsic')
    rows = read_table(tables, 'calibrated_sensor', columns)
    rows = [row for row in rows if names.get(row['sensor_token']) in channels]
    sensors = []
    for row in rows:
        channel = names[row['sensor_token']]
        where = f'{tables / "calibrated_sensor.json"}: {row["token"]}'
        sensors.append(
            Sensor(
                channel,
                from_wxyz(_pose(row, where)),
                np.zeros((3, 3))
                if channel == LIDAR
                else _numbers(row['camera_intrinsic'], (3, 3), where),
            )
        )
    return tuple(sensors), {row['token']: number for number, row in enumerate(rows)}


def read_samples(tables: Path, scenes: Sequence[str]) -> dict[str, str]:
    """Scene of each keyframe of some scenes, by the keyframe's token."""
    rows = read_table(tables, 'scene', ['token', 'name'])
    names = {row['token']: row['name'] for row in rows if row['name'] in scenes}
    rows = read_table(tables, 'sample', ['token', 'scene_token'])
    return {r['token']: names[r['scene_token']] for r in rows if r['scene_token'] in names}


def read_files(
    tables: Path, samples: Mapping[str, str], sensors: Mapping[str, int], between: bool
) -> list[File]:
    """The files of some keyframes and sensors, and those between them if they are asked for."""
    shared = {token: (token, scene) for token, scene in samples.items()}  # one text for all files
    return [
        File(
            *shared[row['sample_token']],
            sensors[row['calibrated_sensor_token']],
            int(row['timestamp']),
            bool(row['is_key_frame']),
            row['token'],
            row['ego_pose_token'],
            row['filename'],
            (int(row['height']), int(row['width'])),
        )
        for row in scan_table(tables, 'sample_data', FILE_COLUMNS, sensors)
        if row['sample_token'] in shared and (between or row['is_key_frame'])
    ]


def read_ego_poses(tables: Path, files: Sequence[File]) -> dict[str, tuple[float, ...]]:
    """Quaternion w x y z and translation by token."""
    columns = ('token', 'rotation', 'translation')
    rows = scan_table(tables, 'ego_pose', columns, {file.ego_pose for file in files})
    where = tables / 'ego_pose.json'
    poses = {row['token']: tuple(_pose(row, where)) for row in rows}
    _check_poses(files, poses, tables)
    return poses


def read_label_files(tables: Path) -> dict[str, str]:
    """Label file of each sweep by its token, empty where lidarseg is not there."""
    if not (tables / 'lidarseg.json').is_file():
        return {}
    rows = read_table(tables, 'lidarseg', ['sample_data_token', 'filename'])
    return {row['sample_data_token']: row['filename'] for row in rows}


def _pose(row: Row, where: object) -> NDArray[np.float64]:
    """Quaternion w x y z and translation of a row, (7,)."""
    rotation = _numbers(row['rotation'], (4,), where)
    if not rotation.any():
        raise InputError('a rotation is zero', where=where, got=row, fix=EXTRACT_AGAIN)
    return np.concatenate([rotation, _numbers(row['translation'], (3,), where)])


def _check_poses(
    files: Sequence[File], ego_poses: Mapping[str, tuple[float, ...]], tables: Path
) -> None:
    """Reject a file whose pose the table does not have."""
    missing = [file for file in files if file.ego_pose not in ego_poses]
    if missing:
        raise InputError(
            'the table of poses lacks rows',
            where=tables / 'ego_pose.json',
            expected=f'the token {missing[0].ego_pose} of {missing[0].path}',
            got=f'nothing for {len(missing)} of {len(files)} files',
            fix=EXTRACT_AGAIN,
        )


def _numbers(values: object, shape: tuple[int, ...], where: object) -> NDArray[np.float64]:
    """Finite numbers of a row."""
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise InputError(
            'a row of the table is malformed',
            where=where,
            expected=f'finite numbers of shape {shape}',
            got=values,
            fix=EXTRACT_AGAIN,
        )
    return numbers
