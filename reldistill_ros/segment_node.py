# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The node: a cloud comes in, the same cloud with a class per point goes out. No maths here.

One executor thread answers ROS; one inference thread labels the newest cloud.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2, PointField

from reldistill_ros import label_info
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.vocabulary import Vocabulary
from reldistill_ros.core.zero_shot import Labels
from reldistill_ros.diagnostics import Statistics
from reldistill_ros.diagnostics_publisher import DiagnosticsPublisher
from reldistill_ros.labelled_cloud import encode_xyzcpe, encode_xyzrgb, fill_cloud
from reldistill_ros.latest_worker import LatestWorker
from reldistill_ros.parameters import NodeSettings, choose_intensity_max, declare_settings
from reldistill_ros.point_cloud import read_points

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
        Path(settings.bundle),
        backend=settings.backend,
        num_threads=settings.num_threads,
        precision=settings.precision,
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
        # ROS declares what it is given, and `declare_settings` sees what it does not know
        super().__init__('segment_node', automatically_declare_parameters_from_overrides=True)
        self._settings = declare_settings(self)
        self._labeller = make_labeller(self._settings)
        self._intensity_max = choose_intensity_max(
            self._settings.intensity_max, self._labeller.intensity_max
        )
        self._colors = self._labeller.vocabulary.color_table(UNLABELLED_COLOR)
        self._labeller(warm_up_points())
        self._statistics = Statistics()
        self._worker: LatestWorker[tuple[PointCloud2, float]] = LatestWorker(
            self._label_guarded, name='inference'
        )
        with _told_to_the_user('ROS cannot create the topics'):
            self._create_topics()
        self._diagnostics = DiagnosticsPublisher(
            self,
            self._statistics,
            self._input,
            period=self._settings.diagnostics_period,
            timeout=self._settings.input_timeout,
            values={
                'backend': self._settings.backend,
                'precision': self._settings.precision,
                'bundle_revision': self._labeller.revision,
            },
        )
        self._label_info = label_info.publish(self, self._labeller)  # last: who sees it, may start
        self.get_logger().info(
            f'ready: {len(self._labeller.vocabulary.class_names)} classes, '
            f'bundle {self._labeller.revision}, backend {self._settings.backend}, '
            f'{self._settings.precision}'
        )

    def stop(self, timeout: float) -> bool:
        """End the inference thread; returns whether it ended in time."""
        return self._worker.stop(timeout)

    def _create_topics(self) -> None:
        overrides = QoSOverridingOptions.with_default_policies()

        def output(name: str) -> Any:
            topic = f'~/output/pointcloud/{name}'
            return self.create_publisher(
                PointCloud2, topic, RELIABLE, qos_overriding_options=overrides
            )

        self._segmentation = output('segmentation')
        self._visualization = output('visualization')
        self._input = self.create_subscription(
            PointCloud2,
            '~/input/pointcloud',
            self._on_cloud,
            BEST_EFFORT,
            qos_overriding_options=overrides,
        )

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
        points = read_points(cloud, self._intensity_max)
        labels = self._labeller(points)
        if _is_wanted(self._segmentation):
            records = encode_xyzcpe(
                points, labels.class_ids, labels.probabilities, labels.entropies
            )
            self._segmentation.publish(fill_cloud(PointCloud2(), records, cloud, PointField))
        if _is_wanted(self._visualization):
            records = encode_xyzrgb(points, self._colors[labels.class_ids])
            self._visualization.publish(fill_cloud(PointCloud2(), records, cloud, PointField))


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


def spin(node: SegmentNode) -> bool:
    """Run until a signal comes; returns whether the inference thread ended in time."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:  # RCLError: the signal may have ended ROS in the middle of a callback
        if rclpy.ok():
            raise
    finally:
        ended = node.stop(STOP_TIMEOUT)
    if ended:
        node.destroy_node()
    return ended


def main(make_labeller: MakeLabeller = load_labeller) -> None:
    """Run the node; SIGINT and SIGTERM end it with exit code 0."""
    with _told_to_the_user('ROS does not accept the command line'):
        rclpy.init()
    ended = False
    try:
        ended = spin(SegmentNode(make_labeller))
    except KeyboardInterrupt:  # before the start, or a second one: ros2 launch passes Ctrl-C on
        pass
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


@contextmanager
def _told_to_the_user(what: str) -> Iterator[None]:
    """Make a user's mistake of what rclpy raises where it reads names, files and parameters."""
    try:
        yield
    except (RuntimeError, ParameterException) as error:
        # RCLError and its like have no public name, but are RuntimeErrors
        raise InputError(what, where=' '.join(sys.argv[1:]) or None, got=error) from error


def _is_wanted(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)


if __name__ == '__main__':
    command()
