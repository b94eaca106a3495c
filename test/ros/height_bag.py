# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A bag of a few sweeps whose true classes are heights, as `fake_node` labels them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
START = 1_700_000_000
CLOUD = 'sensor_msgs/msg/PointCloud2'


def cloud(sec, nanosec, fields, records):
    """A PointCloud2 of records with fields (name, offset, datatype)."""
    types = STORE.types
    header = types['std_msgs/msg/Header'](
        types['builtin_interfaces/msg/Time'](sec, nanosec), 'lidar'
    )
    return types[CLOUD](
        header=header,
        height=1,
        width=len(records),
        fields=[types['sensor_msgs/msg/PointField'](*field, 1) for field in fields],
        is_bigendian=False,
        point_step=records.itemsize,
        row_step=records.nbytes,
        data=np.frombuffer(records.tobytes(), np.uint8),
        is_dense=True,
    )


def points_of(index, num=40):
    """x y z intensity (0 to 255) of a sweep."""
    return np.random.default_rng(index).uniform(-1, 4, (num, 4)).astype(np.float32)


def labels_of(points):
    """Heights as in `fake_node`, but every fifth point is called `high`, which is often wrong."""
    z = points[:, 2]
    labels = np.where((z >= 0) & (z < 3), np.floor(z), 255).astype(np.uint8)
    labels[::5] = 2
    return labels


def write_bag(
    path: Path,
    *,
    num_sweeps=6,
    num_points=40,
    storage=StoragePlugin.MCAP,
    with_labels=True,
    label_topic='/lidar/labels',
    info_topic='/lidar/label_info',
    class_names=('low', 'middle', 'high'),
    period_ns=100_000_000,
    beside=lambda writer: None,
):
    """Write clouds, and beside them true labels and what a caller adds."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        clouds = writer.add_connection('/lidar/points', CLOUD, typestore=STORE)
        if with_labels:
            labels = writer.add_connection(label_topic, CLOUD, typestore=STORE)
            text = 'std_msgs/msg/String'
            info = writer.add_connection(info_topic, text, typestore=STORE)
            words = STORE.types[text](json.dumps({'class_names': list(class_names)}))
            writer.write(info, START * 10**9, STORE.serialize_cdr(words, text))
        for index in range(num_sweeps):
            stamp = START * 10**9 + index * period_ns
            sec, nanosec = divmod(stamp, 10**9)
            points = points_of(index, num_points)
            names = [(name, 4 * i, 7) for i, name in enumerate(('x', 'y', 'z', 'intensity'))]
            sweep = cloud(sec, nanosec, names, points.view('V16')[:, 0])
            writer.write(clouds, stamp, STORE.serialize_cdr(sweep, CLOUD))
            if with_labels:
                truth = cloud(sec, nanosec, [('label', 0, 2)], labels_of(points))
                writer.write(labels, stamp, STORE.serialize_cdr(truth, CLOUD))
        beside(writer)
    return path
