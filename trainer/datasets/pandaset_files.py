# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The files of a PandaSet scene beside points and images: poses, times, calibration, classes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.transforms import from_quaternion
from reldistill_ros.core.errors import InputError
from trainer.datasets.safe_pickle import read_table
from trainer.datasets.sweeps import label_lookup, number_files


@dataclass(frozen=True)
class PandaCamera:
    """A camera of a scene.

    Attributes:
        intrinsics: (3, 3).
        images: its files by number of the frame.
        poses: world_from_camera (4, 4) of every frame.
        stamps: time of every frame in seconds.
    """

    intrinsics: NDArray[np.float64]
    images: dict[int, Path]
    poses: list[NDArray[np.float64]]
    stamps: list[float]


def read_camera(folder: Path) -> PandaCamera:
    """Read what a scene says of a camera.

    Raises:
        InputError: no such camera, or a file is missing or malformed.
    """
    if not folder.is_dir():
        raise InputError(
            'the scene does not have the camera',
            where=folder,
            expected='a camera of the scene',
            got=sorted(path.name for path in folder.parent.glob('*/')) or 'no camera',
            fix='change `cameras` in the settings',
        )
    return PandaCamera(
        read_intrinsics(folder / 'intrinsics.json'),
        number_files(folder, '.jpg'),
        read_poses(folder / 'poses.json'),
        read_stamps(folder / 'timestamps.json'),
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
            for pose in read_json(path, list)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            'the poses are malformed',
            where=path,
            expected='a list of {"position": {"x", "y", "z"}, "heading": {"w", "x", "y", "z"}}',
            got=repr(error),
        ) from error


def read_stamps(path: Path) -> list[float]:
    """Read the time of every frame in seconds.

    Raises:
        InputError: the file is missing or malformed.
    """
    stamps = read_json(path, list)
    if not all(type(stamp) in (int, float) and math.isfinite(stamp) for stamp in stamps):
        raise InputError('the timestamps are malformed', where=path, expected='a list of numbers')
    return list(stamps)


def read_intrinsics(path: Path) -> NDArray[np.float64]:
    """Read the (3, 3) pinhole matrix of a camera.

    Raises:
        InputError: the file is missing or malformed.
    """
    values = read_json(path, dict)
    try:
        fx, fy, cx, cy = (float(values[key]) for key in ('fx', 'fy', 'cx', 'cy'))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            'the intrinsics are malformed', where=path, expected='fx, fy, cx, cy', got=values
        ) from error
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def read_classes(scene: Path) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Label names in the order of their numbers, and the position of each number."""
    folder = scene / 'annotations' / 'semseg'
    if not folder.is_dir():
        return (), label_lookup([])
    path = folder / 'classes.json'
    classes = read_json(path, dict)
    if not all(key.isdecimal() and int(key) < 255 for key in classes):
        raise InputError(
            'the classes are malformed', where=path, expected='numbers to 254 as keys', got=classes
        )
    numbers = sorted(int(key) for key in classes)
    return tuple(str(classes[str(number)]) for number in numbers), label_lookup(numbers)


def read_json(path: Path, kind: type) -> Any:
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


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read a table that must have these columns."""
    table = read_table(path)
    if not set(names) <= set(table):
        raise InputError(
            'the table lacks columns', where=path, expected=list(names), got=list(table)
        )
    return table
