# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What a bag's topics and coordinate frames are like over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reldistill_ros.bags.bag import TF_MESSAGE, Bag
from reldistill_ros.cameras.tf_messages import plain_name, stamp_of
from trainer.datasets.bag_topics import TopicRow
from trainer.datasets.ego_motion import STATIC_TOPIC_END
from trainer.datasets.rosbag import Rosbag

GAP = 2.5  # times the usual time between two messages


@dataclass(frozen=True)
class Rhythm:
    """How regularly something comes.

    Attributes:
        count: of messages.
        rate: per second, None where there are fewer than two times.
        num_gaps: times between two messages above `GAP` times the median.
        longest_gap: longest time between two messages in seconds, None likewise.
    """

    count: int
    rate: float | None
    num_gaps: int
    longest_gap: float | None


@dataclass(frozen=True)
class TopicFacts:
    """A topic.

    Attributes:
        topic: its name.
        type: of its messages.
        frame: of its first message, empty where messages have none.
        use: what it is used for and why, empty where it is not used.
        rhythm: by the times of recording.
    """

    topic: str
    type: str
    frame: str
    use: str
    rhythm: Rhythm


@dataclass(frozen=True)
class EdgeFacts:
    """A transform between two coordinate frames.

    Attributes:
        parent: name of the frame that stands still.
        child: name of the other one.
        is_static: whether it comes from /tf_static.
        rhythm: by its stamps.
    """

    parent: str
    child: str
    is_static: bool
    rhythm: Rhythm


@dataclass(frozen=True)
class MotionFacts:
    """How the car moved.

    Attributes:
        source: topic that says so, None where nothing does.
        distance: metres between the sweeps whose poses are known, added up.
        share_known: share of the steps from sweep to sweep whose motion is known.
    """

    source: str | None
    distance: float
    share_known: float


def measure_rhythm(times_ns: Sequence[int]) -> Rhythm:
    """Rate and gaps of times in nanoseconds in any order."""
    steps = np.diff(np.unique(np.array(times_ns, dtype=np.int64))) / 1e9
    if len(steps) == 0:
        return Rhythm(len(times_ns), None, 0, None)
    num_gaps = int((steps > GAP * np.median(steps)).sum())
    rate = (len(times_ns) - 1) / float(steps.sum())
    return Rhythm(len(times_ns), round(rate, 3), num_gaps, round(float(steps.max()), 4))


def measure_topics(bag: Bag, rows: Sequence[TopicRow]) -> list[TopicFacts]:
    """Facts about topics, from the times of recording alone."""
    return [
        TopicFacts(
            row.topic, row.type, row.frame, row.use, measure_rhythm(bag.log_times(row.topic))
        )
        for row in rows
    ]


def measure_edges(bag: Bag) -> list[EdgeFacts]:
    """Facts about the transforms of /tf and /tf_static, parents first in order of name."""
    stamps: dict[tuple[str, str, bool], list[int]] = {}
    for topic in bag.topics_of(TF_MESSAGE):
        is_static = topic.endswith(STATIC_TOPIC_END)
        for _, message in bag.messages(topic):
            for edge in message.transforms:
                names = plain_name(edge.header.frame_id), plain_name(edge.child_frame_id)
                stamps.setdefault((*names, is_static), []).append(stamp_of(edge.header))
    return [EdgeFacts(*edge, measure_rhythm(times)) for edge, times in sorted(stamps.items())]


def measure_motion(dataset: Rosbag) -> MotionFacts:
    """How far the first lidar moved from sweep to sweep."""
    frame = dataset.lidars.first.frame
    stamps = [cloud.stamp_ns for cloud in dataset.clouds]
    steps = [
        dataset.frames.transform(frame, before, frame, after) for before, after in pairwise(stamps)
    ]
    known = [float(np.linalg.norm(step[:3, 3])) for step in steps if step is not None]
    share = len(known) / len(steps) if steps and dataset.motion else 0.0
    return MotionFacts(dataset.motion, round(sum(known), 2), round(share, 3))
