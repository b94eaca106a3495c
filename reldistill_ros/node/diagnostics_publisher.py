# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The ROS side of the diagnostics: asks what is known of the input and publishes the status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions

from reldistill_ros.node.diagnostics import Finding, InputState, worst_of


@dataclass(frozen=True)
class Report:
    """One status of the node.

    Attributes:
        findings: what is worth telling.
        otherwise: the message where there is nothing.
        values: what to show in any case.
        part: of the node that it is about.
        hardware: what that is, empty for the node itself.
    """

    findings: Sequence[Finding]
    otherwise: str
    values: dict[str, str]
    part: str = 'segmentation'
    hardware: str = ''


class DiagnosticsPublisher:
    """Publishes on /diagnostics what `reports` say, each time `publish` is called.

    Args:
        node: whose status it is.
        reports: makes the status of each part of it.
    """

    def __init__(self, node: Any, reports: Callable[[], Sequence[Report]]) -> None:
        self._node, self._reports = node, reports
        self._publisher = node.create_publisher(
            DiagnosticArray,
            '/diagnostics',
            10,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def publish(self) -> None:
        """Publish the status as it is now."""
        array = DiagnosticArray(status=[self._status(report) for report in self._reports()])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _status(self, report: Report) -> DiagnosticStatus:
        level, message = worst_of(report.findings, report.otherwise)
        return DiagnosticStatus(
            level=bytes([level]),
            name=f'{self._node.get_name()}: {report.part}',
            message=message,
            hardware_id=report.hardware or self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in report.values.items()],
        )


def input_state(node: Any, subscription: Any, timeout: float) -> InputState:
    """What is known of a subscription's topic.

    Args:
        node: that has the subscription.
        subscription: to the clouds.
        timeout: seconds without a cloud that are worth a warning.
    """
    topic = subscription.topic_name
    publishers = node.get_publishers_info_by_topic(topic)
    return InputState(
        topic=topic,
        publishers=len(publishers),
        incompatible=wrong_type(publishers, subscription.msg_type)
        or incompatibility(publishers, subscription.qos_profile),
        timeout=timeout,
    )


def incompatibility(publishers: Sequence[Any], subscription: QoSProfile) -> str:
    """Why no publisher matches, empty where one does or there is none."""
    checks = [qos_check_compatible(info.qos_profile, subscription) for info in publishers]
    if not checks or any(check != QoSCompatibility.ERROR for check, _ in checks):
        return ''
    return f'its QoS: {"; ".join(reason for _, reason in checks)}'


def wrong_type(publishers: Sequence[Any], expected: Any) -> str:
    """What the publishers send instead of a message type, empty where one sends that."""
    package, *_ = expected.__module__.split('.')
    wanted = f'{package}/msg/{expected.__name__}'
    sent = {info.topic_type for info in publishers}
    if not sent or wanted in sent:
        return ''
    told = f'it carries {", ".join(sorted(sent))}, and {wanted} is expected'
    images = {'sensor_msgs/msg/Image': 'raw', 'sensor_msgs/msg/CompressedImage': 'compressed'}
    transports = [images[name] for name in sent if wanted in images and name in images]
    return f'{told}: set its transport to {transports[0]}' if transports else told
