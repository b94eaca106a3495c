# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The frames of a bag that never move, as a file: for a ROS that has no tf2_msgs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from reldistill_ros.bags.bag import TF_MESSAGE, Bag
from reldistill_ros.cameras.tf_messages import edge_of, parts_of, read_pose
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.files import replacing

SAME = 1e-4  # metres, and parts of a quaternion


class Unwritten(NamedTuple):
    """What the file lacks.

    Attributes:
        moving: frames that move, which no file can hold.
        refused: why transforms are not used, by frame.
    """

    moving: list[str]
    refused: dict[str, str]


def write_extrinsics(bag: Bag, path: Path) -> Unwritten:
    """Write the node's `extrinsics_file`.

    Args:
        bag: an open bag.
        path: YAML to write.
    """
    poses: dict[str, dict[str, Any]] = {}
    moving: dict[str, None] = {}
    refused: dict[str, str] = {}
    for topic in bag.topics_of(TF_MESSAGE):
        for _, message in bag.messages(topic):
            for transform in message.transforms:
                try:
                    pose = _pose(transform)
                except InputError as error:
                    refused[transform.child_frame_id] = str(error)
                    continue
                first = poses.setdefault(pose['child'], pose)
                if not _is_same(first, pose):
                    moving[pose['child']] = None
    kept = [pose for child, pose in poses.items() if child not in moving]
    with replacing(path) as partial:
        partial.write_text(yaml.safe_dump({'extrinsics': kept}, sort_keys=False), encoding='utf-8')
    return Unwritten([*moving], refused)


def _pose(transform: Any) -> dict[str, Any]:
    """As the file holds it, with a quaternion of length 1, which /tf does not ask for.

    Raises:
        InputError: it is not rigid.
    """
    edge = edge_of(transform)
    pose = read_pose(*parts_of(transform), edge)
    rotation = np.array(pose[:4]) / np.linalg.norm(pose[:4])
    return {
        'parent': edge[0],
        'child': edge[1],
        'translation': [*pose[4:]],
        'rotation': rotation.tolist(),
    }


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    keys = ('translation', 'rotation')
    return one['parent'] == other['parent'] and all(
        np.allclose(one[key], other[key], rtol=0, atol=SAME) for key in keys
    )
