# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The meaning of the class ids, latched: JSON for everyone, vision_msgs where it is installed.

A consumer takes, for each cloud, the newest label info whose `since` is not after the cloud's
stamp.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import String

from reldistill_ros.core.vocabulary import IGNORE_INDEX
from reldistill_ros.node.model import Words
from reldistill_ros.node.stamps import NANO

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# the node keeps the last ones, so that a slow consumer misses none when words change quickly
HISTORY = QoSProfile(depth=16, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class LabelInfoPublisher:
    """The latched topics `~/label_info` and, where vision_msgs is there, `~/label_info/vision`.

    Args:
        node: whose topics they are.
        model: revision of the weights.
    """

    def __init__(self, node: Any, model: str) -> None:
        self._node, self._model = node, model
        self._words: Words | None = None
        self._since_ns = 0
        self._overrides = QoSOverridingOptions.with_default_policies()
        self._json = self._create(String, '~/label_info')
        self._vision = None
        if importlib.util.find_spec('vision_msgs'):
            from vision_msgs.msg import LabelInfo

            self._vision = self._create(LabelInfo, '~/label_info/vision')

    def announce(self, words: Words, stamp_ns: int) -> None:
        """Say what words the cloud with that stamp, which is about to come, is labelled with.

        Nothing is published where consumers know it from the last time.
        """
        if words is self._words and stamp_ns >= self._since_ns:
            return
        self._words, self._since_ns = words, stamp_ns
        self._json.publish(String(data=as_json(words, self._model, stamp_ns)))
        if self._vision is not None:
            self._vision.publish(_as_vision_msg(words, stamp_ns))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in filter(None, (self._json, self._vision)):
            self._node.destroy_publisher(publisher)

    def _create(self, kind: Any, topic: str) -> Any:
        return self._node.create_publisher(
            kind, topic, HISTORY, qos_overriding_options=self._overrides
        )


def as_json(words: Words, model: str, since_ns: int) -> str:
    """Class names and colours in the order of the class ids, and since when they hold."""
    vocabulary = words.vocabulary
    sec, nanosec = divmod(since_ns, NANO)
    return json.dumps(
        {
            'class_names': list(vocabulary.class_names),
            'colors': vocabulary.colors.tolist(),
            'prompts': [list(entry.prompts or (entry.name,)) for entry in vocabulary.classes],
            'unlabelled': IGNORE_INDEX,
            'vocabulary': vocabulary.name,
            'model': model,
            'revision': words.revision,
            'since': {'sec': sec, 'nanosec': nanosec},
        }
    )


def _as_vision_msg(words: Words, since_ns: int) -> Any:
    """LabelInfo whose header carries `since`."""
    from vision_msgs.msg import LabelInfo, VisionClass

    message = LabelInfo()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(since_ns, NANO)
    message.class_map = [
        VisionClass(class_id=index, class_name=name)
        for index, name in enumerate(words.vocabulary.class_names)
    ]
    return message
