# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The subscription to the clouds, what the middleware tells of those lost, and jumps of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2

INPUT = '~/input/pointcloud'
# a publisher that is reliable fits too; of several waiting clouds only the newest counts
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def subscribe(
    node: Any, on_cloud: Callable[[PointCloud2], None], on_lost: Callable[[int], None]
) -> Any:
    """Subscribe to the clouds.

    Args:
        node: that listens.
        on_cloud: called with each cloud.
        on_lost: called with how many more the middleware has lost, where it can tell.
    """

    def create(events: SubscriptionEventCallbacks) -> Any:
        return node.create_subscription(
            PointCloud2,
            INPUT,
            on_cloud,
            BEST_EFFORT,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=events,
        )

    try:
        return create(
            SubscriptionEventCallbacks(message_lost=lambda info: on_lost(info.total_count_change))
        )
    except UnsupportedEventTypeError:  # not every middleware can tell
        return create(SubscriptionEventCallbacks())


def watch_time(node: Any, on_jump: Callable[[], None]) -> Any:
    """Call back when the node's clock goes backwards, as when a bag begins anew.

    Returns:
        A handle, which must live as long as it is to be watched.
    """
    backwards = JumpThreshold(
        min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
    )
    clock = node.get_clock()
    return clock.create_jump_callback(backwards, post_callback=lambda jump: on_jump())
