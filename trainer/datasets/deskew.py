# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Points of a sweep, each taken at its own time, as if all were taken at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError

MOST_KNOTS = 100
KNOT_SPACING_NS = 1_000_000  # a car at 30 m/s drives 3 cm in it, and between knots is interpolated
LONGEST_SWEEP = 1.0  # seconds
Poses = Callable[[NDArray[np.int64]], NDArray[np.float64] | None]


def deskew(
    points: NDArray[np.floating[Any]],
    times: NDArray[np.floating[Any]],
    poses: Poses,
    where: object,
) -> NDArray[np.float64]:
    """Move each point by the motion of the lidar between its time and the sweep's.

    Poses are looked up at up to `MOST_KNOTS` times, and the matrices of two neighbours averaged:
    a turn of 0.01 rad between them makes an error of 1e-5 of the distance.

    Args:
        points: (N, 3) x y z in metres, each in the lidar frame at its own time.
        times: (N,) seconds after the sweep's stamp; a point without a finite time becomes NaN.
        poses: sweep_from_lidar (T, 4, 4) at T times in nanoseconds after the sweep's stamp, in
            order of time; None where one is unknown.
        where: the sweep, for the error.

    Returns:
        (N, 3) in the lidar frame at the sweep's stamp.

    Raises:
        InputError: a pose is unknown, or the times are too long for a sweep.
    """
    timed = np.isfinite(times)
    if not timed.any():
        return np.full((len(points), 3), np.nan)
    first, last = float(times[timed].min()), float(times[timed].max())
    _check_span(first, last, where)
    start, stop = np.floor(first * 1e9), np.ceil(last * 1e9)
    num_knots = int(np.clip((stop - start) // KNOT_SPACING_NS + 2, 2, MOST_KNOTS))
    knots = np.linspace(start, stop, num_knots).round().astype(np.int64)
    found = poses(knots)
    if found is None:
        raise InputError(
            'the motion of the lidar is not known for all of the sweep',
            where=where,
            expected=f'poses from {start / 1e9:.3f} to {stop / 1e9:.3f} s around its stamp',
            fix='leave the sweep out by `sweeps` in the settings, or set `deskew: false`',
        )
    return _interpolate(points, np.where(timed, times, np.nan), knots, found)


def _interpolate(
    points: NDArray[np.floating[Any]],
    times: NDArray[np.floating[Any]],
    knots: NDArray[np.int64],
    poses: NDArray[np.float64],
) -> NDArray[np.float64]:
    width = max(float(knots[-1] - knots[0]) / (len(knots) - 1), 1.0)
    place = (times.astype(np.float64) * 1e9 - knots[0]) / width
    left = np.clip(np.nan_to_num(place), 0, len(knots) - 2).astype(np.int64)
    share = (place - left)[:, None, None]
    matrices = (1.0 - share) * poses[left, :3] + share * poses[left + 1, :3]  # (N, 3, 4)
    moved: NDArray[np.float64] = (
        np.einsum('nij,nj->ni', matrices[:, :, :3], points) + matrices[:, :, 3]
    )
    return moved


def _check_span(first: float, last: float, where: object) -> None:
    if max(last - first, abs(first), abs(last)) > LONGEST_SWEEP:
        raise InputError(
            'the times of the points are not those of a sweep',
            where=where,
            expected=f'at most {LONGEST_SWEEP} s from the stamp of the cloud',
            got=f'{first:g} to {last:g} s',
            fix='say what they are by `time_unit` in the settings',
        )
