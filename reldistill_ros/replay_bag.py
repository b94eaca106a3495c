# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a replay takes from the bag: sweeps in order, and the truth where there is one."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bag import POINT_CLOUD, Bag, BagEntry
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.point_cloud import read_fields

DEFAULT_LABEL_TOPIC = '/lidar/labels'
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


class Truth:
    """True classes of the points, in the classes of the vocabulary.

    Raises:
        InputError: the bag does not say what its labels mean.
    """

    def __init__(self, bag: Bag, topic: str, vocabulary: Vocabulary) -> None:
        names = _label_names(bag, posixpath.join(posixpath.dirname(topic), 'label_info'))
        self._bag = bag
        self._table = vocabulary.label_table(DATA_SET, names)
        self._entries = {entry.stamp_ns: entry for entry in bag.index(topic)}

    def __call__(self, stamp_ns: int, num_points: int) -> NDArray[np.uint8] | None:
        """Classes (N,) of the sweep with that stamp, `IGNORE_INDEX` where unknown, or None.

        Raises:
            InputError: the labels do not belong to a cloud of N points.
        """
        entry = self._entries.get(stamp_ns)
        if entry is None:
            return None
        labels = read_fields(self._bag.read(entry), ['label'])['label']
        if len(labels) != num_points or labels.dtype.kind != 'u' or labels.max(initial=0) > 255:
            raise InputError(
                'the labels do not fit their cloud',
                where=f'{entry.topic} at {stamp_ns} ns',
                expected=f'{num_points} unsigned labels up to {IGNORE_INDEX}',
                got=f'{len(labels)} of {labels.dtype} up to {labels.max(initial=0)}',
            )
        classes: NDArray[np.uint8] = self._table[labels]
        return classes


def find_sweeps(
    bag: Bag, topic: str | None, label_topic: str | None, max_sweeps: int | None
) -> Sweeps:
    """Choose topics and sweeps.

    Raises:
        InputError: no such topic, several to choose from, or no cloud at all.
    """
    clouds = bag.topics_of(POINT_CLOUD)
    if label_topic is None and DEFAULT_LABEL_TOPIC in clouds:
        label_topic = DEFAULT_LABEL_TOPIC
    for name in (topic, label_topic):
        if name is not None and name not in clouds:
            raise InputError(
                'the bag has no such topic of clouds', where=bag.path, expected=name, got=clouds
            )
    choices = [name for name in clouds if name != label_topic]
    if topic is None and len(choices) != 1:
        raise InputError(
            'it is not clear which topic to play',
            where=bag.path,
            expected='one topic of clouds',
            got=choices,
            fix='choose it with --topic',
        )
    topic = topic or choices[0]
    entries = _unique_stamps(bag.index(topic))[:max_sweeps]
    if not entries:
        raise InputError('the topic holds no clouds', where=topic)
    return Sweeps(bag, topic, entries, label_topic)


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


def _label_names(bag: Bag, topic: str) -> list[str]:
    for _, message in bag.messages(topic):
        try:
            names = json.loads(message.data)['class_names']
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                'the class names of the labels cannot be read',
                where=topic,
                expected='JSON {"class_names": [...]}',
                got=message.data[:80],
            ) from error
        return [str(name) for name in names]
    raise InputError('the bag does not say what its labels mean', where=topic)
