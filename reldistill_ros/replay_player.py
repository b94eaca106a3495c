# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The ROS side of a replay: publishes sweeps and /clock, and receives labels and diagnostics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from reldistill_ros.bag import BagEntry
from reldistill_ros.core.errors import InputError
from reldistill_ros.label_info import LATCHED
from reldistill_ros.point_cloud import read_fields
from reldistill_ros.recording import Recording
from reldistill_ros.replay_bag import Sweeps

NODE = '/segment_node'
START_TIMEOUT = 180.0  # seconds; an engine loads slowly on a busy machine
MATCH_TIME = 0.5  # seconds that the node may learn of us later than we of it
ANSWER_TIMEOUT = 20.0  # seconds that a closed loop waits for one sweep
QUIET_TIME = 3.0  # seconds without an answer after which no more are expected
CLOCK_PERIOD = 0.01  # seconds between two messages on /clock
NANO = 1_000_000_000


class Player:
    """A context: publishers and subscriptions while inside.

    Args:
        sweeps: what to play.
        check_node: raises when the node has ended.
    """

    def __init__(self, sweeps: Sweeps, check_node: Callable[[], None]) -> None:
        self.recording = Recording()
        self._sweeps = sweeps
        self._check_node = check_node
        self._node_is_ready = threading.Event()

    def __enter__(self) -> Player:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = node = rclpy.create_node('replay')
        self._clouds = node.create_publisher(PointCloud2, self._sweeps.topic, 5)
        self._clock = node.create_publisher(Clock, '/clock', 1)
        topic = f'{NODE}/output/pointcloud/segmentation'
        self._labels = node.create_subscription(PointCloud2, topic, self._on_labels, 10)
        node.create_subscription(String, f'{NODE}/label_info', self._on_label_info, LATCHED)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._receive, name='receive')
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        rclpy.try_shutdown()
        self._thread.join()  # a thread left spinning aborts the process at its end

    def wait_until_ready(self) -> None:
        """Wait for the node's warm-up and for the connections in both directions.

        Raises:
            InputError: the node ended, or took too long.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_connected():
            self._check_node()
            if time.monotonic() > deadline:
                raise InputError(
                    'the node did not become ready', expected=f'within {START_TIMEOUT:.0f} s'
                )
            time.sleep(0.05)
        time.sleep(MATCH_TIME)

    def play_at(self, rate: float) -> None:
        """Send each sweep at its own time; a sweep that comes while the node is busy may drop."""
        first_ns, started = self._sweeps.entries[0].stamp_ns, time.perf_counter()
        for entry in self._sweeps.entries:
            raw = self._sweeps.bag.raw(entry)
            due = started + (entry.stamp_ns - first_ns) / NANO / rate
            while (wait := due - time.perf_counter()) > 0:
                self._publish_clock(entry.stamp_ns - int(wait * rate * NANO))
                time.sleep(min(wait, CLOCK_PERIOD))
            self._send(entry, raw)
        while not self.recording.is_complete and self.recording.wait_for_more(QUIET_TIME):
            self._check_node()

    def play_in_closed_loop(self) -> None:
        """Send each sweep after the answer to the last one: the highest rate without drops."""
        for entry in self._sweeps.entries:
            self._send(entry, self._sweeps.bag.raw(entry))
            self.recording.wait_for(entry.stamp_ns, ANSWER_TIMEOUT)

    def wait_for_diagnostics(self, timeout: float) -> None:
        """Wait until the node's own counts include every answer."""
        deadline = time.monotonic() + timeout
        answers = len(self.recording.answers)
        while int(self.recording.node_values.get('labelled', 0)) < answers:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def _send(self, entry: BagEntry, raw: bytes) -> None:
        self._check_node()
        self._publish_clock(entry.stamp_ns)
        self.recording.send(entry.stamp_ns)
        self._clouds.publish(raw)

    def _publish_clock(self, stamp_ns: int) -> None:
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(stamp_ns, NANO)
        self._clock.publish(clock)

    def _is_connected(self) -> bool:
        return (
            self._node_is_ready.is_set()
            and self._clouds.get_subscription_count() > 0
            and self._labels.get_publisher_count() > 0
        )

    def _receive(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_label_info(self, _: String) -> None:
        self._node_is_ready.set()

    def _on_labels(self, cloud: PointCloud2) -> None:
        stamp = cloud.header.stamp
        class_ids = read_fields(cloud, ['class_id'])['class_id']
        self.recording.receive(stamp.sec * NANO + stamp.nanosec, class_ids)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.hardware_id == NODE:
                self.recording.node_values = {value.key: value.value for value in status.values}
