# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A scene in the layout of PandaSet, with a label for every point.

The points are stored in the world frame, freed from the motion of the car. `lidar/poses.json`
gives the world pose of the car's base on the ground (x right, y forward, z up), not of a lidar.
This reader moves the points to a frame of REP 103 (x forward, y left, z up) whose origin is the
Pandar64, so that heights and ranges mean the same as with any other roof lidar. Format: P. Xiao
et al., PandaSet: Advanced Sensor Suite Dataset for Autonomous Driving, ITSC 2021.
"""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.images import read_rgb
from reldistill_ros.cameras.transforms import apply, invert, make_transform
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from trainer.datasets.image_centre import check_centre
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.pandaset_files import (
    read_camera,
    read_classes,
    read_columns,
    read_poses,
    read_stamps,
)
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.sweeps import (
    SweepRange,
    Sweeps,
    check_all_finite,
    check_points,
    check_same_length,
    number_files,
    select_sweeps,
)

# Columns: our forward, left and up in the base frame (x right, y forward, z up). The position
# is the Pandar64's: the published camera_from_pandar64 of the front camera, taken to the base
# frame by the poses of camera and base while the car stands still (scene 002).
BASE_FROM_LIDAR = make_transform(
    np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), (0.0, 0.81, 1.85)
)
# A camera fires within the turn of the lidar, which takes 0.1 s; the next turn's image is farther.
MAX_TIME_DIFFERENCE = 0.12
ENDING = '.pkl.gz'
SENSOR_NUMBERS = {'pandar64': (0,), 'pandargt': (1,), 'both': (0, 1)}


class PandaSetSettings(Settings):
    """One scene.

    Attributes:
        path: folder of the scene, relative to the data root.
        label_maps: folder with the maps of a 2D network, one folder per camera in it; relative
            to the data root.
        cameras: which cameras are read.
        sweeps: which sweeps are read, by the numbers of their files.
        sensor: the spinning Pandar64, the forward-looking PandarGT, or both together.
    """

    format: Literal['pandaset']
    path: Path
    label_maps: Path | None = None
    cameras: tuple[str, ...] = ('front_camera',)
    sweeps: Sweeps = SweepRange()
    sensor: Literal['pandar64', 'pandargt', 'both'] = 'pandar64'


class PandaSet:
    """Implements `Dataset`.

    Args:
        settings: which scene.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: a folder or a JSON file is missing or malformed.
    """

    name = 'pandaset'
    intensity_max = 255.0

    def __init__(self, settings: PandaSetSettings, data_root: Path) -> None:
        self._settings = settings
        self._scene = data_root / settings.path
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        lidar = self._scene / 'lidar'
        self._poses = read_poses(lidar / 'poses.json')
        self._stamps = read_stamps(lidar / 'timestamps.json')
        self._cameras = {
            name: read_camera(self._scene / 'camera' / name) for name in settings.cameras
        }
        self._sweeps = number_files(lidar, ENDING)
        images = {name: camera.images for name, camera in self._cameras.items()}
        self._numbers = select_sweeps(
            settings.sweeps, {'lidar': self._sweeps, **images}, self._scene
        )
        for number in self._numbers:
            self._check_frame(number)
        self.sample_ids = tuple(
            f'{settings.path.as_posix()}/{self._stem(number)}' for number in self._numbers
        )
        self.label_names, self._label_table = read_classes(self._scene)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Sample:
        number = self._numbers[index]
        path = self._sweeps[number]
        world_from_lidar = self._poses[number] @ BASE_FROM_LIDAR
        table = read_columns(path, ('x', 'y', 'z', 'i', 't', 'd'))
        is_used = np.isin(table['d'], SENSOR_NUMBERS[self._settings.sensor])
        points = self._make_points(table, world_from_lidar)
        check_points(points[is_used], path)
        check_all_finite(points, path)
        stamp = self._stamps[number]
        return Sample(
            sample_id=self.sample_ids[index],
            stamp_ns=round(stamp * 1e6) * 1000,
            points=points[is_used],
            times=(table['t'] - stamp).astype(np.float32)[is_used],
            images=tuple(
                self._read_image(name, number, world_from_lidar) for name in self._cameras
            ),
            labels=self._read_labels(self._stem(number), is_used),
        )

    def _make_points(
        self, table: dict[str, NDArray[Any]], world_from_lidar: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """(N, 4) float32 in the lidar frame."""
        world = np.stack([table['x'], table['y'], table['z']], axis=1)
        lidar = apply(invert(world_from_lidar), world)
        return np.column_stack([lidar, table['i'] / self.intensity_max]).astype(np.float32)

    def _read_labels(self, stem: str, is_used: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
        """(N,) uint8 of the used points, None where the scene has no labels."""
        if not self.label_names:
            return None
        path = self._scene / 'annotations' / 'semseg' / f'{stem}.pkl.gz'
        numbers = read_columns(path, ('class',))['class']
        check_same_length('labels', len(numbers), len(is_used), path)
        labels = self._label_table[np.clip(numbers, 0, 255).astype(np.int64)]
        return np.asarray(labels[is_used], dtype=np.uint8)

    def _read_image(
        self, name: str, number: int, world_from_lidar: NDArray[np.float64]
    ) -> CameraImage:
        camera = self._cameras[name]
        path = camera.images[number]
        image = read_rgb(path, path)
        check_centre(image, camera.intrinsics, f'{path}, intrinsics.json')
        class_map = confidence = None
        if self._label_maps is not None:
            class_map, confidence = read_label_maps(self._label_maps / name, path.stem)
        return CameraImage(
            camera=name,
            image_id=f'{self._settings.path.as_posix()}/{name}/{path.stem}',
            image=image,
            intrinsics=camera.intrinsics,
            camera_from_lidar=invert(camera.poses[number]) @ world_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )

    def _stem(self, number: int) -> str:
        return self._sweeps[number].name.removesuffix(ENDING)

    def _check_frame(self, number: int) -> None:
        """Reject a sweep without pose, or with an image taken at another time."""
        cameras = self._cameras.values()
        tables: list[Sized] = [self._stamps, self._poses]
        tables += [table for camera in cameras for table in (camera.stamps, camera.poses)]
        if number >= min(map(len, tables)):
            raise InputError(
                'the scene has no pose or no time for a sweep',
                where=self._sweeps[number],
                expected=f'{number + 1} entries in every poses.json and timestamps.json',
                fix='complete the files, or leave the sweep out by `sweeps` in the settings',
            )
        for camera in cameras:
            difference = camera.stamps[number] - self._stamps[number]
            if abs(difference) > MAX_TIME_DIFFERENCE:
                raise InputError(
                    'the image and the sweep do not belong together',
                    where=f'{camera.images[number]} and {self._sweeps[number]}',
                    expected=f'timestamps.json that differ by {MAX_TIME_DIFFERENCE} s at most',
                    got=f'{difference:+.3f} s',
                    fix='restore the original files, or leave the sweep out by `sweeps`',
                )
