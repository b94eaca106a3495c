# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag hold points and labels, found by their content, and what the labels mean."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.bags.bag import POINT_CLOUD, STRING, Bag
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX
from reldistill_ros.point_cloud import INTENSITY_NAMES, read_fields

LABEL_FIELD = 'label'


@dataclass(frozen=True)
class LidarTopics:
    """Topics of a lidar.

    Attributes:
        points: clouds with x, y, z.
        labels: clouds with the single field `label`, or None.
    """

    points: str
    labels: str | None


def find_lidar_topics(bag: Bag, points: str | None, labels: str | None) -> LidarTopics:
    """Find the topics of points and labels among the PointCloud2 topics.

    Of several clouds with x, y, z that with an intensity is the lidar's: radars have none.

    Args:
        bag: an open bag.
        points: the topic's name, None to find it.
        labels: the topic's name, None to find it.

    Raises:
        InputError: no such topic, or several to choose from.
    """
    fields = {topic: _field_names(bag, topic) for topic in bag.topics_of(POINT_CLOUD)}
    with_points = [topic for topic, names in fields.items() if {'x', 'y', 'z'} <= set(names)]
    with_labels = [topic for topic, names in fields.items() if names == [LABEL_FIELD]]
    bright = [topic for topic in with_points if {*INTENSITY_NAMES} & {*fields[topic]}]
    candidates = bright if points is None and len(bright) == 1 else with_points
    chosen = _choose(bag, candidates, points, 'clouds with x, y, z (lidar_topics, --topic)')
    if labels is None and not with_labels:
        return LidarTopics(chosen, None)
    kind = f'clouds with the single field {LABEL_FIELD!r} (label_topic, --label-topic)'
    return LidarTopics(chosen, _choose(bag, with_labels, labels, kind))


def read_label_names(bag: Bag, label_topic: str, info_topic: str | None = None) -> tuple[str, ...]:
    """Names of the labels, from the JSON `{"class_names": [...]}` in a String.

    Args:
        bag: an open bag.
        label_topic: the clouds of labels.
        info_topic: the String's topic; `label_info` beside the label topic if None.

    Raises:
        InputError: the topic is missing or holds something else.
    """
    beside = posixpath.join(posixpath.dirname(label_topic), 'label_info')
    topic = bag.only_topic(STRING, info_topic or beside)
    text = next((message.data for _, message in bag.messages(topic)), '')
    try:
        names = json.loads(text)['class_names']
    except (ValueError, KeyError, TypeError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            'the bag does not say what its labels mean',
            where=f'{bag.path}: {topic}',
            expected='a String with the JSON {"class_names": ["...", ...]}',
            got=repr(text[:200]),
        )
    return tuple(names)


def read_labels(message: Any, num_points: int, where: object) -> NDArray[np.uint8]:
    """Decode a cloud of labels.

    Args:
        message: a sensor_msgs/PointCloud2 with the field `label` of any integer type.
        num_points: points of the cloud that it belongs to.
        where: what to name in an error.

    Returns:
        (N,) uint8, positions in the label names, `IGNORE_INDEX` for unlabelled.

    Raises:
        InputError: the labels are not integers from 0 to 255, or not one per point.
    """
    labels = read_fields(message, [LABEL_FIELD])[LABEL_FIELD]
    if len(labels) != num_points:
        raise InputError(
            'the labels and the points do not belong together',
            where=where,
            expected=f'{num_points} labels, one per point',
            got=len(labels),
        )
    low, high = labels.min(initial=0), labels.max(initial=0)
    if labels.dtype.kind not in 'iu' or low < 0 or high > IGNORE_INDEX:
        raise InputError(
            'the labels are no class numbers',
            where=where,
            expected=f'integers from 0 to {IGNORE_INDEX}',
            got=f'{labels.dtype} from {low} to {high}',
        )
    return labels.astype(np.uint8)


def _field_names(bag: Bag, topic: str) -> list[str]:
    """Field names of the first cloud of a topic."""
    message = next((message for _, message in bag.messages(topic)), None)
    return [field.name for field in message.fields] if message is not None else []


def _choose(bag: Bag, found: list[str], name: str | None, kind: str) -> str:
    """The named topic, or the only one."""
    if name in found:
        return str(name)
    if name is None and len(found) == 1:
        return found[0]
    kinds = f'none among {dict(sorted(bag.topics.items()))}'
    raise InputError(
        'the bag has no such topic' if name or not found else 'the bag has several such topics',
        where=bag.path,
        expected=f'{name or "one topic"}: {kind}',
        got=f'{name} of type {bag.topics[name]}' if name in bag.topics else found or kinds,
        fix='name one of these topics' if found else None,
    )
