# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""nuScenes, with the labels of nuScenes-lidarseg where they are extracted.

Files: `<version>/*.json`, `samples/`, `sweeps/` and `lidarseg/`, as the archives are extracted.
The lidar turns 20 times a second; a keyframe every 0.5 s has labels. Sweep and image have ego
poses of their own: a point goes lidar -> ego at the sweep's stamp -> global -> ego at the image's
stamp -> camera. The images are rectified. Tokens, w x y z quaternions and microseconds: schema of
the devkit. Format: H. Caesar et al., nuScenes: A multimodal dataset for autonomous driving, CVPR
2020; W. K. Fong et al., Panoptic nuScenes, RA-L 2022.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from reldistill_ros.cameras.images import check_size, read_rgb
from reldistill_ros.cameras.transforms import from_wxyz, invert
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.nuscenes_files import LIDAR_FROM_OURS, check_files, read_pcd_bin
from trainer.datasets.nuscenes_index import NO_IMAGE, build_index
from trainer.datasets.nuscenes_rows import LIDAR
from trainer.datasets.nuscenes_splits import SplitName, choose_scenes
from trainer.datasets.nuscenes_tables import read_table
from trainer.datasets.raw_labels import name_labels
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.sweeps import SweepRange, Sweeps, check_same_length, select_sweeps

NuScenesCamera = Literal[
    'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_RIGHT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_FRONT_LEFT'
]


class NuScenesSettings(Settings):
    """Some scenes.

    Attributes:
        path: folder that holds `samples/` and the folder of the version.
        version: folder of the tables; where absent, `v1.0-mini` for the splits of that name,
            else `v1.0-trainval`.
        split: an official split.
        scenes: names of the scenes to use instead, such as `scene-0061`; without both, all.
        label_maps: folder with the maps of a 2D network, one folder per camera in it, files
            named after the images; relative to the data root.
        cameras: which cameras are read.
        sweeps: which sweeps are read, counted from 0, scene by scene in order of time.
        between_keyframes: also use the sweeps between the keyframes, which have no labels:
            ten times as many for distillation.
        intensity_max: largest raw intensity.
    """

    format: Literal['nuscenes']
    path: Path
    version: str | None = Field(default=None, pattern=r'^\w[\w.-]*$')
    split: SplitName | None = None
    scenes: tuple[str, ...] | None = Field(default=None, min_length=1)
    label_maps: Path | None = None
    cameras: tuple[NuScenesCamera, ...] = (
        'CAM_FRONT',
        'CAM_FRONT_RIGHT',
        'CAM_BACK_RIGHT',
        'CAM_BACK',
        'CAM_BACK_LEFT',
        'CAM_FRONT_LEFT',
    )
    sweeps: Sweeps = SweepRange()
    between_keyframes: bool = False
    intensity_max: float = Field(default=255.0, gt=0)

    @model_validator(mode='after')
    def _scenes_are_named_once(self) -> NuScenesSettings:
        if self.split is not None and self.scenes is not None:
            raise ValueError('name either a `split` or `scenes`')
        if self.split is not None and self.version == 'v1.0-test':
            raise ValueError('v1.0-test is a split of its own: remove `split`')
        return self

    @property
    def tables(self) -> str:
        """Name of the folder of the tables."""
        is_mini = self.split in ('mini_train', 'mini_val')
        return self.version or ('v1.0-mini' if is_mini else 'v1.0-trainval')


