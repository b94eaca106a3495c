# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A scene in the layout of PandaSet, with a label for every point.

The points are stored in the world frame, freed from the motion of the car. `lidar/poses.json`
gives the world pose of the car's base on the ground (x right, y forward, z up), not of a lidar.
This reader moves the points to a frame of REP 103 (x forward, y left, z up) whose origin is the
Pandar64, so that heights and ranges mean the same as with any other roof lidar. Format: P. Xiao
et al., PandaSet: Advanced Sensor Suite Dataset for Autonomous Driving, ITSC 2021.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from trainer.datasets.images import read_rgb
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.safe_pickle import read_table
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.sweeps import (
    SweepRange,
    Sweeps,
    check_all_finite,
    check_points,
    check_same_length,
    label_lookup,
    select_sweeps,
)
from trainer.datasets.transforms import apply, from_quaternion, invert, make_transform

# Columns: our forward, left and up in the base frame (x right, y forward, z up). The position
# is the Pandar64's: the published camera_from_pandar64 of the front camera, taken to the base
# frame by the poses of camera and base while the car stands still (scene 002).
BASE_FROM_LIDAR = make_transform(
    np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), (0.0, 0.81, 1.85)
)
SENSOR_NUMBERS = {'pandar64': (0,), 'pandargt': (1,), 'both': (0, 1)}


class PandaSetSettings(Settings):
    """One scene.

    Attributes:
        path: folder of the scene, relative to the data root.
        label_maps: folder with the maps of a 2D network, one folder per camera in it; relative
            to the data root.
        cameras: which cameras are read.
        sweeps: which sweeps are read.
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
        files = sorted((self._scene / 'lidar').glob('*.pkl.gz'))
        selected = select_sweeps(settings.sweeps, len(files), self._scene / 'lidar')
        self._files = [files[number] for number in selected]
        self._poses = read_poses(self._scene / 'lidar' / 'poses.json')
        self._stamps = _read_json(self._scene / 'lidar' / 'timestamps.json', list)
        cameras = {name: self._scene / 'camera' / name for name in settings.cameras}
        self._camera_poses = {
            name: read_poses(folder / 'poses.json') for name, folder in cameras.items()
        }
        self._intrinsics = {
            name: read_intrinsics(folder / 'intrinsics.json') for name, folder in cameras.items()
        }
        self.label_names, self._label_table = _read_classes(self._scene)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path = self._files[index]
        stem = path.name.removesuffix('.pkl.gz')
        frame = _frame_number(path, stem, min(len(self._poses), len(self._stamps)))
        world_from_lidar = self._poses[frame] @ BASE_FROM_LIDAR
        table = _read_columns(path, ('x', 'y', 'z', 'i', 't', 'd'))
        is_used = np.isin(table['d'], SENSOR_NUMBERS[self._settings.sensor])
        points = self._make_points(table, world_from_lidar)
        check_points(points[is_used], path)
        check_all_finite(points, path)
        stamp = float(self._stamps[frame])
        return Sample(
            sample_id=f'{self._settings.path.as_posix()}/{stem}',
            stamp_ns=round(stamp * 1e6) * 1000,
            points=points[is_used],
            times=(table['t'] - stamp).astype(np.float32)[is_used],
            images=tuple(
                self._read_image(camera, stem, world_from_lidar) for camera in self._intrinsics
            ),
            labels=self._read_labels(stem, is_used),
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
        numbers = _read_columns(path, ('class',))['class']
        check_same_length('labels', len(numbers), len(is_used), path)
        labels = self._label_table[np.clip(numbers, 0, 255).astype(np.int64)]
        return np.asarray(labels[is_used], dtype=np.uint8)

    def _read_image(
        self, camera: str, stem: str, world_from_lidar: NDArray[np.float64]
    ) -> CameraImage:
        path = self._scene / 'camera' / camera / f'{stem}.jpg'
        poses = self._camera_poses[camera]
        world_from_camera = poses[_frame_number(path, stem, len(poses))]
        class_map = confidence = None
        if self._label_maps is not None:
            class_map, confidence = read_label_maps(self._label_maps / camera, stem)
        return CameraImage(
            camera=camera,
            image_id=f'{self._settings.path.as_posix()}/{camera}/{stem}',
            image=read_rgb(path, path),
            intrinsics=self._intrinsics[camera],
            camera_from_lidar=invert(world_from_camera) @ world_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )


def read_poses(path: Path) -> list[NDArray[np.float64]]:
    """Read world_from_sensor (4, 4) of every frame.

    Raises:
        InputError: the file is missing or malformed.
    """
    try:
        return [
            from_quaternion(
                [pose['heading'][axis] for axis in 'xyzw'],
                [pose['position'][axis] for axis in 'xyz'],
            )
            for pose in _read_json(path, list)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            'the poses are malformed',
            where=path,
            expected='a list of {"position": {"x", "y", "z"}, "heading": {"w", "x", "y", "z"}}',
            got=repr(error),
        ) from error


def read_intrinsics(path: Path) -> NDArray[np.float64]:
    """Read the (3, 3) pinhole matrix of a camera.

    Raises:
        InputError: the file is missing or malformed.
    """
    values = _read_json(path, dict)
    try:
        fx, fy, cx, cy = (float(values[key]) for key in ('fx', 'fy', 'cx', 'cy'))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            'the intrinsics are malformed', where=path, expected='fx, fy, cx, cy', got=values
        ) from error
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _read_classes(scene: Path) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Label names in the order of their numbers, and the position of each number."""
    folder = scene / 'annotations' / 'semseg'
    if not folder.is_dir():
        return (), label_lookup([])
    path = folder / 'classes.json'
    classes = _read_json(path, dict)
    if not all(key.isdecimal() and int(key) < 255 for key in classes):
        raise InputError(
            'the classes are malformed', where=path, expected='numbers to 254 as keys', got=classes
        )
    numbers = sorted(int(key) for key in classes)
    return tuple(str(classes[str(number)]) for number in numbers), label_lookup(numbers)


def _read_json(path: Path, kind: type) -> Any:
    """Read a JSON file that holds a list or a dict."""
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise InputError(
            'the file does not exist', where=path, fix='complete the scene'
        ) from error
    except ValueError as error:
        raise InputError('the file is not JSON', where=path, got=error) from error
    if not isinstance(values, kind):
        raise InputError(f'the file holds no {kind.__name__}', where=path, got=type(values))
    return values


def _read_columns(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read a table that must have these columns."""
    table = read_table(path)
    if not set(names) <= set(table):
        raise InputError(
            'the table lacks columns', where=path, expected=list(names), got=list(table)
        )
    return table


def _frame_number(path: Path, stem: str, num_frames: int) -> int:
    """Number of the frame, which the file is named after."""
    if not stem.isdecimal() or int(stem) >= num_frames:
        raise InputError(
            'the scene has no pose for the file',
            where=path,
            expected=f'a file named after its frame, 0 to {num_frames - 1}',
            got=stem,
        )
    return int(stem)
