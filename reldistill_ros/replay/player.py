# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The ROS side of a replay: publishes sweeps and /clock, and receives labels and diagnostics."""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from heapq import merge
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from reldistill_ros.core.errors import InputError
from reldistill_ros.node.diagnostics import StageTimes
from reldistill_ros.node.stamps import stamp_ns_of
from reldistill_ros.point_cloud import read_fields
from reldistill_ros.replay.account import account_for
from reldistill_ros.replay.bag import Sweeps
from reldistill_ros.replay.beside import STATIC, Beside, PlannedBeside, plan_beside
from reldistill_ros.replay.recording import Fate, Recording
from reldistill_ros.replay.schedule import NANO, Course, Planned, plan_sweeps, span_of, with_stamp

NODE = '/segment_node'
SEGMENTATION = 'segmentation'  # what its status that counts the sweeps is called
START_TIMEOUT = 180.0  # seconds; an engine loads slowly on a busy machine
MATCH_TIME = 0.5  # seconds that the node may learn of us later than we of it
ANSWER_TIMEOUT = 20.0  # seconds that one sweep may take, on a machine with other work too
QUIET_TIME = 3.0  # seconds without an answer after which no more are expected
CLOCK_PERIOD = 0.01  # seconds between two messages on /clock


class Player:
    """A context: publishers and subscriptions while inside.

    Args:
        sweeps: what to play.
        check_node: raises when the node has ended.
        beside: what to play beside them, None for nothing.
    """

    def __init__(
        self, sweeps: Sweeps, check_node: Callable[[], None], beside: Beside | None = None
    ) -> None:
        self.recording = Recording()
        self._sweeps, self._beside = sweeps, beside
        self._check_node = check_node

    def __enter__(self) -> Player:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = node = rclpy.create_node('replay')
        self._clouds = node.create_publisher(PointCloud2, self._sweeps.topic, 5)
        self._clock = node.create_publisher(Clock, '/clock', 1)
        self._others = {
            topic: node.create_publisher(message_type(kind), topic, _quality(topic))
            for topic, kind in (self._beside.topics if self._beside else {}).items()
        }
        topic = f'{NODE}/output/pointcloud/segmentation'
        self._labels = node.create_subscription(PointCloud2, topic, self._on_labels, 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        node.create_subscription(DiagnosticArray, f'{NODE}/debug/sweeps', self._on_fate, 50)
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

    def play(self, course: Course) -> None:
        """Send the sweeps, each at its own time or after the answer to the last one.

        A sweep that comes while the node is busy may drop.
        """
        until = math.inf if course.minutes is None else 60 * course.minutes + time.perf_counter()
        self._start = time.perf_counter()
        for message in self._plan(course.loops):
            if time.perf_counter() >= until:
                break
            if isinstance(message, Planned):
                self._send(message, course.rate)
            else:
                self._send_beside(message, course.rate)
        while not self.recording.is_complete and self.recording.wait_for_more(QUIET_TIME):
            self._check_node()

    def wait_for_diagnostics(self) -> None:
        """Wait until the node's own counts include every sweep, the one still in work too."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not self._is_accounted_for() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _plan(self, loops: int | None) -> Iterator[Planned | PlannedBeside]:
        """All messages in order; what has a cloud's stamp comes before the cloud."""
        stamps = self._sweeps.stamps_ns
        sweeps = plan_sweeps(stamps, loops)
        if self._beside is None:
            return sweeps
        for entry in self._beside.static:
            self._others[entry.topic].publish(self._beside.raw(entry, 0))
        others = plan_beside(self._beside, span_of(stamps), loops)
        return merge(others, sweeps, key=lambda message: message.stamp_ns)

    def _send_beside(self, message: PlannedBeside, rate: float | None) -> None:
        assert self._beside is not None
        raw = self._beside.raw(message.entry, message.shift_ns)
        if rate is not None:
            self._wait_for_time(message.stamp_ns, rate)
        self._publish_clock(message.stamp_ns)
        self._others[message.entry.topic].publish(raw)
        self.recording.beside[message.entry.topic] += 1

    def _send(self, sweep: Planned, rate: float | None) -> None:
        entry = self._sweeps.entries[sweep.source]
        raw = with_stamp(self._sweeps.bag.raw(entry), sweep.stamp_ns)
        self._check_node()
        if rate is not None:
            self._wait_for_time(sweep.stamp_ns, rate)
        self._publish_clock(sweep.stamp_ns)
        self.recording.send(sweep)
        self._clouds.publish(raw)
        if rate is None:
            self.recording.wait_for(sweep.stamp_ns, ANSWER_TIMEOUT)

    def _wait_for_time(self, stamp_ns: int, rate: float) -> None:
        """Let the clock run until it has come to the stamp."""
        due = self._start + (stamp_ns - self._sweeps.stamps_ns[0]) / NANO / rate
        while (wait := due - time.perf_counter()) > 0:
            self._publish_clock(stamp_ns - int(wait * rate * NANO))
            time.sleep(min(wait, CLOCK_PERIOD))

    def _is_accounted_for(self) -> bool:
        recording = self.recording
        sent, answered, counters = (
            len(recording.sent),
            len(recording.answers),
            recording.node_values,
        )
        is_fresh = int(counters.get('labelled', 0)) >= answered
        return is_fresh and not account_for(sent, answered, counters).unaccounted

    def _publish_clock(self, stamp_ns: int) -> None:
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(stamp_ns, NANO)
        self._clock.publish(clock)

    def _is_connected(self) -> bool:
        # the node listens once it is warm
        return bool(
            self._clouds.get_subscription_count() > 0 and self._labels.get_publisher_count() > 0
        )

    def _receive(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_labels(self, cloud: PointCloud2) -> None:
        fields = read_fields(cloud, ['class_id', 'probability'])
        self.recording.receive(stamp_ns_of(cloud), fields['class_id'], fields['probability'])

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            owner, _, part = status.name.partition(': ')
            if owner == NODE.lstrip('/'):  # the hardware of a camera's status is the camera
                values = {value.key: value.value for value in status.values}
                if part == SEGMENTATION:
                    self.recording.node_values = values
                else:
                    self.recording.part_values[part] = values

    def _on_fate(self, array: DiagnosticArray) -> None:
        (status,) = array.status
        values = {value.key: value.value for value in status.values}
        names = (field.name for field in fields(StageTimes)) if values else ()
        stages = {name: float(values[f'{name}_ms']) / 1000 for name in names}
        self.recording.fates[stamp_ns_of(array)] = Fate(status.message, stages)


def message_type(kind: str) -> Any:
    """The class of messages of a type such as `sensor_msgs/msg/Image`."""
    package, _, name = kind.partition('/msg/')
    return getattr(importlib.import_module(f'{package}.msg'), name)


def _quality(topic: str) -> QoSProfile:
    """Late listeners hear the frames that never move."""
    if topic.endswith(STATIC):
        return QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=100 if topic.endswith('tf') else 5)
