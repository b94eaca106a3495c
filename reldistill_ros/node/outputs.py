# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node's clouds: what somebody listens to is made and published, the rest is not made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2, PointField

from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.labelled_cloud import (
    UNLABELLED_COLOR,
    encode_compact,
    encode_xyzcpe,
    encode_xyzrgb,
    fill_cloud,
    keep_points,
)
from reldistill_ros.node.label_info import LabelInfoPublisher
from reldistill_ros.node.model import LabelledSweep
from reldistill_ros.node.parameters import UNLABELLED
from reldistill_ros.node.stamps import stamp_ns_of

RELIABLE = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
TOPICS = ('segmentation', 'visualization', 'filtered', 'labels')


class Outputs:
    """Publishers on `~/output/pointcloud/...`, and the label info that goes before them.

    Attributes:
        filter_classes: classes that `filtered` leaves out; may be replaced at any time.

    Args:
        node: whose topics they are.
        model: revision of the weights.
        filter_classes: see above.
    """

    def __init__(self, node: Any, model: str, filter_classes: tuple[str, ...]) -> None:
        self.filter_classes = filter_classes
        self._node = node
        overrides = QoSOverridingOptions.with_default_policies()
        self._publishers = {
            name: node.create_publisher(
                PointCloud2,
                f'~/output/pointcloud/{name}',
                RELIABLE,
                qos_overriding_options=overrides,
            )
            for name in TOPICS
        }
        self.label_info = LabelInfoPublisher(node, model)

    @property
    def are_wanted(self) -> bool:
        """Whether anybody listens to anything."""
        return any(map(_is_wanted, self._publishers.values()))

    def publish(self, cloud: Any, points: NDArray[np.float32], sweep: LabelledSweep) -> None:
        """Publish what somebody listens to, after the meaning of its labels.

        Args:
            cloud: the sensor_msgs/PointCloud2 that came in.
            points: (N, 4) its points.
            sweep: their labels and words.
        """
        self.label_info.announce(sweep.words, stamp_ns_of(cloud))
        for name, publisher in self._publishers.items():
            if _is_wanted(publisher):
                publisher.publish(self._make(name, cloud, points, sweep))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self.label_info.destroy()

    def _make(
        self, name: str, cloud: Any, points: NDArray[np.float32], sweep: LabelledSweep
    ) -> Any:
        labels, vocabulary = sweep.labels, sweep.words.vocabulary
        class_ids, probabilities = labels.class_ids, labels.probabilities
        if name == 'filtered':
            keep = kept_classes(vocabulary, self.filter_classes)[class_ids]
            return keep_points(PointCloud2(), cloud, keep)
        if name == 'segmentation':
            records = encode_xyzcpe(points, class_ids, probabilities, labels.entropies)
        elif name == 'visualization':
            colors = vocabulary.color_table(UNLABELLED_COLOR)
            records = encode_xyzrgb(points, colors[class_ids])
        else:
            records = encode_compact(class_ids, probabilities)
        return fill_cloud(PointCloud2(), records, cloud, PointField)


def kept_classes(vocabulary: Vocabulary, filter_classes: tuple[str, ...]) -> NDArray[np.bool_]:
    """Whether points of each label stay in the filtered cloud, (256,)."""
    keep = np.ones(IGNORE_INDEX + 1, np.bool_)
    for index, name in enumerate(vocabulary.class_names):
        keep[index] = name not in filter_classes
    keep[IGNORE_INDEX] = UNLABELLED not in filter_classes
    return keep


def _is_wanted(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)
