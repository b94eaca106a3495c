# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag hold points, labels and coordinate frames, found by their content."""

from __future__ import annotations

import json
from dataclasses import dataclass

from reldistill_ros.bag import POINT_CLOUD, STRING, TF_MESSAGE, Bag
from reldistill_ros.core.errors import InputError
from trainer.datasets.tf_tree import TfTree

LABEL_FIELD = 'label'
STATIC_TOPIC_END = 'tf_static'


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
    if labels is None and not with_labels:
        return LidarTopics(_choose(bag, with_points, points, 'lidar_topic'), None)
    return LidarTopics(
        _choose(bag, with_points, points, 'lidar_topic'),
        _choose(bag, with_labels, labels, 'label_topic'),
    )


def read_label_names(bag: Bag, label_topic: str, info_topic: str | None) -> tuple[str, ...]:
    """Names of the labels, from the JSON `{"class_names": [...]}` beside the label topic.

    Raises:
        InputError: the topic is missing or holds something else.
    """
    default = label_topic.rsplit('/', maxsplit=1)[0] + '/label_info'
    topic = bag.only_topic(STRING, info_topic or default)
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


def read_tf(bag: Bag) -> TfTree:
    """Read all coordinate frames of a bag."""
    topics = bag.topics_of(TF_MESSAGE)
    return TfTree(
        (
            message
            for topic in topics
            if topic.endswith(STATIC_TOPIC_END)
            for _, message in bag.messages(topic)
        ),
        (
            message
            for topic in topics
            if not topic.endswith(STATIC_TOPIC_END)
            for _, message in bag.messages(topic)
        ),
    )


def _field_names(bag: Bag, topic: str) -> list[str]:
    """Field names of the first cloud of a topic."""
    message = next((message for _, message in bag.messages(topic)), None)
    return [field.name for field in message.fields] if message is not None else []


def _choose(bag: Bag, found: list[str], name: str | None, key: str) -> str:
    """The named topic, or the only one."""
    if name in found:
        return str(name)
    if name is None and len(found) == 1:
        return found[0]
    raise InputError(
        'the bag has no such topic' if name or not found else 'the bag has several such topics',
        where=bag.path,
        expected=f'{name or "one topic"} of type {POINT_CLOUD} as `{key}`',
        got=found or f'none among {sorted(bag.topics)}',
        fix=f'name one of the topics in `{key}` of the settings',
    )
