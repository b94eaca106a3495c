# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Foxglove's protobuf messages as those of ROS 2.

Schemas: https://docs.foxglove.dev/docs/sdk/schemas. What has no counterpart here keeps its name
and is not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reldistill_ros.core.errors import InputError

# foxglove.PackedElementField.NumericType -> sensor_msgs/PointField datatype
FIELD_TYPES = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 7, 8: 8}
NO_PLACE = (0.0, 0.0, 0.0)
NO_TURNS = ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0))  # protobuf leaves zeros out


def convert(message: Any, kind: str, store: Any) -> Any:
    """A message as the ROS 2 message that `ROS_TYPES` names.

    Args:
        message: of protobuf.
        kind: name of its schema.
        store: message types of `rosbags`.

    Raises:
        InputError: it contradicts itself, or has no counterpart.
    """
    return CONVERTERS[kind](message, store)


def stamp_of(message: Any) -> tuple[int, int]:
    """Seconds and nanoseconds at which the sensor measured, not at which it was recorded."""
    return int(message.timestamp.seconds), int(message.timestamp.nanos)


def _header(message: Any, store: Any, frame: str) -> Any:
    sec, nanosec = stamp_of(message)
    stamp = store.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return store.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame)


def _bytes(data: bytes) -> Any:
    return np.frombuffer(data, dtype=np.uint8)


def _point_cloud(message: Any, store: Any) -> Any:
    """The points of one row; they must stand in their frame without a further pose."""
    where = f'foxglove.PointCloud in {message.frame_id!r}'
    position, orientation = message.pose.position, message.pose.orientation
    turn = tuple(getattr(orientation, axis) for axis in 'xyzw')
    if tuple(getattr(position, axis) for axis in 'xyz') != NO_PLACE or turn not in NO_TURNS:
        raise InputError(
            'a cloud with a pose of its own is not supported yet',
            where=where,
            expected='points in the coordinates of their frame',
            got=str(message.pose),
            fix='write the pose as a FrameTransform',
        )
    step = int(message.point_stride)
    if step == 0 or len(message.data) % step:
        raise InputError(
            'the cloud does not hold whole points',
            where=where,
            expected='a multiple of point_stride',
            got=f'{len(message.data)} bytes, point_stride {step}',
        )
    width = len(message.data) // step
    field = store.types['sensor_msgs/msg/PointField']
    return store.types['sensor_msgs/msg/PointCloud2'](
        header=_header(message, store, message.frame_id),
        height=1,
        width=width,
        fields=[
            field(name=f.name, offset=f.offset, datatype=FIELD_TYPES.get(f.type, 0), count=1)
            for f in message.fields
        ],
        is_bigendian=False,
        point_step=step,
        row_step=step * width,
        data=_bytes(message.data),
        is_dense=False,
    )


def _compressed_image(message: Any, store: Any) -> Any:
    return store.types['sensor_msgs/msg/CompressedImage'](
        header=_header(message, store, message.frame_id),
        format=message.format,
        data=_bytes(message.data),
    )


def _raw_image(message: Any, store: Any) -> Any:
    return store.types['sensor_msgs/msg/Image'](
        header=_header(message, store, message.frame_id),
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        is_bigendian=0,
        step=message.step,
        data=_bytes(message.data),
    )


def _camera_info(message: Any, store: Any) -> Any:
    region = store.types['sensor_msgs/msg/RegionOfInterest']
    return store.types['sensor_msgs/msg/CameraInfo'](
        header=_header(message, store, message.frame_id),
        height=message.height,
        width=message.width,
        distortion_model=message.distortion_model,
        d=np.array(message.D, dtype=np.float64),
        k=_matrix(message.K, 9, 'K'),
        r=_matrix(message.R, 9, 'R'),
        p=_matrix(message.P, 12, 'P'),
        binning_x=0,
        binning_y=0,
        roi=region(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def _matrix(numbers: Any, size: int, name: str) -> Any:
    """Numbers of a matrix, zeros where it was left out."""
    if len(numbers) not in (0, size):
        raise InputError(
            'a matrix of the calibration is malformed',
            where=f'foxglove.CameraCalibration: {name}',
            expected=f'{size} numbers',
            got=list(numbers),
        )
    return np.array(numbers or [0.0] * size, dtype=np.float64)


def _transform(message: Any, store: Any) -> Any:
    """A geometry_msgs/TransformStamped."""
    rotation = [getattr(message.rotation, axis) for axis in 'xyzw']
    if not message.HasField('rotation'):
        rotation[3] = 1.0
    place = {axis: getattr(message.translation, axis) for axis in 'xyz'}
    return store.types['geometry_msgs/msg/TransformStamped'](
        header=_header(message, store, message.parent_frame_id),
        child_frame_id=message.child_frame_id,
        transform=store.types['geometry_msgs/msg/Transform'](
            translation=store.types['geometry_msgs/msg/Vector3'](**place),
            rotation=store.types['geometry_msgs/msg/Quaternion'](**dict(zip('xyzw', rotation))),
        ),
    )


def _one_transform(message: Any, store: Any) -> Any:
    tf_message = store.types['tf2_msgs/msg/TFMessage']
    return tf_message(transforms=[_transform(message, store)])


def _transforms(message: Any, store: Any) -> Any:
    tf_message = store.types['tf2_msgs/msg/TFMessage']
    return tf_message(transforms=[_transform(entry, store) for entry in message.transforms])


ROS_TYPES = {
    'foxglove.PointCloud': 'sensor_msgs/msg/PointCloud2',
    'foxglove.CompressedImage': 'sensor_msgs/msg/CompressedImage',
    'foxglove.RawImage': 'sensor_msgs/msg/Image',
    'foxglove.CameraCalibration': 'sensor_msgs/msg/CameraInfo',
    'foxglove.FrameTransform': 'tf2_msgs/msg/TFMessage',
    'foxglove.FrameTransforms': 'tf2_msgs/msg/TFMessage',
}
CONVERTERS: dict[str, Callable[[Any, Any], Any]] = {
    'foxglove.PointCloud': _point_cloud,
    'foxglove.CompressedImage': _compressed_image,
    'foxglove.RawImage': _raw_image,
    'foxglove.CameraCalibration': _camera_info,
    'foxglove.FrameTransform': _one_transform,
    'foxglove.FrameTransforms': _transforms,
}
