# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The ROS side of the diagnostics: asks what is known of the input and publishes the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from reldistill_ros.diagnostics import InputState, Statistics


class DiagnosticsPublisher:
    """Publishes a status on /diagnostics from time to time, as long as it lives.

    Args:
        node: whose status it is.
        statistics: what the node counts.
        source: the subscription to the clouds.
        period: seconds between two messages.
        timeout: seconds without a cloud that are worth a warning.
        values: what else to show.
    """

    def __init__(
        self,
        node: Any,
        statistics: Statistics,
        source: Any,
        *,
        period: float,
        timeout: float,
        values: Mapping[str, str],
    ) -> None:
        self._node, self._statistics, self._source = node, statistics, source
        self._timeout, self._values = timeout, values
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # a steady clock: with use_sim_time the diagnostics must not stop with the bag
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period, self._publish, clock=clock)

    def _publish(self) -> None:
        level, message = self._statistics.judge(self._input_state())
        values = {
            **self._statistics.values(),
            **self._values,
            'input_topic': self._source.topic_name,
        }
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f'{self._node.get_name()}: segmentation',
            message=message,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _input_state(self) -> InputState:
        topic = self._source.topic_name
        publishers = self._node.get_publishers_info_by_topic(topic)
        return InputState(
            topic=topic,
            publishers=len(publishers),
            incompatible=incompatibility(publishers, self._source.qos_profile),
            timeout=self._timeout,
        )


def incompatibility(publishers: Sequence[Any], subscription: QoSProfile) -> str:
    """Why no publisher matches, empty where one does or there is none."""
    checks = [qos_check_compatible(info.qos_profile, subscription) for info in publishers]
    if not checks or any(check != QoSCompatibility.ERROR for check, _ in checks):
        return ''
    return '; '.join(reason for _, reason in checks)
