# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are used, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from reldistill_ros.bags.bag import Bag


@dataclass(frozen=True)
class TopicRow:
    """A topic in the table.

    Attributes:
        topic: its name.
        type: of its messages.
        frame: coordinate frame of its first message, empty where messages have none.
        use: what it is used for and why, empty where it is not used.
    """

    topic: str
    type: str
    frame: str
    use: str


def describe_topics(bag: Bag, uses: Mapping[str, str]) -> list[TopicRow]:
    """One row per topic, those that are used first.

    Args:
        bag: an open bag.
        uses: what the topics are used for and why, as in `Rosbag.uses`.
    """
    rows = [
        TopicRow(topic, kind, _frame(bag, topic), uses.get(topic, ''))
        for topic, kind in bag.topics.items()
    ]
    return sorted(rows, key=lambda row: (not row.use, row.topic))


def format_topics(rows: Sequence[TopicRow]) -> str:
    """The rows as a table of text."""
    lines = [tuple(field.name for field in fields(TopicRow)), *map(astuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return '\n'.join(
        '  '.join(f'{word:<{width}}' for word, width in zip(line, widths)).rstrip()
        for line in lines
    )


def _frame(bag: Bag, topic: str) -> str:
    """Frame of the first message; only of the types of ROS itself, others may not be readable."""
    if not bag.topics[topic].startswith(('sensor_msgs/', 'nav_msgs/', 'geometry_msgs/')):
        return ''
    message: Any = next((message for _, message in bag.messages(topic)), None)
    return str(message.header.frame_id) if hasattr(message, 'header') else ''
