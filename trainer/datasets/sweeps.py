# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which sweeps of a drive are used, and what every sweep must fulfil."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import Settings

SweepNumber = Annotated[int, Field(ge=0)]


class SweepRange(Settings):
    """Sweeps from `start` to before `stop`, every `step`-th, counted from 0 in order of time."""

    start: SweepNumber = 0
    stop: SweepNumber | None = None
    step: int = Field(default=1, ge=1)


Sweeps = SweepRange | tuple[SweepNumber, ...]


def select_sweeps(sweeps: Sweeps, num_sweeps: int, where: object) -> list[int]:
    """Numbers of the sweeps to use.

    Args:
        sweeps: a range, or the numbers themselves.
        num_sweeps: how many sweeps the drive has.
        where: the drive, for the error.

    Raises:
        InputError: a sweep that the drive does not have, or none at all.
    """
    if isinstance(sweeps, SweepRange):
        stop = num_sweeps if sweeps.stop is None else sweeps.stop
        selected = list(range(sweeps.start, stop, sweeps.step))
    else:
        selected = list(sweeps)
    if not selected or max(selected) >= num_sweeps:
        raise InputError(
            'the drive does not have the sweeps that the settings name',
            where=where,
            expected=f'sweeps from 0 to {num_sweeps - 1}' if num_sweeps else 'at least one sweep',
            got=f'{num_sweeps} sweeps in the drive and the settings {sweeps!r}',
            fix='change `sweeps` in the settings, or complete the drive',
        )
    return selected


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
