# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What became of each sweep: counted always, published on `~/debug/...` for whom it concerns.

`~/debug/sweeps` has one DiagnosticArray for each sweep, with its stamp, its fate and, where it was
labelled, the revision of the words and the times of all stages. The other topics are plain
numbers for plotting, named as Autoware's lidar nodes name theirs.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Float64, UInt64

from reldistill_ros.node.diagnostics import StageTimes, Statistics
from reldistill_ros.node.stamps import stamp_ns_of

NUMBERS = (
    'cyclic_time_ms',
    'pipeline_latency_ms',
    'processing_time/decode_ms',
    'processing_time/inference_ms',
    'processing_time/fusion_ms',
    'processing_time/output_ms',
    'processing_time/total_ms',
)


class SweepLog:
    """Every sweep that came in ends in one call of this; from any thread.

    Args:
        node: whose topics they are.
        statistics: what counts.
    """

    def __init__(self, node: Any, statistics: Statistics) -> None:
        self._node, self._statistics = node, statistics
        self._last_labelled = float('nan')
        self._drops = itertools.count(1)  # safe from two threads, which += is not
        overrides = QoSOverridingOptions.with_default_policies()

        def create(kind: Any, name: str) -> Any:
            topic = f'~/debug/{name}'
            return node.create_publisher(kind, topic, 5, qos_overriding_options=overrides)

        self._numbers = {name: create(Float64, name) for name in NUMBERS}
        self._dropped = create(UInt64, 'frames_dropped')
        self._sweeps = create(DiagnosticArray, 'sweeps')

    def not_requested(self, cloud: Any) -> None:
        """Nobody listened to the answer."""
        self._statistics.not_requested()
        self._publish(cloud, 'not_requested', {})

    def dropped(self, cloud: Any, reason: str) -> None:
        """It was given up, for one of `diagnostics.DROPS`."""
        self._statistics.dropped(reason)
        self._lose(cloud, f'dropped: {reason}')

    def rejected(self, cloud: Any, reason: str) -> None:
        """It contradicts itself."""
        self._statistics.rejected(reason)
        self._lose(cloud, f'rejected: {reason}')

    def failed(self, cloud: Any, reason: str) -> None:
        """The engine broke on it."""
        self._statistics.failed(reason)
        self._lose(cloud, f'failed: {reason}')

    def labelled(self, cloud: Any, times: StageTimes, revision: str, cameras: str = '') -> None:
        """It was published.

        Args:
            cloud: it.
            times: where its time went.
            revision: of its words.
            cameras: how much later than the sweep each looked, in seconds, or why it had no say.
        """
        self._statistics.labelled(times)
        now_ns, now = self._node.get_clock().now().nanoseconds, time.monotonic()
        milliseconds = {
            'cyclic_time_ms': 1e3 * (now - self._last_labelled),
            'pipeline_latency_ms': 1e-6 * (now_ns - stamp_ns_of(cloud)),
            'processing_time/decode_ms': 1e3 * times.decode,
            'processing_time/inference_ms': 1e3 * times.inference,
            'processing_time/fusion_ms': 1e3 * times.fusion,
            'processing_time/output_ms': 1e3 * times.output,
            'processing_time/total_ms': 1e3 * times.total,
        }
        self._last_labelled = now
        for name, value in milliseconds.items():
            if self._is_wanted(self._numbers[name]):
                self._numbers[name].publish(Float64(data=value))
        waited = {'wait_ms': 1e3 * times.wait}
        values = {name.split('/')[-1]: value for name, value in milliseconds.items()} | waited
        texts = {name: f'{value:.3f}' for name, value in values.items()}
        told = {'cameras': cameras} if cameras else {}
        self._publish(cloud, 'labelled', {'revision': revision, **told, **texts})

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (*self._numbers.values(), self._dropped, self._sweeps):
            self._node.destroy_publisher(publisher)

    def _lose(self, cloud: Any, fate: str) -> None:
        num_dropped = next(self._drops)
        if self._is_wanted(self._dropped):
            self._dropped.publish(UInt64(data=num_dropped))
        self._publish(cloud, fate, {})

    def _publish(self, cloud: Any, fate: str, values: dict[str, str]) -> None:
        if not self._is_wanted(self._sweeps):
            return
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK if fate == 'labelled' else DiagnosticStatus.WARN,
            name=f'{self._node.get_name()}: sweep',
            message=fate,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = cloud.header.stamp
        array.header.frame_id = cloud.header.frame_id
        self._sweeps.publish(array)

    def _is_wanted(self, publisher: Any) -> bool:
        """Also False when ROS has ended: then the last sweeps are only counted."""
        return bool(self._node.context.ok() and publisher.get_subscription_count() > 0)
