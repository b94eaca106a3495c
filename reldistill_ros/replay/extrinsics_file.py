# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The frames of a bag that never move, as a file: for a ROS that has no tf2_msgs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reldistill_ros.bags.bag import TF_MESSAGE, Bag
from reldistill_ros.core.files import replacing

SAME = 1e-4  # metres, and parts of a quaternion


def write_extrinsics(bag: Bag, path: Path) -> list[str]:
    """Write the node's `extrinsics_file`.

    Args:
        bag: an open bag.
        path: YAML to write.

    Returns:
        The frames that move, which no file can hold.
    """
    poses: dict[str, dict[str, Any]] = {}
    moving: dict[str, None] = {}
    for topic in bag.topics_of(TF_MESSAGE):
        for _, message in bag.messages(topic):
            for transform in message.transforms:
                pose = _pose(transform)
                first = poses.setdefault(pose['child'], pose)
                if not _is_same(first, pose):
                    moving[pose['child']] = None
    kept = [pose for child, pose in poses.items() if child not in moving]
    with replacing(path) as partial:
        partial.write_text(yaml.safe_dump({'extrinsics': kept}, sort_keys=False), encoding='utf-8')
    return [*moving]


def _pose(transform: Any) -> dict[str, Any]:
    """As the file holds it."""
    translation, rotation = transform.transform.translation, transform.transform.rotation
    return {
        'parent': transform.header.frame_id,
        'child': transform.child_frame_id,
        'translation': [float(getattr(translation, axis)) for axis in 'xyz'],
        'rotation': [float(getattr(rotation, axis)) for axis in 'xyzw'],
    }


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    keys = ('translation', 'rotation')
    return one['parent'] == other['parent'] and all(
        np.allclose(one[key], other[key], rtol=0, atol=SAME) for key in keys
    )
