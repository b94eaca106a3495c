# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which files of nuScenes make up the sweeps: what the tables say, in a few compact arrays.

The full data set has 2.6 million files; what is kept of each used one is a row of an array, so
that the index of all its keyframes takes some 40 MB and is quickly sent to another process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from trainer.datasets.nuscenes_rows import (
    EXTRACT_AGAIN,
    LIDAR,
    File,
    Sensor,
    read_ego_poses,
    read_files,
    read_label_files,
    read_samples,
    read_sensors,
)

NO_IMAGE = -1
NO_POSE = (np.nan,) * 7
MAX_TIME_DIFFERENCE_US = 100_000  # of the image nearest to a sweep between keyframes


@dataclass(frozen=True)
class Index:
    """The sweeps of some scenes, scene by scene in order of time.

    Attributes:
        files: (M,) structured: `path`, `stamp_us`, `sensor` (an index into `sensors`),
            `size` (height, width) and `global_from_ego` (7,), quaternion w x y z and metres;
            NaN where it was not asked for.
        sensors: how each sensor was mounted.
        sweeps: (S, 1 + cameras) int32, rows of `files`: the sweep, then the image of each
            camera or `NO_IMAGE`.
        scenes: (S,) name of each sweep's scene.
        labels: (S,) file of each sweep's labels, '' where there is none.
    """

    files: NDArray[np.void]
    sensors: tuple[Sensor, ...]
    sweeps: NDArray[np.int32]
    scenes: tuple[str, ...]
    labels: tuple[str, ...]


def build_index(
    tables: Path, scenes: Sequence[str], cameras: Sequence[str], between_keyframes: bool
) -> Index:
    """Read the tables.

    Args:
        tables: folder of the version.
        scenes: names of the scenes to use.
        cameras: channels to use.
        between_keyframes: whether the sweeps and images between the keyframes are used too.

    Raises:
        InputError: a table is missing or malformed, or a keyframe lacks a file.
    """
    sensors, sensor_tokens = read_sensors(tables, (LIDAR, *cameras))
    samples = read_samples(tables, scenes)
    files = read_files(tables, samples, sensor_tokens, between_keyframes)
    order = {name: number for number, name in enumerate(scenes)}
    files.sort(key=lambda file: (order[file.scene], file.stamp_us))
    ego_poses = read_ego_poses(tables, files) if cameras else {}
    sweeps = _join(files, [sensors[file.sensor].channel for file in files], cameras, scenes)
    labels = read_label_files(tables)
    lidar = [files[row] for row in sweeps[:, 0]]
    return Index(
        files=_pack(files, ego_poses),
        sensors=sensors,
        sweeps=sweeps,
        scenes=tuple(file.scene for file in lidar),
        labels=tuple(labels.get(file.token, '') for file in lidar),
    )


def _join(
    files: Sequence[File], channels: Sequence[str], cameras: Sequence[str], scenes: Sequence[str]
) -> NDArray[np.int32]:
    """The sweeps with their images; see `Index.sweeps`."""
    rows: dict[tuple[str, str], list[int]] = {}
    for row, (file, channel) in enumerate(zip(files, channels)):
        rows.setdefault((file.scene, channel), []).append(row)
    joined = []
    for scene in scenes:
        sweeps = rows.get((scene, LIDAR), [])
        if not sweeps:
            raise InputError('the tables have no sweep of a scene', where=scene, fix=EXTRACT_AGAIN)
        images = [_images_of(sweeps, rows.get((scene, c), []), files, c) for c in cameras]
        joined.append(np.array([sweeps, *images], np.int32).T)
    return np.concatenate(joined)


def _images_of(
    sweeps: Sequence[int], images: Sequence[int], files: Sequence[File], camera: str
) -> list[int]:
    """Row of the image of each sweep of a scene.

    A keyframe's image is that of the same row of `sample`, which need not be the nearest in
    time; between keyframes it is the nearest.
    """
    of_sample = {files[row].sample: row for row in images if files[row].is_key_frame}
    stamps = np.array([files[row].stamp_us for row in images], np.int64)
    found = []
    for sweep in (files[row] for row in sweeps):
        if not sweep.is_key_frame:
            found.append(_nearest(stamps, images, sweep.stamp_us))
        elif sweep.sample in of_sample:
            found.append(of_sample[sweep.sample])
        else:
            raise InputError(
                'a keyframe has no image of a camera',
                where=f'sample_data.json: {sweep.path}',
                expected=f'a row of {camera} with the sample_token {sweep.sample}',
                fix='leave the camera out of `cameras` in the settings',
            )
    return found


def _nearest(stamps: NDArray[np.int64], images: Sequence[int], stamp_us: int) -> int:
    """Row of the image nearest in time, `NO_IMAGE` where none is near."""
    if len(stamps) == 0:
        return NO_IMAGE
    nearest = int(np.abs(stamps - stamp_us).argmin())
    is_near = abs(int(stamps[nearest]) - stamp_us) <= MAX_TIME_DIFFERENCE_US
    return images[nearest] if is_near else NO_IMAGE


def _pack(files: Sequence[File], ego_poses: Mapping[str, tuple[float, ...]]) -> NDArray[np.void]:
    """The files as rows of an array; see `Index.files`."""
    longest = max((len(file.path.encode()) for file in files), default=1)
    layout: list[tuple[str, Any] | tuple[str, Any, int]] = [
        ('path', f'S{longest}'),
        ('stamp_us', np.int64),
        ('sensor', np.int32),
        ('size', np.int32, 2),
        ('global_from_ego', np.float64, 7),
    ]
    packed = np.zeros(len(files), np.dtype(layout))
    for row, file in enumerate(files):
        pose = ego_poses.get(file.ego_pose, NO_POSE)
        packed[row] = (file.path.encode(), file.stamp_us, file.sensor, file.size, pose)
    return packed
