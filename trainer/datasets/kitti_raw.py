# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A drive in the layout of KITTI raw (synced, rectified), without labels.

Files: `velodyne_points/data/*.bin` (float32 x y z intensity), `image_0N/data/*.png`,
`calib_velo_to_cam.txt` and `calib_cam_to_cam.txt` in the drive or in the folder above it. The
sweeps have the times of `velodyne_points/timestamps.txt`, or are 0.1 s apart where it is absent.
The images are taken as the lidar faces forward, so one rigid transform joins them, and the motion
in `oxts/` is not needed. Sweep and images of one number belong together. Format: A. Geiger et al.,
Vision meets Robotics: The KITTI Dataset, IJRR 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.images import check_size, read_rgb
from reldistill_ros.cameras.transforms import make_transform
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from trainer.datasets.kitti_calibration import read_calibration, read_matrix, split_projection
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.sweeps import (
    SweepRange,
    Sweeps,
    check_all_finite,
    check_points,
    number_files,
    select_sweeps,
)

SWEEP_PERIOD_NS = 100_000_000
BYTES_PER_POINT = 16

KittiCamera = Literal['image_00', 'image_01', 'image_02', 'image_03']


@dataclass(frozen=True)
class RectifiedCamera:
    """Calibration of a camera.

    Attributes:
        intrinsics: (3, 3).
        camera_from_lidar: (4, 4).
        image_size: height and width of its rectified images.
    """

    intrinsics: NDArray[np.float64]
    camera_from_lidar: NDArray[np.float64]
    image_size: tuple[int, int]


class KittiRawSettings(Settings):
    """One drive.

    Attributes:
        path: folder of the drive, relative to the data root.
        label_maps: maps of a 2D network lie in `<label_maps>_<camera number>`, such as
            `label_maps_02`; relative to the data root.
        cameras: which cameras are read.
        sweeps: which sweeps are read, by the numbers of their files.
    """

    format: Literal['kitti_raw']
    path: Path
    label_maps: Path | None = None
    cameras: tuple[KittiCamera, ...] = ('image_02',)
    sweeps: Sweeps = SweepRange()


class KittiRaw:
    """Implements `Dataset`.

    Args:
        settings: which drive.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: a folder, a file or a calibration is missing or malformed.
    """

    name = 'kitti_raw'
    label_names: tuple[str, ...] = ()
    intensity_max = 1.0

    def __init__(self, settings: KittiRawSettings, data_root: Path) -> None:
        self._settings = settings
        self._drive = data_root / settings.path
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        cameras: tuple[str, ...] = settings.cameras
        self._cameras = {name: read_camera(self._drive, name) for name in cameras}
        self._sweeps = number_files(self._drive / 'velodyne_points' / 'data', '.bin')
        self._images = {
            name: number_files(self._drive / name / 'data', '.png') for name in cameras
        }
        present = {'velodyne_points': self._sweeps, **self._images}
        self._numbers = select_sweeps(settings.sweeps, present, self._drive)
        self._stamps = read_stamps(self._drive, self._numbers)
        self.sample_ids = tuple(
            f'{settings.path.as_posix()}/{self._sweeps[number].stem}' for number in self._numbers
        )

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Sample:
        number = self._numbers[index]
        points = read_sweep(self._sweeps[number])
        return Sample(
            sample_id=self.sample_ids[index],
            stamp_ns=self._stamps[number],
            points=points,
            times=np.zeros(len(points), dtype=np.float32),
            images=tuple(self._read_image(camera, number) for camera in self._cameras),
        )

    def _read_image(self, name: str, number: int) -> CameraImage:
        path, camera = self._images[name][number], self._cameras[name]
        image = read_rgb(path, path)
        check_size(image, camera.image_size, f'{path}, calib_cam_to_cam.txt')
        class_map = confidence = None
        if self._label_maps is not None:
            suffix = name.removeprefix('image_')
            folder = self._label_maps.with_name(f'{self._label_maps.name}_{suffix}')
            class_map, confidence = read_label_maps(folder, path.stem)
        return CameraImage(
            camera=name,
            image_id=f'{self._settings.path.as_posix()}/{name}/{path.stem}',
            image=image,
            intrinsics=camera.intrinsics,
            camera_from_lidar=camera.camera_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )


