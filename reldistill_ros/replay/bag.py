# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a replay takes from the bag: sweeps in order, and the truth where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bags.bag import Bag, BagEntry
from reldistill_ros.bags.bag_topics import find_lidar_topics, read_label_names, read_labels
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import Vocabulary

DATA_SET = 'rosbag'  # key of a vocabulary's label_names


@dataclass(frozen=True)
class Sweeps:
    """The sweeps to play.

    Attributes:
        bag: the open bag.
        topic: of the clouds.
        entries: one per sweep, sorted by stamp; stamps are unique.
        label_topic: of the true labels, None where there are none.
    """

    bag: Bag
    topic: str
    entries: Sequence[BagEntry]
    label_topic: str | None

    @property
    def stamps_ns(self) -> list[int]:
        """Stamp of each sweep."""
        return [entry.stamp_ns for entry in self.entries]


class Truth:
    """True classes of the points, in the classes of the vocabulary.

    Raises:
        InputError: the bag does not say what its labels mean, or the vocabulary knows none.
    """

    def __init__(self, bag: Bag, topic: str, vocabulary: Vocabulary) -> None:
        self._bag = bag
        self._table = vocabulary.label_table(DATA_SET, read_label_names(bag, topic))
        self._entries = {entry.stamp_ns: entry for entry in bag.index(topic)}

    def __call__(self, stamp_ns: int, num_points: int) -> NDArray[np.uint8] | None:
        """Classes (N,) of the sweep with that stamp, `IGNORE_INDEX` where unknown, or None.

        Raises:
            InputError: the labels do not belong to a cloud of N points.
        """
        entry = self._entries.get(stamp_ns)
        if entry is None:
            return None
        where = f'{self._bag.path}: {entry.topic} at {stamp_ns} ns'
        classes: NDArray[np.uint8] = self._table[
            read_labels(self._bag.read(entry), num_points, where)
        ]
        return classes


def find_sweeps(
    bag: Bag, topic: str | None, label_topic: str | None, max_sweeps: int | None
) -> Sweeps:
    """Choose topics and sweeps.

    Raises:
        InputError: no such topic, several to choose from, or no cloud at all.
    """
    topics = find_lidar_topics(bag, topic, label_topic)
    entries = _unique_stamps(bag.index(topics.points))[:max_sweeps]
    if not entries:
        raise InputError('the topic holds no clouds', where=topics.points)
    return Sweeps(bag, topics.points, entries, topics.labels)


def _unique_stamps(entries: Sequence[BagEntry]) -> list[BagEntry]:
    """Refuse sweeps that could not be told apart by their stamp."""
    stamps = [entry.stamp_ns for entry in entries]
    if len(set(stamps)) != len(stamps):
        raise InputError(
            'several clouds have the same stamp',
            where=entries[0].topic,
            expected=f'{len(stamps)} different stamps',
            got=len(set(stamps)),
        )
    return list(entries)
