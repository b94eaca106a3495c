# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A drive in the layout of KITTI raw (synced, rectified), without labels.

Files: `velodyne_points/data/*.bin` (float32 x y z intensity), `image_0N/data/*.png`,
`calib_velo_to_cam.txt` and `calib_cam_to_cam.txt` in the drive or in the folder above it. The
sweeps are 0.1 s apart; the images are taken as the lidar faces forward, so one rigid transform
joins them. Format: A. Geiger et al., Vision meets Robotics: The KITTI Dataset, IJRR 2013.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from trainer.datasets.images import read_rgb
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.sweeps import (
    SweepRange,
    Sweeps,
    check_all_finite,
    check_points,
    select_sweeps,
)
from trainer.datasets.transforms import make_transform

SWEEP_PERIOD_NS = 100_000_000
BYTES_PER_POINT = 16

KittiCamera = Literal['image_00', 'image_01', 'image_02', 'image_03']
Calibration = dict[str, NDArray[np.float64]]


class KittiRawSettings(Settings):
    """One drive.

    Attributes:
        path: folder of the drive, relative to the data root.
        label_maps: maps of a 2D network lie in `<label_maps>_<camera number>`, such as
            `label_maps_02`; relative to the data root.
        cameras: which cameras are read.
        sweeps: which sweeps are read.
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
        InputError: a folder or a calibration is missing or malformed.
    """

    name = 'kitti_raw'
    label_names: tuple[str, ...] = ()
    intensity_max = 1.0

    def __init__(self, settings: KittiRawSettings, data_root: Path) -> None:
        self._settings = settings
        self._drive = data_root / settings.path
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        self._cameras: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
            name: read_camera(self._drive, name) for name in settings.cameras
        }
        files = sorted((self._drive / 'velodyne_points' / 'data').glob('*.bin'))
        selected = select_sweeps(settings.sweeps, len(files), self._drive / 'velodyne_points')
        self._files = [files[number] for number in selected]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path = self._files[index]
        points = read_sweep(path)
        return Sample(
            sample_id=f'{self._settings.path.as_posix()}/{path.stem}',
            stamp_ns=_frame_number(path) * SWEEP_PERIOD_NS,
            points=points,
            times=np.zeros(len(points), dtype=np.float32),
            images=tuple(self._read_image(camera, path.stem) for camera in self._cameras),
        )

    def _read_image(self, camera: str, stem: str) -> CameraImage:
        path = self._drive / camera / 'data' / f'{stem}.png'
        intrinsics, camera_from_lidar = self._cameras[camera]
        class_map = confidence = None
        if self._label_maps is not None:
            number = camera.removeprefix('image_')
            folder = self._label_maps.with_name(f'{self._label_maps.name}_{number}')
            class_map, confidence = read_label_maps(folder, stem)
        return CameraImage(
            camera=camera,
            image_id=f'{self._settings.path.as_posix()}/{camera}/{stem}',
            image=read_rgb(path, path),
            intrinsics=intrinsics,
            camera_from_lidar=camera_from_lidar,
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


def read_camera(drive: Path, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intrinsics (3, 3) and camera_from_lidar (4, 4) of a rectified camera.

    A pixel is `P_rect @ R_rect_00 @ [R T] @ point` (IJRR paper, equation 8). The fourth column
    of `P_rect` is moved into camera_from_lidar: `K (x + K^-1 p) = K x + p`.

    Raises:
        InputError: a file, a key or a number is missing.
    """
    number = camera.removeprefix('image_')
    cameras = read_calibration(drive, 'calib_cam_to_cam.txt')
    lidar = read_calibration(drive, 'calib_velo_to_cam.txt')
    projection = _matrix(cameras, f'P_rect_{number}', (3, 4))
    rectify = make_transform(_matrix(cameras, 'R_rect_00', (3, 3)), np.zeros(3))
    reference_from_lidar = make_transform(
        _matrix(lidar, 'R', (3, 3)), _matrix(lidar, 'T', (3, 1))[:, 0]
    )
    intrinsics = projection[:, :3]
    offset = make_transform(np.eye(3), np.linalg.solve(intrinsics, projection[:, 3]))
    return intrinsics, offset @ rectify @ reference_from_lidar


class _KeyedNumbers(Calibration):
    """Numbers by key, and the file that they come from."""

    path: Path


def read_calibration(drive: Path, name: str) -> _KeyedNumbers:
    """Read `key: numbers` lines; lines whose value is not numbers (dates) are left out.

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
    values = _KeyedNumbers()
    values.path = path
    for line in path.read_text(encoding='utf-8').splitlines():
        key, _, text = line.partition(':')
        try:
            values[key.strip()] = np.array([float(word) for word in text.split()])
        except ValueError:
            continue
    return values


def _matrix(calibration: _KeyedNumbers, key: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Matrix under a key."""
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


def _frame_number(path: Path) -> int:
    """Number of the frame, which the file is named after."""
    if not path.stem.isdecimal():
        raise InputError(
            'the sweep is not named after its frame',
            where=path,
            expected='a number such as 0000000000.bin',
        )
    return int(path.stem)
