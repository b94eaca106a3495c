# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The meaning of the class ids, latched: JSON for everyone, vision_msgs where it is installed."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from reldistill_ros.core.vocabulary import IGNORE_INDEX

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def publish(node: Any, labeller: Any) -> list[Any]:
    """Create the latched topics and publish once.

    Returns:
        The publishers, which must live as long as the topics.
    """
    publishers = [node.create_publisher(String, '~/label_info', LATCHED)]
    publishers[0].publish(String(data=as_json(labeller)))
    if importlib.util.find_spec('vision_msgs'):
        from vision_msgs.msg import LabelInfo

        publishers.append(node.create_publisher(LabelInfo, '~/label_info/vision', LATCHED))
        publishers[1].publish(_as_vision_msg(LabelInfo(), node, labeller.vocabulary.class_names))
    return publishers


def as_json(labeller: Any) -> str:
    """Class names and colours in the order of the class ids, and which bundle gives them."""
    vocabulary = labeller.vocabulary
    return json.dumps(
        {
            'class_names': list(vocabulary.class_names),
            'colors': vocabulary.colors.tolist(),
            'prompts': [list(entry.prompts or (entry.name,)) for entry in vocabulary.classes],
            'unlabelled': IGNORE_INDEX,
            'vocabulary': vocabulary.name,
            'revision': labeller.revision,
        }
    )


def _as_vision_msg(message: Any, node: Any, class_names: tuple[str, ...]) -> Any:
    from vision_msgs.msg import VisionClass

    message.header.stamp = node.get_clock().now().to_msg()
    message.class_map = [VisionClass(class_id=i, class_name=n) for i, n in enumerate(class_names)]
    return message
