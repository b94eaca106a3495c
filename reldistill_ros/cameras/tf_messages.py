# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Reading geometry_msgs/TransformStamped."""

from __future__ import annotations

from typing import Any

import numpy as np

from reldistill_ros.cameras.tf_track import Pose
from reldistill_ros.core.errors import InputError

SHORTEST = 1e-6  # quaternion that can be made a unit one
FARTHEST = 1e9  # metres


def plain_name(frame: str) -> str:
    """Name of a frame without the leading slash of old drivers."""
    return frame.lstrip('/')


def stamp_of(header: Any) -> int:
    """Stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def read_pose(rotation: Any, translation: Any, edge: tuple[str, str]) -> Pose:
    """Quaternion x y z w and translation of geometry messages.

    Raises:
        InputError: not finite, farther than anything is, or no rotation.
    """
    pose = (
        *(float(getattr(rotation, axis)) for axis in 'xyzw'),
        *(float(getattr(translation, axis)) for axis in 'xyz'),
    )
    length, distance = np.abs(pose[:4]).max(), np.abs(pose[4:]).max()
    # NaN passes no comparison
    if not (SHORTEST < length < 1 / SHORTEST and distance < FARTHEST):
        raise InputError(
            'a transform of /tf is not a rigid transform',
            where=f'{edge[0]!r} to {edge[1]!r}',
            expected=f'a quaternion other than zero, and less than {FARTHEST:g} m',
            got=pose,
        )
    return pose


def edge_of(transform: Any) -> tuple[str, str]:
    """Parent and child of a TransformStamped."""
    return plain_name(transform.header.frame_id), plain_name(transform.child_frame_id)


def parts_of(transform: Any) -> tuple[Any, Any]:
    """Rotation and translation of a TransformStamped."""
    return transform.transform.rotation, transform.transform.translation
