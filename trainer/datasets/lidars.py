# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Sweeps of a bag: the clouds of one lidar, or of several as one, freed from motion if asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bags.bag import POINT_CLOUD, Bag, BagEntry
from reldistill_ros.cameras.tf_tree import TfTree
from reldistill_ros.cameras.transforms import apply
from reldistill_ros.core.errors import InputError
from reldistill_ros.point_cloud import INTENSITY_NAMES, TIME_NAMES, read_points, read_times
from trainer.datasets.deskew import deskew
from trainer.datasets.rosbag_settings import RosbagSettings

Cloud = tuple[NDArray[np.float32], NDArray[np.float32]]  # points (N, 4), seconds after the sweep


@dataclass(frozen=True)
class Lidar:
    """A lidar of a bag.

    Attributes:
        topic: of its clouds.
        frame: coordinate frame of its first cloud.
        intensity_max: largest raw intensity.
        entries: its clouds in order of time.
    """

    topic: str
    frame: str
    intensity_max: float
    entries: Sequence[BagEntry]


class Lidars:
    """The lidars of a bag, the first of which gives the sweeps their frame and times.

    Args:
        bag: an open bag.
        topics: of the lidars.
        settings: of the bag.

    Raises:
        InputError: a topic is missing, holds no clouds, or the clouds lack what is asked for.
    """

    def __init__(self, bag: Bag, topics: Sequence[str], settings: RosbagSettings) -> None:
        self._settings = settings
        self.all = [self._find(bag, topic, number) for number, topic in enumerate(topics)]
        self.first = self.all[0]

    def read(self, bag: Bag, frames: TfTree, entry: BagEntry) -> list[Cloud]:
        """The clouds of a sweep, the first lidar's first.

        Args:
            bag: an open bag.
            frames: its coordinate frames.
            entry: of a cloud of the first lidar.

        Returns:
            Of each: (N, 4) float32 x y z in the first lidar's frame at the stamp of the cloud and
            intensity from 0 to 1; (N,) float32 seconds after that stamp.

        Raises:
            InputError: a cloud is malformed, or its motion is not known.
        """
        clouds = [self._read(bag, frames, self.first, (entry, entry.stamp_ns))]
        for lidar in self.all[1:]:
            other = self.partner(lidar, entry.stamp_ns)
            if other is None:
                continue
            stamps = [(other.stamp_ns, entry.stamp_ns)]
            if frames.knows_pairs(lidar.frame, self.first.frame, stamps).all():
                clouds.append(self._read(bag, frames, lidar, (other, entry.stamp_ns)))
        return clouds

    def partner(self, lidar: Lidar, stamp_ns: int) -> BagEntry | None:
        """Cloud of another lidar that belongs to a sweep."""
        return nearest(lidar.entries, stamp_ns, self._settings.max_time_difference)

    def _find(self, bag: Bag, topic: str, number: int) -> Lidar:
        bag.only_topic(POINT_CLOUD, topic)
        message = next((message for _, message in bag.messages(topic)), None)
        if message is None:
            raise InputError('the topic holds no clouds', where=f'{bag.path}: {topic}')
        self._check_fields(message, f'{bag.path}: {topic}')
        intensity_max = self._settings.intensity_max_of(number)
        return Lidar(topic, message.header.frame_id, intensity_max, tuple(bag.index(topic)))

    def _read(
        self, bag: Bag, frames: TfTree, lidar: Lidar, times_of: tuple[BagEntry, int]
    ) -> Cloud:
        """A cloud as it belongs to the sweep of that stamp."""
        entry, sweep_ns = times_of
        where = f'{bag.path}: {entry.topic} at {entry.stamp_ns} ns'
        message = bag.read(entry)
        self._check_fields(message, where)
        points = read_points(message, lidar.intensity_max)
        since_cloud = read_times(message, self._settings.time_unit)
        times = since_cloud + np.float32((entry.stamp_ns - sweep_ns) * 1e-9)
        frame = message.header.frame_id
        if self._settings.deskew and len(points):
            points[:, :3] = deskew(
                points[:, :3],
                since_cloud,
                lambda since: frames.transforms(
                    self.first.frame, sweep_ns, frame, entry.stamp_ns + since
                ),
                where,
            )
        elif frame != self.first.frame:
            points[:, :3] = apply(
                self._place(frames, frame, entry.stamp_ns, sweep_ns), points[:, :3]
            )
        return points, times

    def _place(
        self, frames: TfTree, frame: str, cloud_ns: int, sweep_ns: int
    ) -> NDArray[np.float64]:
        found = frames.transform(self.first.frame, sweep_ns, frame, cloud_ns)
        if found is None:  # of a lidar whose clouds change their frame
            raise InputError(
                'it is not known where the lidar was',
                where=f'{frame!r} in {self.first.frame!r} at {cloud_ns} ns',
                fix='leave the sweep out by `sweeps` in the settings',
            )
        return found

    def _check_fields(self, message: Any, where: str) -> None:
        names = {field.name for field in message.fields}
        if self._settings.intensity == 'field' and not names & {*INTENSITY_NAMES}:
            raise InputError(
                'the cloud has no intensity',
                where=where,
                expected=f'a field named {" or ".join(INTENSITY_NAMES)}',
                got=sorted(names),
                fix='set `intensity: absent` to take zeros; choose the same for the robot, and '
                'leave `intensity` out of the input features',
            )
        if self._settings.deskew and not names & {*TIME_NAMES}:
            raise InputError(
                'the points have no times',
                where=where,
                expected=f'a field named {" or ".join(TIME_NAMES)}',
                got=sorted(names),
                fix='set `deskew: false`',
            )


def nearest(entries: Sequence[BagEntry], stamp_ns: int, most: float) -> BagEntry | None:
    """Entry nearest in time, None where none is near.

    Args:
        entries: in order of time.
        stamp_ns: the time.
        most: distance in seconds that still counts as near.
    """
    after = bisect_left(entries, stamp_ns, key=lambda entry: entry.stamp_ns)
    around = entries[max(after - 1, 0) : after + 1]
    entry = min(around, key=lambda entry: abs(entry.stamp_ns - stamp_ns), default=None)
    return None if entry is None or abs(entry.stamp_ns - stamp_ns) > round(most * 1e9) else entry
