# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The other side of the node in a test: sends clouds, keeps what comes back."""

from __future__ import annotations

import array
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import String

NODE = '/segment_node'
HISTORY = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def make_cloud(points, *, height=1, sec=1, frame='lidar'):
    """x y z intensity as floats."""
    points = np.asarray(points, np.float32)
    width = len(points) // height
    cloud = PointCloud2(
        height=height,
        width=width,
        point_step=16,
        row_step=16 * width,
        fields=[
            PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
            for index, name in enumerate(('x', 'y', 'z', 'intensity'))
        ],
        data=array.array('B', points.tobytes()),
    )
    cloud.header.stamp.sec, cloud.header.frame_id = sec, frame
    return cloud


class Client:
    """Publishes clouds and records labels, colours, label info and diagnostics."""

    def __init__(self, outputs=('segmentation',), input_qos=5):
        self.node = rclpy.create_node('client')
        self.received = {
            name: [] for name in ('segmentation', 'visualization', 'filtered', 'labels')
        }
        self.label_info, self.diagnostics = [], []
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.clouds = self.node.create_publisher(
            PointCloud2, f'{NODE}/input/pointcloud', input_qos
        )
        for name in outputs:
            self.listen(name)
        self.node.create_subscription(
            String, f'{NODE}/label_info', self.label_info.append, HISTORY
        )
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self.diagnostics.append, 10)

    def listen(self, name):
        topic = f'{NODE}/output/pointcloud/{name}'
        self.node.create_subscription(PointCloud2, topic, self.received[name].append, 10)

    def spin_until(self, condition, timeout=10.0):
        """Answer ROS until the condition holds; returns whether it came to hold."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.executor.spin_once(timeout_sec=0.02)
        return True

    def connect(self, timeout=60.0):
        """Wait until the node is ready and both directions are matched."""
        assert self.spin_until(
            lambda: self.label_info and self.clouds.get_subscription_count() > 0, timeout
        )
        self.spin_until(lambda: False, 0.4)  # the node may learn of us later than we of it

    def call(self, kind, name, request, timeout=10.0):
        """Call a service of the node; returns its response."""
        client = self.node.create_client(kind, f'{NODE}/{name}')
        assert client.wait_for_service(timeout)
        future = client.call_async(request)
        assert self.spin_until(future.done, timeout)
        self.node.destroy_client(client)
        return future.result()

    def values(self):
        """Key values of the last diagnostics."""
        return {entry.key: entry.value for entry in self.diagnostics[-1].status[0].values}

    def wait_for_value(self, key, value, timeout=10.0):
        return self.spin_until(
            lambda: self.diagnostics and self.values().get(key) == str(value), timeout
        )

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
