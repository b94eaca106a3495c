# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writes small ROS 2 bags for tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from rosbags.convert.converter import migrate_message
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
TF_MESSAGE = 'tf2_msgs/msg/TFMessage'
DATATYPES = {'f4': 7, 'u1': 2, 'u2': 4}
FULL_TURN_OF_AXES = (-0.5, 0.5, -0.5, 0.5)  # optical axes in a frame with x forward, z up


def make(kind, **values):
    return T[kind](**values)


def header(stamp_ns, frame):
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = make('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)
    return make('std_msgs/msg/Header', stamp=stamp, frame_id=frame)


def cloud(stamp_ns, columns, frame='lidar'):
    """A PointCloud2 of a dict of columns."""
    columns = {name: np.asarray(column) for name, column in columns.items()}
    dtype = [(name, column.dtype.str) for name, column in columns.items()]
    records = np.zeros(len(next(iter(columns.values()))), dtype)
    for name, column in columns.items():
        records[name] = column
    fields = [
        make(
            'sensor_msgs/msg/PointField',
            name=name,
            offset=records.dtype.fields[name][1],
            datatype=DATATYPES[column.dtype.str[1:]],
            count=1,
        )
        for name, column in columns.items()
    ]
    return make(
        'sensor_msgs/msg/PointCloud2',
        header=header(stamp_ns, frame),
        height=1,
        width=len(records),
        fields=fields,
        is_bigendian=False,
        point_step=records.itemsize,
        row_step=records.itemsize * len(records),
        data=np.frombuffer(records.tobytes(), np.uint8),
        is_dense=True,
    )


def transforms(*edges):
    """A TFMessage of edges (stamp_ns, parent, child, quaternion x y z w, translation)."""
    stamped = [
        make(
            'geometry_msgs/msg/TransformStamped',
            header=header(stamp_ns, parent),
            child_frame_id=child,
            transform=make(
                'geometry_msgs/msg/Transform',
                translation=make(
                    'geometry_msgs/msg/Vector3', **dict(zip('xyz', map(float, translation)))
                ),
                rotation=make(
                    'geometry_msgs/msg/Quaternion', **dict(zip('xyzw', map(float, quaternion)))
                ),
            ),
        )
        for stamp_ns, parent, child, quaternion, translation in edges
    ]
    return make('tf2_msgs/msg/TFMessage', transforms=stamped)


def camera_info(stamp_ns, frame, width, height, **changes):
    k = np.array([100, 0, width / 2, 0, 100, height / 2, 0, 0, 1], dtype=float)
    values = {
        'd': np.zeros(5),
        'k': k,
        'p': np.insert(k, [3, 6, 9], 0.0),
        'distortion_model': 'plumb_bob',
        **changes,
    }
    roi = make(
        'sensor_msgs/msg/RegionOfInterest',
        x_offset=0,
        y_offset=0,
        height=0,
        width=0,
        do_rectify=False,
    )
    return make(
        'sensor_msgs/msg/CameraInfo',
        header=header(stamp_ns, frame),
        height=height,
        width=width,
        r=np.eye(3).ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
        **values,
    )


def compressed(stamp_ns, frame, pixels, kind='png'):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    data = np.frombuffer(stream.getvalue(), np.uint8)
    head = header(stamp_ns, frame)
    return make('sensor_msgs/msg/CompressedImage', header=head, format=kind, data=data)


def raw_image(stamp_ns, frame, pixels, encoding, padding=0):
    """A sensor_msgs/Image of (H, W, channels) pixels, whose rows end with unused bytes."""
    height, width, num_channels = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    return make(
        'sensor_msgs/msg/Image',
        header=header(stamp_ns, frame),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * num_channels + padding,
        data=np.ascontiguousarray(rows).ravel(),
    )


def string(text):
    return make('std_msgs/msg/String', data=text)


def odometry(stamp_ns, parent, child, quaternion, translation):
    place = make(
        'geometry_msgs/msg/Pose',
        position=make('geometry_msgs/msg/Point', **dict(zip('xyz', map(float, translation)))),
        orientation=make(
            'geometry_msgs/msg/Quaternion', **dict(zip('xyzw', map(float, quaternion)))
        ),
    )
    nothing = make('geometry_msgs/msg/Vector3', x=0.0, y=0.0, z=0.0)
    speed = make('geometry_msgs/msg/Twist', linear=nothing, angular=nothing)
    unknown = np.zeros(36)
    return make(
        'nav_msgs/msg/Odometry',
        header=header(stamp_ns, parent),
        child_frame_id=child,
        pose=make('geometry_msgs/msg/PoseWithCovariance', pose=place, covariance=unknown),
        twist=make('geometry_msgs/msg/TwistWithCovariance', twist=speed, covariance=unknown),
    )


def write_bag(path, messages, storage=StoragePlugin.MCAP, compression=None):
    """Write messages (topic, log time in ns, message), in the order given."""
    connections = {}
    bag = Writer(path, version=9, storage_plugin=storage)
    if compression is not None:
        bag.set_compression(compression, CompressionFormat.ZSTD)
    with bag as writer:
        for topic, log_ns, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, STORE.serialize_cdr(message, kind))


def write_ros1(path, messages, transforms_type=TF_MESSAGE):
    """As `write_bag`, a file of ROS 1."""
    store, connections, cache = get_typestore(Stores.ROS1_NOETIC), {}, {}
    store.register({transforms_type: STORE.fielddefs[TF_MESSAGE]})
    with Writer1(path) as writer:
        for topic, log_ns, message in messages:
            kind = message.__msgtype__
            old_kind = transforms_type if kind == TF_MESSAGE else kind
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, old_kind, typestore=store)
            old = migrate_message(STORE, store, kind, old_kind, cache, message)
            writer.write(connections[topic], log_ns, store.serialize_ros1(old, old_kind))
