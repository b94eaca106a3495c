# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI: the sequences of KITTI odometry with a label for every point.

Files: `sequences/NN/` with `velodyne/*.bin` (float32 x y z remission), `labels/*.label`,
`calib.txt`, `times.txt` and `image_2/*.png`. The sweeps are freed from the car's motion to the
moment when the lidar faces forward, which triggers the cameras, so one rigid transform joins sweep
and image, `P2 @ Tr`, and `poses.txt` is not needed. Format: J. Behley et al., SemanticKITTI: A
Dataset for Semantic Scene Understanding of LiDAR Sequences, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from reldistill_ros.cameras.images import read_rgb
from reldistill_ros.cameras.transforms import make_transform
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings
from trainer.datasets.image_centre import check_centre
from trainer.datasets.kitti_calibration import read_calibration, read_matrix, split_projection
from trainer.datasets.kitti_raw import SWEEP_PERIOD_NS, read_sweep
from trainer.datasets.label_maps import read_label_maps
from trainer.datasets.sample import CameraImage, Sample
from trainer.datasets.semantic_kitti_labels import LABEL_NAMES, read_labels
from trainer.datasets.sweeps import SweepRange, Sweeps, number_files, select_sweeps

SPLITS = {'train': (0, 1, 2, 3, 4, 5, 6, 7, 9, 10), 'val': (8,), 'test': tuple(range(11, 22))}

SequenceNumber = Annotated[int, Field(ge=0, le=99)]
OdometryCamera = Literal['image_0', 'image_1', 'image_2', 'image_3']
Calibration = tuple[NDArray[np.float64], NDArray[np.float64]]  # intrinsics, camera_from_lidar


class SemanticKittiSettings(Settings):
    """Some sequences.

    Attributes:
        path: folder that holds `sequences/`, relative to the data root.
        split: `train` (00-07, 09, 10), `val` (08) or `test` (11-21, without labels).
        sequences: numbers of the sequences to use instead.
        label_maps: folder with the maps of a 2D network, in it `NN/<camera>/`; relative to the
            data root.
        cameras: which cameras are read.
        sweeps: which sweeps of each sequence are read, by the numbers of their files.
    """

    format: Literal['semantic_kitti']
    path: Path
    split: Literal['train', 'val', 'test'] | None = None
    sequences: tuple[SequenceNumber, ...] | None = Field(default=None, min_length=1)
    label_maps: Path | None = None
    cameras: tuple[OdometryCamera, ...] = ('image_2',)
    sweeps: Sweeps = SweepRange()

    @model_validator(mode='after')
    def _sequences_are_named_once(self) -> SemanticKittiSettings:
        if (self.split is None) == (self.sequences is None):
            raise ValueError('name either a `split` or `sequences`')
        return self


@dataclass(frozen=True)
class KittiSequence:
    """What is known of a sequence before its sweeps are read.

    Attributes:
        name: its two digits.
        sweeps: its files by number.
        labels: likewise; None where the sequence has no labels.
        images: of each camera, likewise.
        cameras: their calibration.
    """

    name: str
    sweeps: dict[int, Path]
    labels: dict[int, Path] | None
    images: dict[str, dict[int, Path]]
    cameras: dict[str, Calibration]


