# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Writes MCAP files with Foxglove's own schemas, laid out as nuscenes2mcap lays them out.

Times as there: /tf alone holds all frames, at every key frame (2 Hz) and at the pose of every
other image and sweep; key frames are recorded at the time of the lidar's pose, whatever their
sensor's stamp; every other message at its own stamp.
"""

from __future__ import annotations

import io
import json

import foxglove_schemas_protobuf as schemas
import numpy as np
from foxglove_schemas_protobuf import (  # noqa: F401
    CameraCalibration_pb2,
    CompressedImage_pb2,
    FrameTransform_pb2,
    FrameTransforms_pb2,
    LocationFix_pb2,
    PackedElementField_pb2,
    PointCloud_pb2,
    RawImage_pb2,
)
from google.protobuf.timestamp_pb2 import Timestamp
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from mcap_protobuf.schema import register_schema
from PIL import Image
from scipy.spatial.transform import Rotation

START = 1_531_883_530_049_481_000
MS = 1_000_000
LIDAR_NAMES = ('x', 'y', 'z', 'intensity', 'ring')
FORWARD_CAMERA = (-0.5, 0.5, -0.5, 0.5)
LIDAR_PLACE, CAMERA_PLACE = (0.94, 0.0, 1.84), (1.70, 0.02, 1.51)


def make(name, **values):
    """A message of a Foxglove schema."""
    return getattr(getattr(schemas, f'{name}_pb2'), name)(**values)


def stamp(stamp_ns):
    return Timestamp(seconds=stamp_ns // 10**9, nanos=stamp_ns % 10**9)


def cloud(stamp_ns, points, frame='lidar_top'):
    """A PointCloud of (N, 5) float32 x y z intensity ring."""
    field = PackedElementField_pb2.PackedElementField
    fields = [field(name=n, offset=4 * i, type=field.FLOAT32) for i, n in enumerate(LIDAR_NAMES)]
    data = np.asarray(points, '<f4').tobytes()
    return make(
        'PointCloud',
        timestamp=stamp(stamp_ns),
        frame_id=frame,
        point_stride=20,
        fields=fields,
        data=data,
    )


def image(stamp_ns, pixels, frame='cam_front', kind='png'):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    data = stream.getvalue()
    return make(
        'CompressedImage', timestamp=stamp(stamp_ns), frame_id=frame, format=kind, data=data
    )


def calibration(stamp_ns, size, matrix, frame='cam_front'):
    """A CameraCalibration without distortion, as that of nuScenes."""
    matrix = np.asarray(matrix, float)
    return make(
        'CameraCalibration',
        timestamp=stamp(stamp_ns),
        frame_id=frame,
        height=size[0],
        width=size[1],
        K=matrix.ravel(),
        R=np.eye(3).ravel(),
        P=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
    )


def transform(stamp_ns, parent, child, quaternion, place):
    message = make(
        'FrameTransform',
        timestamp=stamp(stamp_ns),
        parent_frame_id=parent,
        child_frame_id=child,
    )
    for axis, number in zip('xyzw', quaternion):
        setattr(message.rotation, axis, number)
    for axis, number in zip('xyz', place):
        setattr(message.translation, axis, number)
    return message


def car_pose(stamp_ns):
    """Where the car is: it drives 8 m/s and turns 0.2 rad/s."""
    seconds = (stamp_ns - START) / 1e9
    return Rotation.from_euler('z', 0.2 * seconds), np.array([600 + 8 * seconds, 1600.0, 0.0])


def ego(stamp_ns):
    rotation, place = car_pose(stamp_ns)
    return '/tf', stamp_ns, transform(stamp_ns, 'map', 'base_link', rotation.as_quat(), place)


def scene(points, pixels, matrix, num_sweeps=11):
    """Messages (topic, log time, message): a sweep every 50 ms, an image 12 ms later."""
    size = pixels.shape[:2]
    messages = []
    for number in range(num_sweeps):
        at = START + number * 50 * MS
        key = number % 10 == 0
        log = {0: at, 12: at if key else at + 12 * MS}
        if key:
            messages += [
                ('/tf', at, transform(at, 'base_link', 'lidar_top', (0, 0, 0, 1), LIDAR_PLACE)),
                ('/tf', at, transform(at, 'base_link', 'cam_front', FORWARD_CAMERA, CAMERA_PLACE)),
                ('/gps', at, make('LocationFix', latitude=1.3, longitude=103.8)),
            ]
        messages += [
            ego(at),
            ego(at + 12 * MS),
            ('/lidar_top', log[0], cloud(at, points)),
            ('/cam_front/image_rect_compressed', log[12], image(at + 12 * MS, pixels)),
            ('/cam_front/camera_info', log[12], calibration(at + 12 * MS, size, matrix)),
        ]
    return messages


def write_mcap(path, messages, compression=CompressionType.ZSTD, chunk_size=1 << 14):
    """Write messages of protobuf, and one channel of JSON beside them."""
    with path.open('wb') as file:
        writer = McapWriter(file, chunk_size=chunk_size, compression=compression)
        writer.start(profile='', library='test')
        channels = {}
        for topic, log_ns, message in messages:
            if topic not in channels:
                number = register_schema(writer, type(message))
                channels[topic] = writer.register_channel(topic, 'protobuf', number)
            writer.add_message(channels[topic], log_ns, message.SerializeToString(), log_ns)
        number = writer.register_schema('IMU', 'jsonschema', b'{"type": "object"}')
        imu = writer.register_channel('/imu', 'json', number)
        writer.add_message(imu, START, json.dumps({'q': {'w': 1}}).encode(), START)
        writer.finish()
