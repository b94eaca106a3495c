# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A lidar in a process of its own: best-effort clouds of more than 512 KiB, ten a second."""

from __future__ import annotations

import time

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_client import NODE, make_cloud
from sensor_msgs.msg import PointCloud2

if __name__ == '__main__':
    rclpy.init()
    node = rclpy.create_node('lidar')
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    clouds = node.create_publisher(PointCloud2, f'{NODE}/input/pointcloud', qos)
    for sec in range(1, 600):
        clouds.publish(make_cloud(np.zeros((70_000, 4)), sec=sec))
        time.sleep(0.1)