class SemanticKitti:
    """Implements `Dataset`.

    Args:
        settings: which sequences.
        data_root: folder that the settings' paths are relative to.

    Raises:
        InputError: a sequence, a file or a calibration is missing or malformed.
    """

    name = 'semantic_kitti'
    intensity_max = 1.0

    def __init__(self, settings: SemanticKittiSettings, data_root: Path) -> None:
        self._settings = settings
        self._label_maps = settings.label_maps and data_root / settings.label_maps
        root = data_root / settings.path / 'sequences'
        chosen = settings.sequences or SPLITS[settings.split or 'train']
        self._sweeps: list[tuple[KittiSequence, int]] = []
        self._stamps: list[int] = []
        for number in dict.fromkeys(chosen):
            sequence = open_sequence(root / f'{number:02}', settings.cameras)
            present = {'velodyne': sequence.sweeps, **sequence.images}
            present |= {} if sequence.labels is None else {'labels': sequence.labels}
            selected = select_sweeps(settings.sweeps, present, root / sequence.name)
            self._sweeps += [(sequence, sweep) for sweep in selected]
            self._stamps += read_stamps(root / sequence.name / 'times.txt', selected)
        is_labelled = any(sequence.labels is not None for sequence, _ in self._sweeps)
        self.label_names = tuple(LABEL_NAMES.values()) if is_labelled else ()
        self.sample_ids = tuple(
            f'{settings.path.as_posix()}/{sequence.name}/{sequence.sweeps[number].stem}'
            for sequence, number in self._sweeps
        )

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> Sample:
        sequence, number = self._sweeps[index]
        points = read_sweep(sequence.sweeps[number])
        return Sample(
            sample_id=self.sample_ids[index],
            stamp_ns=self._stamps[index],
            points=points,
            times=np.zeros(len(points), dtype=np.float32),
            images=tuple(
                self._read_image(sequence, camera, number) for camera in sequence.cameras
            ),
            labels=_read_labels(sequence, number, len(points)),
        )

    def _read_image(self, sequence: KittiSequence, name: str, number: int) -> CameraImage:
        path = sequence.images[name][number]
        intrinsics, camera_from_lidar = sequence.cameras[name]
        image = read_rgb(path, path)
        check_centre(image, intrinsics, f'{path}, calib.txt')
        class_map = confidence = None
        if self._label_maps is not None:
            folder = self._label_maps / sequence.name / name
            class_map, confidence = read_label_maps(folder, path.stem)
        return CameraImage(
            camera=name,
            image_id=f'{self._settings.path.as_posix()}/{sequence.name}/{name}/{path.stem}',
            image=image,
            intrinsics=intrinsics,
            camera_from_lidar=camera_from_lidar,
            class_map=class_map,
            confidence=confidence,
        )


def _read_labels(
    sequence: KittiSequence, number: int, num_points: int
) -> NDArray[np.uint8] | None:
    return None if sequence.labels is None else read_labels(sequence.labels[number], num_points)


def open_sequence(folder: Path, cameras: tuple[str, ...]) -> KittiSequence:
    """Find the files of a sequence and read its calibration.

    Raises:
        InputError: the sequence or a camera does not exist, a file is misnamed, or the
            calibration is malformed.
    """
    if not folder.is_dir():
        raise InputError(
            'the sequence does not exist',
            where=folder,
            got=sorted(path.name for path in folder.parent.glob('*/')) or 'no sequence',
            fix='change `path`, `split` or `sequences` in the settings',
        )
    absent = [name for name in cameras if not (folder / name).is_dir()]
    if absent:
        raise InputError(
            'the sequence does not have the images of a camera',
            where=folder,
            expected=absent,
            got=sorted(path.name for path in folder.glob('*/')),
            fix='extract the colour images of KITTI odometry; to evaluate without images set '
            '`cameras: []`',
        )
    labels = folder / 'labels'
    return KittiSequence(
        name=folder.name,
        sweeps=number_files(folder / 'velodyne', '.bin'),
        labels=number_files(labels, '.label') if labels.is_dir() else None,
        images={name: number_files(folder / name, '.png') for name in cameras},
        cameras={name: read_camera(folder / 'calib.txt', name) for name in cameras},
    )


def read_camera(path: Path, name: str) -> Calibration:
    """Intrinsics (3, 3) and camera_from_lidar (4, 4) of a rectified camera.

    Raises:
        InputError: the file, a key or a number is missing.
    """
    calibration = read_calibration(path)
    lidar = read_matrix(calibration, 'Tr', (3, 4))
    projection = read_matrix(calibration, f'P{name.removeprefix("image_")}', (3, 4))
    return split_projection(projection, make_transform(lidar[:, :3], lidar[:, 3]))


def read_stamps(path: Path, numbers: Iterable[int]) -> list[int]:
    """Nanoseconds of some sweeps since the first; 0.1 s apart without the file.

    Raises:
        InputError: a line is not a number, or a sweep has none.
    """
    if not path.is_file():
        return [number * SWEEP_PERIOD_NS for number in numbers]
    words = path.read_text(encoding='utf-8').split()
    try:
        return [round(float(words[number]) * 1e9) for number in numbers]
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(
            'a sweep has no time',
            where=path,
            expected='seconds, one line for each sweep',
            got=f'{len(words)} lines; {error}',
            fix='restore the original file',
        ) from error
