# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Logs of Argoverse 2: settings, and which recordings belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.cameras.transforms import from_wxyz, make_transform
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from trainer.datasets.argoverse2_files import (
    read_extrinsics,
    read_intrinsics,
    read_poses,
)
from trainer.datasets.sweeps import SweepRange, Sweeps, number_files, select_sweeps

UP_LIDAR = 'up_lidar'
LIDAR = Path('sensors', 'lidar')
CAMERAS = Path('sensors', 'cameras')
NO_IMAGE = 0

ArgoverseCamera = Literal[
    'ring_front_center',
    'ring_front_left',
    'ring_front_right',
    'ring_side_left',
    'ring_side_right',
    'ring_rear_left',
    'ring_rear_right',
    'stereo_front_left',
    'stereo_front_right',
]


class Argoverse2Settings(Settings):
    """Some logs.

    Attributes:
        path: folder that holds the logs, such as `sensor/train`, relative to the data root.
        logs: names of the logs to use; all where absent.
        label_maps: folder with the maps of a 2D network, in it `<log>/<camera>/`; relative to
            the data root.
        cameras: which cameras are read.
        sweeps: which sweeps of each log are read, counted from 0 in order of time.
        max_time_difference: between sweep and image, in seconds; a camera without an image that
            near is left out of the sweep. The cameras take 20 images a second.
    """

    format: Literal['argoverse2']
    path: Path
    logs: tuple[str, ...] | None = Field(default=None, min_length=1)
    label_maps: Path | None = None
    cameras: tuple[ArgoverseCamera, ...] = (
        'ring_front_center',
        'ring_front_left',
        'ring_front_right',
        'ring_side_left',
        'ring_side_right',
        'ring_rear_left',
        'ring_rear_right',
    )
    sweeps: Sweeps = SweepRange()
    max_time_difference: float = Field(default=0.03, ge=0)


@dataclass(frozen=True)
class Log:
    """What is known of a log before its sweeps are read.

    Attributes:
        folder: of the log.
        cameras: that are read.
        recordings: (S, 1 + cameras) int64, stamps in nanoseconds: the sweep, then the image of
            each camera or `NO_IMAGE`.
        stamps: (M,) int64, rising: all stamps of `recordings`.
        poses: (M, 7), city_from_car at these stamps: quaternion w x y z and metres.
        car_from_sensor: (4, 4) of the cameras and the upper lidar.
        intrinsics: (3, 3) of the cameras, with height and width of their images.
    """

    folder: Path
    cameras: tuple[str, ...]
    recordings: NDArray[np.int64]
    stamps: NDArray[np.int64]
    poses: NDArray[np.float64]
    car_from_sensor: dict[str, NDArray[np.float64]]
    intrinsics: dict[str, tuple[NDArray[np.float64], tuple[int, int]]]

    def city_from_car(self, stamp_ns: int) -> NDArray[np.float64]:
        """(4, 4) at the stamp of a recording."""
        return from_wxyz(self.poses[np.searchsorted(self.stamps, stamp_ns)])

    @property
    def car_from_lidar(self) -> NDArray[np.float64]:
        """(4, 4) from the axes of the car in the place of the upper lidar."""
        return make_transform(np.eye(3), self.car_from_sensor[UP_LIDAR][:3, 3])


def find_logs(root: Path) -> list[str]:
    """Names of the logs in a folder.

    Raises:
        InputError: there is none.
    """
    logs = sorted(path.parent.parent.name for path in root.glob('*/sensors/lidar'))
    if not logs:
        raise InputError(
            'the folder holds no logs',
            where=root,
            expected='folders with sensors/lidar/',
            got=sorted(path.name for path in root.glob('*/'))[:5],
            fix='set `path` to the folder of a split, such as sensor/train',
        )
    return logs


def open_log(folder: Path, settings: Argoverse2Settings) -> Log:
    """Find the recordings of a log and read its calibration and poses.

    Raises:
        InputError: no sweeps, a file is misnamed, or a table is missing or malformed.
    """
    present = sorted(number_files(folder / LIDAR, '.feather'))
    chosen = select_sweeps(settings.sweeps, {'lidar': range(len(present))}, folder)
    sweeps = np.array(present, np.int64)[chosen]
    limit_ns = round(settings.max_time_difference * 1e9)
    images = [
        nearest_stamps(sorted(number_files(folder / CAMERAS / name, '.jpg')), sweeps, limit_ns)
        for name in settings.cameras
    ]
    recordings = np.column_stack([sweeps, *images])
    stamps = np.setdiff1d(recordings, [NO_IMAGE])
    return Log(
        folder=folder,
        cameras=settings.cameras,
        recordings=recordings,
        stamps=stamps,
        poses=read_poses(folder / 'city_SE3_egovehicle.feather', stamps.tolist()),
        car_from_sensor=read_extrinsics(folder, (UP_LIDAR, *settings.cameras)),
        intrinsics=read_intrinsics(folder, settings.cameras),
    )


def nearest_stamps(
    images: Sequence[int], sweeps: NDArray[np.int64], limit_ns: int
) -> NDArray[np.int64]:
    """Stamp (S,) of the image nearest in time to each sweep, `NO_IMAGE` where none is near enough.

    Args:
        images: stamps in nanoseconds, rising.
        sweeps: (S,) stamps in nanoseconds.
        limit_ns: largest difference.
    """
    if not images:
        return np.full(len(sweeps), NO_IMAGE, np.int64)
    stamps = np.array(images, np.int64)
    after = np.searchsorted(stamps, sweeps).clip(max=len(stamps) - 1)
    before = (after - 1).clip(min=0)
    is_after_nearer = np.abs(stamps[after] - sweeps) < np.abs(stamps[before] - sweeps)
    found = stamps[np.where(is_after_nearer, after, before)]
    return np.where(np.abs(found - sweeps) <= limit_ns, found, NO_IMAGE)