def read_sweep(path: Path) -> NDArray[np.float32]:
    """Read a `.bin` file.

    Returns:
        (N, 4) float32, x y z in the lidar frame and intensity 0 to 1.

    Raises:
        InputError: the size is not a multiple of 16 bytes, no points, or not finite.
    """
    content = path.read_bytes()
    if len(content) % BYTES_PER_POINT:
        raise InputError(
            'the sweep has the wrong byte count',
            where=path,
            expected=f'a multiple of {BYTES_PER_POINT} bytes: float32 x y z intensity',
            got=f'{len(content)} bytes',
            fix='copy the file again: it was probably cut off',
        )
    points = np.frombuffer(content, dtype='<f4').reshape(-1, 4).astype(np.float32)
    check_points(points, path)
    check_all_finite(points, path)
    return points


def read_camera(drive: Path, name: str) -> RectifiedCamera:
    """Read the calibration of a rectified camera.

    Raises:
        InputError: a file, a key or a number is missing.
    """
    number = name.removeprefix('image_')
    cameras = read_calibration(find_calibration(drive, 'calib_cam_to_cam.txt'))
    lidar = read_calibration(find_calibration(drive, 'calib_velo_to_cam.txt'))
    rectify = make_transform(read_matrix(cameras, 'R_rect_00', (3, 3)), np.zeros(3))
    reference_from_lidar = make_transform(
        read_matrix(lidar, 'R', (3, 3)), read_matrix(lidar, 'T', (3, 1))[:, 0]
    )
    intrinsics, camera_from_lidar = split_projection(
        read_matrix(cameras, f'P_rect_{number}', (3, 4)), rectify @ reference_from_lidar
    )
    width, height = read_matrix(cameras, f'S_rect_{number}', (1, 2))[0]
    return RectifiedCamera(intrinsics, camera_from_lidar, (int(height), int(width)))


def find_calibration(drive: Path, name: str) -> Path:
    """Path of a calibration file.

    Raises:
        InputError: the file is neither in the drive nor in the folder above it.
    """
    candidates = (drive / name, drive.parent / name)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise InputError(
            'the calibration does not exist',
            where=candidates[0],
            expected='the file in the drive or in the folder above it',
            fix='copy the calibration of the recording day into the drive',
        )
    return path


def read_stamps(drive: Path, numbers: Sequence[int]) -> dict[int, int]:
    """When the lidar faced forward in each of some sweeps, in nanoseconds.

    `velodyne_points/timestamps.txt` has a line for every sweep, such as
    `2011-09-26 13:02:25.951199337`, in the local time of the recording, which is taken for UTC.
    Without the file the sweeps are 0.1 s apart.

    Raises:
        InputError: a sweep has no line, or the line is no time.
    """
    path = drive / 'velodyne_points' / 'timestamps.txt'
    if not path.is_file():
        return {number: number * SWEEP_PERIOD_NS for number in numbers}
    lines = path.read_text(encoding='utf-8').splitlines()
    return {number: _parse_stamp(lines, number, path) for number in numbers}


def _parse_stamp(lines: Sequence[str], number: int, path: Path) -> int:
    text = lines[number].strip() if number < len(lines) else ''
    try:
        stamp: np.datetime64 = np.datetime64(text or 'NaT', 'ns')
    except ValueError:
        stamp = np.datetime64('NaT', 'ns')
    if np.isnat(stamp):
        raise InputError(
            'the sweep has no time',
            where=f'{path}, line {number + 1}',
            expected='a time such as 2011-09-26 13:02:25.951199337',
            got=text or f'{len(lines)} lines',
            fix='restore the original file, or remove it for sweeps that are 0.1 s apart',
        )
    return int(stamp.astype(np.int64))