class NuScenes:
    """Implements `Dataset`.

    Args:
        settings: which scenes.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: a table is missing or malformed, or files of the sweeps are missing.
    """

    name = 'nuscenes'

    def __init__(self, settings: NuScenesSettings, data_root: Path) -> None:
        self.intensity_max = settings.intensity_max
        self._settings = settings
        self._root = data_root / settings.path
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        tables = find_tables(self._root, settings.tables)
        scenes = find_scenes(settings, tables)
        index = build_index(tables, scenes, settings.cameras, settings.between_keyframes)
        present = {LIDAR: range(len(index.sweeps))}
        self._numbers = select_sweeps(settings.sweeps, present, tables)
        self._index = index
        check_files(self._root, index, self._numbers)
        self.sample_ids = tuple(
            f'{settings.path.as_posix()}/{index.scenes[number]}/{self._stamp_us(number)}'
            for number in self._numbers
        )
        is_labelled = any(index.labels[number] for number in self._numbers)
        self._label_numbers, self.label_names = read_names(tables) if is_labelled else ((), ())

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Sample:
        number = self._numbers[index]
        lidar, *images = self._index.sweeps[number]
        points = read_pcd_bin(self._path(lidar), self.intensity_max)
        return Sample(
            sample_id=self.sample_ids[index],
            stamp_ns=self._stamp_us(number) * 1000,
            points=points,
            times=np.zeros(len(points), dtype=np.float32),
            images=tuple(
                self._read_image(image, lidar, self._index.scenes[number])
                for image in images
                if image != NO_IMAGE
            ),
            labels=self._read_labels(number, len(points)),
        )

    def _stamp_us(self, number: int) -> int:
        return int(self._index.files['stamp_us'][self._index.sweeps[number, 0]])

    def _path(self, row: int) -> Path:
        path: bytes = self._index.files['path'][row]
        return self._root / path.decode()

    def _global_from_sensor(self, row: int) -> NDArray[np.float64]:
        """Where a sensor was when it recorded a file, (4, 4)."""
        global_from_ego = from_wxyz(self._index.files['global_from_ego'][row])
        ego_from_sensor = self._index.sensors[self._index.files['sensor'][row]].ego_from_sensor
        global_from_sensor: NDArray[np.float64] = global_from_ego @ ego_from_sensor
        return global_from_sensor

    def _read_labels(self, number: int, num_points: int) -> NDArray[np.uint8] | None:
        """(N,) uint8, None between keyframes and where lidarseg is not extracted."""
        if not self._index.labels[number]:
            return None
        path = self._root / self._index.labels[number]
        raw = np.fromfile(path, dtype=np.uint8)
        check_same_length('labels', len(raw), num_points, path)
        return name_labels(raw, self._label_numbers, path)

    def _read_image(self, row: int, lidar: int, scene: str) -> CameraImage:
        path = self._path(row)
        camera = self._index.sensors[self._index.files['sensor'][row]]
        height, width = self._index.files['size'][row].tolist()
        image = read_rgb(path, path)
        check_size(image, (height, width), f'{path}, sample_data.json')
        class_map = confidence = None
        if self._label_maps is not None:
            class_map, confidence = read_label_maps(self._label_maps / camera.channel, path.stem)
        global_from_lidar = self._global_from_sensor(lidar) @ LIDAR_FROM_OURS
        return CameraImage(
            camera=camera.channel,
            image_id=f'{self._settings.path.as_posix()}/{scene}/{path.stem}',
            image=image,
            intrinsics=camera.intrinsics,
            camera_from_lidar=invert(self._global_from_sensor(row)) @ global_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )


def find_tables(root: Path, version: str) -> Path:
    """Folder of the tables.

    Raises:
        InputError: it is not there; says which versions are.
    """
    tables = root / version
    if not tables.is_dir():
        raise InputError(
            'the version of nuScenes does not exist',
            where=tables,
            expected='a folder with scene.json and the other tables',
            got=sorted(path.parent.name for path in root.glob('*/scene.json')) or 'no version',
            fix='change `version` in the settings, or extract its metadata archive',
        )
    return tables


def find_scenes(settings: NuScenesSettings, tables: Path) -> list[str]:
    """Names of the scenes to use, in order.

    Raises:
        InputError: the version does not have a scene.
    """
    present = [row['name'] for row in read_table(tables, 'scene', ['name'])]
    if settings.scenes is None:
        return choose_scenes(settings.split, present)
    missing = sorted({*settings.scenes} - {*present})
    if missing:
        raise InputError(
            'the version does not have the scenes that the settings name',
            where=tables / 'scene.json',
            expected=missing,
            got=f'{len(present)} others',
            fix='change `scenes` or `version` in the settings',
        )
    return list(dict.fromkeys(settings.scenes))


def read_names(tables: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Numbers of the labels and their names.

    Raises:
        InputError: the table of categories is that of the data set without lidarseg.
    """
    rows = read_table(tables, 'category', ['index', 'name'])
    names = {int(row['index']): str(row['name']) for row in rows}
    numbers = tuple(sorted(names))
    return numbers, tuple(names[number] for number in numbers)
