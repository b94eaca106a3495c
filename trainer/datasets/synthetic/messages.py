# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""ROS 2 messages of the bag, made from arrays."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import import_extra
from trainer.datasets.synthetic.lidar import LidarSweep
from trainer.datasets.synthetic.materials import CLASS_NAMES
from trainer.datasets.synthetic.rig import Camera, Matrix

POINT_LAYOUT = np.dtype(
    {
        'names': ['x', 'y', 'z', 'intensity', 'ring', 'time'],
        'formats': ['<f4', '<f4', '<f4', '<f4', '<u2', '<f4'],
        'offsets': [0, 4, 8, 12, 16, 18],
        'itemsize': 22,
    }
)
LABEL_LAYOUT = np.dtype({'names': ['label'], 'formats': ['u1']})
_DATATYPES = {'u1': 2, 'u2': 4, 'f4': 7}  # sensor_msgs/PointField
JPEG_QUALITY = 90


def typestore() -> Any:
    """Message types of ROS 2 Jazzy."""
    typesys = import_extra('rosbags.typesys', 'train')
    return typesys.get_typestore(typesys.Stores.ROS2_JAZZY)


def header(store: Any, stamp_ns: int, frame: str) -> Any:
    """A std_msgs/Header."""
    sec, nanosec = divmod(stamp_ns, 10**9)
    stamp = store.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return store.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame)


def _cloud(store: Any, stamp_ns: int, records: NDArray[np.void]) -> Any:
    """A PointCloud2 of packed records, one row."""
    make_field = store.types['sensor_msgs/msg/PointField']
    fields: Mapping[str, Any] = records.dtype.fields or {}
    return store.types['sensor_msgs/msg/PointCloud2'](
        header=header(store, stamp_ns, 'lidar'),
        height=1,
        width=len(records),
        fields=[
            make_field(name=name, offset=entry[1], datatype=_DATATYPES[entry[0].str[1:]], count=1)
            for name, entry in fields.items()
        ],
        is_bigendian=False,
        point_step=records.dtype.itemsize,
        row_step=records.dtype.itemsize * len(records),
        data=np.frombuffer(records.tobytes(), dtype=np.uint8),
        is_dense=True,
    )


def points_message(store: Any, stamp_ns: int, sweep: LidarSweep) -> Any:
    """The sweep's points."""
    records = np.zeros(len(sweep.points), dtype=POINT_LAYOUT)
    for column, name in enumerate(('x', 'y', 'z', 'intensity')):
        records[name] = sweep.points[:, column]
    records['ring'], records['time'] = sweep.rings, sweep.times
    return _cloud(store, stamp_ns, records)


def labels_message(store: Any, stamp_ns: int, sweep: LidarSweep) -> Any:
    """The true class of each point."""
    return _cloud(store, stamp_ns, sweep.labels.view(LABEL_LAYOUT))


def label_info_message(store: Any) -> Any:
    """What the labels mean."""
    return store.types['std_msgs/msg/String'](data=json.dumps({'class_names': CLASS_NAMES}))


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """An RGB image (H, W, 3) as JPEG."""
    stream = io.BytesIO()
    import_extra('PIL.Image', 'train').fromarray(image).save(stream, 'JPEG', quality=JPEG_QUALITY)
    return stream.getvalue()


def image_message(store: Any, stamp_ns: int, camera: Camera, jpeg: bytes) -> Any:
    """A compressed image."""
    return store.types['sensor_msgs/msg/CompressedImage'](
        header=header(store, stamp_ns, f'{camera.name}_optical'),
        format='jpeg',
        data=np.frombuffer(jpeg, dtype=np.uint8),
    )


def camera_info_message(store: Any, stamp_ns: int, camera: Camera) -> Any:
    """The calibration of a camera."""
    projection = np.hstack([camera.intrinsics, np.zeros((3, 1))])
    region = store.types['sensor_msgs/msg/RegionOfInterest']
    return store.types['sensor_msgs/msg/CameraInfo'](
        header=header(store, stamp_ns, f'{camera.name}_optical'),
        height=camera.size[1],
        width=camera.size[0],
        distortion_model='plumb_bob',
        d=np.zeros(5),
        k=camera.intrinsics.ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=region(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def _transform(store: Any, stamp_ns: int, frames: tuple[str, str], matrix: Matrix) -> Any:
    """Parent from child."""
    rotation = import_extra('scipy.spatial.transform', 'train').Rotation
    x, y, z, w = (float(value) for value in rotation.from_matrix(matrix[:3, :3]).as_quat())
    types, (parent, child) = store.types, frames
    position = dict(zip('xyz', map(float, matrix[:3, 3])))
    return types['geometry_msgs/msg/TransformStamped'](
        header=header(store, stamp_ns, parent),
        child_frame_id=child,
        transform=types['geometry_msgs/msg/Transform'](
            translation=types['geometry_msgs/msg/Vector3'](**position),
            rotation=types['geometry_msgs/msg/Quaternion'](x=x, y=y, z=z, w=w),
        ),
    )


def pose_message(store: Any, stamp_ns: int, odom_from_base: Matrix) -> Any:
    """Where the vehicle is."""
    pose = _transform(store, stamp_ns, ('odom', 'base_link'), odom_from_base)
    return store.types['tf2_msgs/msg/TFMessage'](transforms=[pose])


def mountings_message(store: Any, stamp_ns: int, mountings: dict[str, Matrix]) -> Any:
    """Where the sensors sit: child frame -> base_link from that frame."""
    transforms = [
        _transform(store, stamp_ns, ('base_link', frame), matrix)
        for frame, matrix in mountings.items()
    ]
    return store.types['tf2_msgs/msg/TFMessage'](transforms=transforms)
