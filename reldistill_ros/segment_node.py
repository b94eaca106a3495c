# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node: a cloud comes in, the same cloud with a class per point goes out. No maths here.

One executor thread answers ROS; one inference thread labels the newest cloud.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2, PointField

from reldistill_ros import label_info
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.diagnostics import InputState, Statistics
from reldistill_ros.latest_worker import LatestWorker
from reldistill_ros.parameters import NodeSettings, choose_intensity_max, declare_settings
from reldistill_ros.point_cloud import encode_xyzcpe, encode_xyzrgb, fill_cloud, read_points

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
UNLABELLED_COLOR = (96, 96, 96)
LOG_PERIOD = 5.0  # seconds between two warnings of a kind
STOP_TIMEOUT = 1.0  # seconds that a running inference may take to end at shutdown


class Labeller(Protocol):
    """What the node asks of `reldistill_ros.labeller.Labeller`."""

    vocabulary: Vocabulary
    intensity_max: float | None
    revision: str

    def __call__(self, points: NDArray[np.float32]) -> Labels:
        """Label points (N, 4): x y z in metres, intensity 0 to 1."""


MakeLabeller = Callable[[NodeSettings], Labeller]


def load_labeller(settings: NodeSettings) -> Labeller:
    """Open the bundle."""
    from reldistill_ros.labeller import Labeller as BundleLabeller

    labeller: Labeller = BundleLabeller.from_bundle(
        Path(settings.bundle), backend=settings.backend, num_threads=settings.num_threads
    )
    return labeller


