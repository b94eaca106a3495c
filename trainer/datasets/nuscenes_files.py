# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The files of nuScenes beside its tables: sweeps, and which files are not there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.cameras.transforms import make_transform
from reldistill_ros.core.errors import InputError
from trainer.datasets.nuscenes_index import NO_IMAGE, Index
from trainer.datasets.sweeps import check_all_finite, check_points

# The data set's lidar frame is x right, y forward; columns: our forward, left and up in it.
LIDAR_FROM_OURS = make_transform(
    np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), np.zeros(3)
)
VALUES_PER_POINT = 5  # float32 x y z intensity ring


def read_pcd_bin(path: Path, intensity_max: float) -> NDArray[np.float32]:
    """Read a `.pcd.bin` file.

    Returns:
        (N, 4) float32, x forward, y left, z up in the lidar's place, and intensity 0 to 1.

    Raises:
        InputError: the size is not a multiple of 20 bytes, no points, or not finite.
    """
    content = path.read_bytes()
    if len(content) % (4 * VALUES_PER_POINT):
        raise InputError(
            'the sweep has the wrong byte count',
            where=path,
            expected='a multiple of 20 bytes: float32 x y z intensity ring',
            got=f'{len(content)} bytes',
            fix='extract the file again: it was probably cut off',
        )
    right, forward, up, intensity, _ = (
        np.frombuffer(content, dtype='<f4').reshape(-1, VALUES_PER_POINT).T
    )
    points = np.stack([forward, -right, up, intensity / np.float32(intensity_max)], axis=1)
    check_points(points, path)
    check_all_finite(points, path)
    return points.astype(np.float32)


def check_files(root: Path, index: Index, sweeps: Sequence[int]) -> None:
    """Reject sweeps whose files are not there, before hours are spent on the others.

    Args:
        root: folder of the data set.
        index: all sweeps.
        sweeps: which are used.

    Raises:
        InputError: says how many files of which folders, and which scenes are complete; or a
            table names a file outside the data set.
    """
    files = {number: _files_of(index, number) for number in sweeps}
    missing = find_missing(root, {path for paths in files.values() for path in paths})
    if not missing:
        return
    incomplete = {index.scenes[n] for n, paths in files.items() if missing.intersection(paths)}
    complete = [
        name for name in dict.fromkeys(index.scenes[n] for n in files) if name not in incomplete
    ]
    folders = sorted({PurePosixPath(path).parent.as_posix() for path in missing})
    raise InputError(
        'files of nuScenes are missing: the data set is downloaded in part',
        where=root,
        expected=min(missing),
        got=f'{len(missing)} files missing in {", ".join(folders)}; '
        f'{len(complete)} of {len(complete) + len(incomplete)} scenes are complete',
        fix='extract the other archives, leave sensors out of `cameras`'
        + (f', or use `scenes: [{", ".join(complete)}]`' if complete else ''),
    )


def find_missing(root: Path, paths: Iterable[str]) -> set[str]:
    """Which of the files are not there; each folder is listed once.

    Raises:
        InputError: a path leads out of the data set.
    """
    names: dict[str, set[str]] = {}
    for path in paths:
        parts = PurePosixPath(path)
        if parts.is_absolute() or '..' in parts.parts:
            raise InputError('the tables name a file outside the data set', where=root, got=path)
        names.setdefault(parts.parent.as_posix(), set()).add(parts.name)
    return {
        f'{folder}/{name}'
        for folder, wanted in names.items()
        for name in wanted.difference(_list(root / folder))
    }


def _list(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _files_of(index: Index, number: int) -> list[str]:
    """Paths of a sweep, its images and its labels."""
    rows = [row for row in index.sweeps[number] if row != NO_IMAGE]
    paths = [path.decode() for path in index.files['path'][rows]]
    return [*paths, index.labels[number]] if index.labels[number] else paths
