# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The Argoverse 2 sensor data set, which has no labels of points.

Files of a log: `sensors/lidar/<ns>.feather`, `sensors/cameras/<camera>/<ns>.jpg`,
`calibration/{intrinsics,egovehicle_SE3_sensor}.feather` and `city_SE3_egovehicle.feather`, which
has a pose for each of them. The points of both lidars lie in the frame of the car at the sweep's
stamp; this reader moves them to the upper lidar, with the axes of the car, so that heights and
ranges mean the same as with any other roof lidar. Sweep and image have poses of their own. Format:
B. Wilson et al., Argoverse 2: Next Generation Datasets for Self-Driving Perception and
Forecasting, NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from reldistill_ros.cameras.images import check_size, read_rgb
from reldistill_ros.cameras.transforms import invert
from trainer.datasets.argoverse2_files import INTENSITY_MAX, read_sweep
from trainer.datasets.argoverse2_log import (
    CAMERAS,
    LIDAR,
    NO_IMAGE,
    Argoverse2Settings,
    Log,
    find_logs,
    open_log,
)
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.sample import CameraImage, Sample

LOGGER = logging.getLogger(__name__)


class Argoverse2:
    """Implements `Dataset`.

    Args:
        settings: which logs.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: a log, a file or a calibration is missing or malformed.
    """

    name = 'argoverse2'
    label_names: tuple[str, ...] = ()
    intensity_max = INTENSITY_MAX

    def __init__(self, settings: Argoverse2Settings, data_root: Path) -> None:
        self._settings = settings
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        root = data_root / settings.path
        logs = [open_log(root / name, settings) for name in settings.logs or find_logs(root)]
        self._sweeps = [(log, row) for log in logs for row in range(len(log.recordings))]
        self.sample_ids = tuple(
            f'{settings.path.as_posix()}/{log.folder.name}/{log.recordings[row, 0]}'
            for log, row in self._sweeps
        )
        self._tell_missing_images()

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> Sample:
        log, row = self._sweeps[index]
        stamp_ns, *images_ns = log.recordings[row].tolist()
        xyz, intensity, times = read_sweep(log.folder / LIDAR / f'{stamp_ns}.feather')
        from_car = xyz - log.car_from_lidar[:3, 3]
        return Sample(
            sample_id=self.sample_ids[index],
            stamp_ns=stamp_ns,
            points=np.column_stack([from_car, intensity]).astype(np.float32),
            times=times,
            images=tuple(
                self._read_image(log, name, image_ns, stamp_ns)
                for name, image_ns in zip(log.cameras, images_ns)
                if image_ns != NO_IMAGE
            ),
        )

    def _read_image(self, log: Log, name: str, image_ns: int, stamp_ns: int) -> CameraImage:
        path = log.folder / CAMERAS / name / f'{image_ns}.jpg'
        intrinsics, size = log.intrinsics[name]
        image = read_rgb(path, path)
        check_size(image, size, f'{path}, intrinsics.feather')
        class_map = confidence = None
        if self._label_maps is not None:
            folder = self._label_maps / log.folder.name / name
            class_map, confidence = read_label_maps(folder, path.stem)
        city_from_lidar = log.city_from_car(stamp_ns) @ log.car_from_lidar
        city_from_camera = log.city_from_car(image_ns) @ log.car_from_sensor[name]
        return CameraImage(
            camera=name,
            image_id=f'{self._settings.path.as_posix()}/{log.folder.name}/{name}/{image_ns}',
            image=image,
            intrinsics=intrinsics,
            camera_from_lidar=invert(city_from_camera) @ city_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )

    def _tell_missing_images(self) -> None:
        """Warn of the sweeps that come without an image of a camera."""
        for column, name in enumerate(self._settings.cameras, 1):
            missing = sum(log.recordings[row, column] == NO_IMAGE for log, row in self._sweeps)
            if missing:
                LOGGER.warning(
                    f'{self._settings.path}: {missing} of {len(self)} sweeps come without an '
                    f'image of {name} within {self._settings.max_time_difference} s'
                )
