# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The coordinate frames of a bag, and where the motion of the car is taken from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reldistill_ros.bags.bag import TF_MESSAGE, Bag
from reldistill_ros.cameras.extrinsics import Extrinsic
from reldistill_ros.cameras.tf_messages import read_pose, stamp_of
from reldistill_ros.cameras.tf_track import Pose
from reldistill_ros.cameras.tf_tree import TfTree
from reldistill_ros.cameras.transforms import from_quaternion
from reldistill_ros.core.errors import InputError

ODOMETRY = 'nav_msgs/msg/Odometry'
STATIC_TOPIC_END = 'tf_static'


def read_frames(bag: Bag, extrinsics: Iterable[Extrinsic], max_tf_gap: float) -> TfTree:
    """Read all coordinate frames of a bag.

    Args:
        bag: an open bag.
        extrinsics: frames that are placed by hand.
        max_tf_gap: longest time between two poses to interpolate in, in seconds.
    """
    topics = bag.topics_of(TF_MESSAGE)
    static = [topic for topic in topics if topic.endswith(STATIC_TOPIC_END)]
    frames = TfTree(
        (message for topic in static for _, message in bag.messages(topic)),
        (message for topic in topics if topic not in static for _, message in bag.messages(topic)),
        max_tf_gap,
    )
    for edge in extrinsics:
        frames.place(edge.parent, edge.child, from_quaternion(edge.rotation, edge.translation))
    return frames


def add_ego_motion(
    bag: Bag, frames: TfTree, lidar_frame: str, odometry_topic: str | None
) -> str | None:
    """Find what says how the car moves.

    Args:
        bag: an open bag.
        frames: its frames, to which odometry is added where it is needed or asked for.
        lidar_frame: frame of the clouds.
        odometry_topic: a nav_msgs/Odometry to be used whatever /tf says, or None.

    Returns:
        The odometry's topic, `/tf`, or None where nothing moves: then the lidar and the cameras
        are taken to stand still.

    Raises:
        InputError: the topic does not exist or does not belong to the lidar, or there are
            several to choose from.
    """
    if odometry_topic is None and frames.moves(lidar_frame):
        return '/tf'
    if odometry_topic is None and not bag.topics_of(ODOMETRY):
        return None
    topic = bag.only_topic(ODOMETRY, odometry_topic)
    first = next((message for _, message in bag.messages(topic)), None)
    if first is None and odometry_topic is None:
        return None
    child = '' if first is None else first.child_frame_id
    if not child or not frames.are_connected(child, lidar_frame):
        raise InputError(
            'the odometry does not belong to the lidar',
            where=f'{bag.path}: {topic}',
            expected=f'child_frame_id in one tree with {lidar_frame!r}',
            got=repr(child),
            fix=f'place {lidar_frame!r} in that frame by `extrinsics` in the settings',
        )
    assert first is not None
    frames.move(first.header.frame_id, child, _poses(bag, topic))
    return topic


def _poses(bag: Bag, topic: str) -> Iterator[tuple[int, Pose]]:
    """Stamps and poses of a nav_msgs/Odometry."""
    for _, message in bag.messages(topic):
        pose: Any = message.pose.pose
        edge = message.header.frame_id, message.child_frame_id
        yield stamp_of(message.header), read_pose(pose.orientation, pose.position, edge)
