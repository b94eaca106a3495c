# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The bag of `height_bag` with two cameras and coordinate frames beside the clouds."""

from __future__ import annotations

import numpy as np
from height_bag import START, STORE, write_bag

T = STORE.types
NANO = 10**9
COMPRESSED, RAW = 'sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/Image'
INFO, TF = 'sensor_msgs/msg/CameraInfo', 'tf2_msgs/msg/TFMessage'
FRONT, REAR = '/front/image_rect/compressed', '/rear/image_raw'
# seconds from the first cloud; the clouds are at 0.0, 0.1, ... 0.5
FRONT_TIMES = (-0.35, -0.15, 0.05, 0.25, 0.45, 0.75)
REAR_TIMES = (0.0, 0.3)


def header(seconds, frame):
    whole, nanoseconds = divmod(round(seconds * NANO), NANO)
    return T['std_msgs/msg/Header'](
        T['builtin_interfaces/msg/Time'](START + whole, nanoseconds), frame
    )


def transform(seconds, parent, child, x):
    pose = T['geometry_msgs/msg/Transform'](
        T['geometry_msgs/msg/Vector3'](x, 0.0, 0.5), T['geometry_msgs/msg/Quaternion'](0, 0, 0, 1)
    )
    stamped = T['geometry_msgs/msg/TransformStamped']
    return T[TF]([stamped(header(seconds, parent), child, pose)])


def image(seconds, frame):
    data = np.frombuffer(f'{frame} at {seconds}'.encode(), np.uint8)
    if frame == 'front':
        return T[COMPRESSED](header(seconds, frame), 'jpeg', data)
    pixels = np.full(4 * 6 * 3, round(10 * seconds), np.uint8)
    return T[RAW](header(seconds, frame), 4, 6, 'rgb8', 0, 18, pixels)


def camera_info(seconds, frame):
    region = T['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    lens = (np.zeros(5), np.eye(3).ravel(), np.eye(3).ravel(), np.eye(3, 4).ravel())
    return T[INFO](header(seconds, frame), 4, 6, 'plumb_bob', *lens, 0, 0, region)


def write_camera_bag(path, **options):
    """Clouds, a camera in front whose images come between them, a rear one, and frames."""
    messages = [
        *((FRONT, COMPRESSED, t, image(t, 'front')) for t in FRONT_TIMES),
        ('/front/camera_info', INFO, -0.4, camera_info(-0.4, 'front')),
        *((REAR, RAW, t, image(t, 'rear')) for t in REAR_TIMES),
        *(('/rear/camera_info', INFO, t, camera_info(t, 'rear')) for t in REAR_TIMES),
        ('/tf_static', TF, -3.0, transform(0.0, 'base', 'front', 1.5)),
        *(('/tf', TF, t, transform(t, 'odom', 'base', t)) for t in (-0.02, 0.02, 0.22, 0.42)),
        *(('/tf', TF, t, transform(t, 'base', 'rear', -1.0)) for t in (0.01, 0.31)),
        (
            '/depth/image_raw',
            RAW,
            0.0,
            T[RAW](header(0, 'd'), 1, 1, '16UC1', 0, 2, np.zeros(2, np.uint8)),
        ),
    ]

    def write_beside(writer):
        connections = {}
        for topic, kind, seconds, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            stamp = START * NANO + round(seconds * NANO)
            writer.write(connections[topic], stamp, STORE.serialize_cdr(message, kind))

    return write_bag(path, beside=write_beside, **options)