class SegmentNode(Node):
    """Labels every point of the clouds on `~/input/pointcloud`.

    Args:
        make_labeller: opens the bundle that the parameters name.

    Raises:
        InputError: a parameter or the bundle is wrong.
    """

    def __init__(self, make_labeller: MakeLabeller = load_labeller) -> None:
        super().__init__('segment_node')
        self._settings = declare_settings(self)
        self._labeller = make_labeller(self._settings)
        self._intensity_max = choose_intensity_max(
            self._settings.intensity_max, self._labeller.intensity_max
        )
        self._labeller(warm_up_points())
        self._statistics = Statistics()
        self._worker: LatestWorker[tuple[PointCloud2, float]] = LatestWorker(
            self._label_guarded, name='inference'
        )
        self._create_outputs()
        self._input = self.create_subscription(
            PointCloud2,
            '~/input/pointcloud',
            self._on_cloud,
            BEST_EFFORT,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        # a steady clock: with use_sim_time the diagnostics must not stop with the bag
        self._timer = self.create_timer(
            self._settings.diagnostics_period,
            self._publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._label_info = label_info.publish(self, self._labeller)  # last: who sees it, may start
        self.get_logger().info(
            f'ready: {len(self._labeller.vocabulary.class_names)} classes, '
            f'bundle {self._labeller.revision}, backend {self._settings.backend}'
        )

    def stop(self, timeout: float) -> bool:
        """End the inference thread; returns whether it ended in time."""
        return self._worker.stop(timeout)

    def _create_outputs(self) -> None:
        def output(kind: type, name: str, qos: QoSProfile) -> Any:
            overrides = QoSOverridingOptions.with_default_policies()
            return self.create_publisher(kind, name, qos, qos_overriding_options=overrides)

        self._segmentation = output(PointCloud2, '~/output/pointcloud/segmentation', RELIABLE)
        self._visualization = output(PointCloud2, '~/output/pointcloud/visualization', RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def _on_cloud(self, cloud: PointCloud2) -> None:
        """Executor thread: hand the cloud over and return at once."""
        self._statistics.received()
        if not (_is_wanted(self._segmentation) or _is_wanted(self._visualization)):
            self._statistics.not_requested()
        elif self._worker.put((cloud, time.monotonic())):
            self._statistics.dropped_busy()

    def _label_guarded(self, arrival: tuple[PointCloud2, float]) -> None:
        """Inference thread: no cloud ends the node."""
        cloud, arrived = arrival
        try:
            self._label(cloud)
        except InputError as error:
            self._statistics.rejected(str(error).splitlines()[0])
            self.get_logger().warning(f'cloud rejected: {error}', throttle_duration_sec=LOG_PERIOD)
        except Exception as error:
            self._statistics.failed()
            self.get_logger().error(
                f'inference failed: {type(error).__name__}: {error}',
                throttle_duration_sec=LOG_PERIOD,
            )
        else:
            self._statistics.labelled(time.monotonic() - arrived)

    def _label(self, cloud: PointCloud2) -> None:
        """Decode, label, and publish what somebody listens to."""
        check_num_points(cloud, self._settings.max_points)
        points, _ = read_points(cloud, self._intensity_max)
        labels = self._labeller(points)
        if _is_wanted(self._segmentation):
            records = encode_xyzcpe(
                points, labels.class_ids, labels.probabilities, labels.entropies
            )
            self._segmentation.publish(fill_cloud(PointCloud2(), records, cloud, PointField))
        if _is_wanted(self._visualization):
            colors = color_table(self._labeller.vocabulary)[labels.class_ids]
            records = encode_xyzrgb(points, colors)
            self._visualization.publish(fill_cloud(PointCloud2(), records, cloud, PointField))

    def _publish_diagnostics(self) -> None:
        level, message = self._statistics.judge(self._input_state())
        values = {
            **self._statistics.values(),
            'backend': self._settings.backend,
            'bundle_revision': self._labeller.revision,
            'input_topic': self._input.topic_name,
        }
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f'{self.get_name()}: segmentation',
            message=message,
            hardware_id=self.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _input_state(self) -> InputState:
        topic = self._input.topic_name
        publishers = self.get_publishers_info_by_topic(topic)
        return InputState(
            topic=topic,
            publishers=len(publishers),
            incompatible=incompatibility(publishers, self._input.qos_profile),
            timeout=self._settings.input_timeout,
        )


def check_num_points(cloud: PointCloud2, max_points: int) -> None:
    """Refuse a cloud before anything of its size is allocated."""
    if cloud.width * cloud.height > max_points:
        raise InputError(
            'the cloud has too many points',
            expected=f'at most {max_points}',
            got=cloud.width * cloud.height,
            fix='raise the parameter max_points',
        )


def warm_up_points() -> NDArray[np.float32]:
    """A ring of points, so that the first sweep does not wait for allocation and compilation."""
    angles = np.linspace(0, 2 * np.pi, 2000, dtype=np.float32)
    zeros = np.zeros_like(angles)
    return np.stack([10 * np.cos(angles), 10 * np.sin(angles), zeros, zeros], axis=1)


def color_table(vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """RGB of each class id, (256, 3)."""
    table = np.empty((IGNORE_INDEX + 1, 3), np.uint8)
    table[:] = UNLABELLED_COLOR
    table[: len(vocabulary.colors)] = vocabulary.colors
    return table


def incompatibility(publishers: Sequence[Any], subscription: QoSProfile) -> str:
    """Why no publisher matches, empty where one does or there is none."""
    checks = [qos_check_compatible(info.qos_profile, subscription) for info in publishers]
    if not checks or any(check != QoSCompatibility.ERROR for check, _ in checks):
        return ''
    return '; '.join(reason for _, reason in checks)


def spin(node: SegmentNode) -> bool:
    """Run until a signal comes; returns whether the inference thread ended in time."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with suppress(KeyboardInterrupt, ExternalShutdownException):
            executor.spin()
    finally:
        ended = node.stop(STOP_TIMEOUT)
    if ended:
        node.destroy_node()
    return ended


def main(make_labeller: MakeLabeller = load_labeller) -> None:
    """Run the node; SIGINT and SIGTERM end it with exit code 0."""
    rclpy.init()
    try:
        ended = spin(SegmentNode(make_labeller))
    finally:
        rclpy.try_shutdown()
    if not ended:
        # interpreter shutdown under a running native thread aborts; the robot must not wait
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def command() -> None:
    """Console script."""
    run_command(main)


def _is_wanted(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)


if __name__ == '__main__':
    command()
