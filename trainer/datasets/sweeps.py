# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which sweeps of a drive are used, and what every sweep must fulfil.

Sweeps have numbers. Where files are named after them (KITTI raw, PandaSet), files of one number
belong together, and a number without its file is an error unless the settings leave it out.
In a bag the sweeps are counted from 0 in order of time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings

SweepNumber = Annotated[int, Field(ge=0)]


class SweepRange(Settings):
    """Sweeps from the number `start` to before `stop`, every `step`-th.

    Attributes:
        start: the drive's first sweep where absent.
        stop: after the drive's last sweep where absent.
        without: numbers left out, such as those of files that were never recorded.
    """

    start: SweepNumber | None = None
    stop: SweepNumber | None = None
    step: int = Field(default=1, ge=1)
    without: tuple[SweepNumber, ...] = ()


Sweeps = SweepRange | tuple[SweepNumber, ...]


def number_files(folder: Path, ending: str) -> dict[int, Path]:
    """The files of a folder by the number that they are named after, such as `0000000007.bin`.

    Raises:
        InputError: a file is named otherwise, or two have the same number.
    """
    files: dict[int, Path] = {}
    for path in sorted(folder.glob(f'*{ending}')):
        stem = path.name.removesuffix(ending)
        if not stem.isdecimal() or int(stem) in files:
            raise InputError(
                'the file is not named after its sweep',
                where=path,
                expected=f'a number that no other file has, such as 0000000007{ending}',
                fix='remove the file, or restore its name',
            )
        files[int(stem)] = path
    return files


def select_sweeps(
    sweeps: Sweeps, present: Mapping[str, Collection[int]], where: object
) -> list[int]:
    """Numbers of the sweeps to use.

    Args:
        sweeps: a range, or the numbers themselves.
        present: numbers of the files that there are of each kind, `lidar` and cameras; the drive
            goes from the lowest of all to the highest.
        where: the drive, for the error.

    Raises:
        InputError: no sweep at all, or a file of one is missing.
    """
    numbers = sorted({number for found in present.values() for number in found})
    selected = _expand(sweeps, numbers)
    for kind, found in present.items():
        missing = [number for number in selected if number not in found]
        if missing or not selected:
            raise InputError(
                'the drive lacks sweeps that the settings select',
                where=f'{where}: {kind}',
                expected=f'all numbers from {numbers[0]} to {numbers[-1]} that `sweeps` selects'
                if numbers
                else 'at least one sweep',
                got=f'nothing for {_list(missing)}' if missing else 'no sweep',
                fix='complete the drive, or change `sweeps` in the settings'
                + (f', such as to {{without: [{_list(missing)}]}}' if missing else ''),
            )
    return selected


def _expand(sweeps: Sweeps, numbers: Sequence[int]) -> list[int]:
    """The selected numbers of a drive that has these, in order."""
    if not isinstance(sweeps, SweepRange):
        return list(sweeps)
    if not numbers:
        return []
    start = numbers[0] if sweeps.start is None else sweeps.start
    stop = numbers[-1] + 1 if sweeps.stop is None else sweeps.stop
    return [n for n in range(start, stop, sweeps.step) if n not in sweeps.without]


def _list(numbers: Sequence[int], longest: int = 20) -> str:
    shown = ', '.join(map(str, numbers[:longest]))
    return shown + (', ...' if len(numbers) > longest else '')


def check_points(points: NDArray[np.float32], where: object) -> None:
    """Reject a sweep in which no measurement can be used.

    Args:
        points: (N, 4) x y z intensity.
        where: the sweep, for the error.

    Raises:
        InputError: no points, or none with finite coordinates.
    """
    if not np.isfinite(points[:, :3]).all(axis=1).any():
        raise InputError(
            'the sweep has no points' if len(points) == 0 else 'no point has finite coordinates',
            where=where,
            expected='at least one point with finite x, y, z',
            got=f'{len(points)} points',
            fix='remove the sweep from the drive or from `sweeps` in the settings',
        )


def check_all_finite(points: NDArray[np.float32], where: object) -> None:
    """Reject a sweep with NaN or infinite numbers, for formats that never hold them.

    Raises:
        InputError: some number is not finite.
    """
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise InputError(
            'the sweep has numbers that are not finite',
            where=where,
            expected='finite x, y, z and intensity',
            got=f'{int(bad.sum())} bad points of {len(points)}, the first at {int(bad.argmax())}',
            fix='restore the original file',
        )


def check_same_length(what: str, length: int, num_points: int, where: object) -> None:
    """Reject per-point data that belongs to another sweep.

    Raises:
        InputError: the lengths differ.
    """
    if length != num_points:
        raise InputError(
            f'the {what} and the points do not belong together',
            where=where,
            expected=f'{num_points} {what}, one per point',
            got=length,
            fix='restore the original files',
        )


def label_lookup(numbers: Sequence[int]) -> NDArray[np.uint8]:
    """(256,) uint8: position of each raw label number, 255 for numbers that have no name."""
    table = np.full(256, 255, dtype=np.uint8)
    table[list(numbers)] = np.arange(len(numbers))
    return table
