# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What is missing in a bag or stands twice in it, told when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bags.bag import BagEntry
from reldistill_ros.core.errors import InputError

SAME_TIME_NS = 1_000_000  # a car at 30 m/s drives 3 cm in it


class Placed(Protocol):
    """Tells for times (ns) of messages and of their sweeps whether the first are placed."""

    def __call__(self, stamps: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
        """(T,) bool."""


def check_unique(clouds: Sequence[BagEntry], numbers: Sequence[int], where: str) -> None:
    """Refuse sweeps that could not be told apart by their stamp.

    Args:
        clouds: the selected ones, in order of time.
        numbers: of these sweeps.
        where: the topic, for the error.

    Raises:
        InputError: two have the same stamp.
    """
    twice = [
        number
        for number, (before, cloud) in zip(numbers[1:], pairwise(clouds))
        if before.stamp_ns == cloud.stamp_ns
    ]
    if twice:
        raise InputError(
            'several clouds have the same stamp',
            where=where,
            expected='one cloud for each time',
            got=f'{len(twice)} repeated, the first as sweep {twice[0]}',
            fix=f'leave them out: sweeps: {{without: {twice[:20]}}}'
            + (', ...' if len(twice) > 20 else ''),
        )


def tell_missing(
    what: str,
    sweeps: Sequence[int],
    find: Callable[[int], BagEntry | None],
    placed: Placed,
) -> str | None:
    """Sweeps that come without something.

    Args:
        what: such as `an image of camera_front`.
        sweeps: stamps of the sweeps in nanoseconds.
        find: the message near a sweep, None where none is near.
        placed: whether its place is known.

    Returns:
        A sentence, None if nothing is missing.
    """
    num_near, num_placed = count_placed(sweeps, find, placed)
    if num_placed == len(sweeps):
        return None
    return (
        f'{len(sweeps) - num_placed} of {len(sweeps)} sweeps come without {what}: '
        f'{len(sweeps) - num_near} have none within max_time_difference, '
        f'{num_near - num_placed} have one but no /tf around its time (max_tf_gap)'
    )


def count_placed(
    sweeps: Sequence[int], find: Callable[[int], BagEntry | None], placed: Placed
) -> tuple[int, int]:
    """Sweeps with a message near in time, and those of them whose message has a place."""
    entries = [(find(stamp), stamp) for stamp in sweeps]
    near = [(entry.stamp_ns, stamp) for entry, stamp in entries if entry is not None]
    return len(near), int(placed(near).sum())


def tell_repeated(entries: Sequence[BagEntry], what: str) -> str | None:
    """Messages with the stamp of another one, of which the first recorded is used."""
    stamps = {entry.stamp_ns for entry in entries}
    if len(stamps) == len(entries):
        return None
    return (
        f'{len(entries) - len(stamps)} of {len(entries)} {what} have the stamp of another one; '
        'the one recorded first is used'
    )


def tell_standing_still(
    sweeps: Sequence[int], finders: Sequence[Callable[[int], BagEntry | None]]
) -> str | None:
    """How wrong it may be to take a car to stand still whose motion is not recorded."""
    apart = [
        abs(entry.stamp_ns - stamp)
        for find in finders
        for stamp in sweeps
        if (entry := find(stamp)) is not None
    ]
    if max(apart, default=0) <= SAME_TIME_NS:
        return None
    return (
        'neither /tf nor odometry says how the car moves: it is taken to stand still, though '
        f'images or other clouds are up to {max(apart) / 1e6:.0f} ms from their sweep'
    )
