# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""ROS 2 messages of a drive, made from arrays with the `rosbags` package."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reldistill_ros.core.errors import import_extra
from reldistill_ros.point_cloud import FIELD_TYPES

ImageKind = Literal['jpeg', 'png']
FIELD_NUMBERS = {np.dtype(name): number for number, name in FIELD_TYPES.items()}
LABEL_LAYOUT = np.dtype([('label', 'u1')])
Matrix = NDArray[np.float64]


def typestore() -> Any:
    """Message types of ROS 2 Jazzy."""
    typesys = import_extra('rosbags.typesys', 'train')
    return typesys.get_typestore(typesys.Stores.ROS2_JAZZY)


def header(store: Any, stamp_ns: int, frame: str) -> Any:
    """A std_msgs/Header."""
    sec, nanosec = divmod(stamp_ns, 10**9)
    stamp = store.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return store.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame)


def point_records(
    points: NDArray[np.float32],
    times: NDArray[np.float32],
    rings: NDArray[np.uint16] | None = None,
) -> NDArray[np.void]:
    """Packed records of points.

    Args:
        points: (N, 4) x y z and raw intensity.
        times: (N,) seconds after the stamp.
        rings: (N,) beam of each point, left out where it is not known.
    """
    ring = [] if rings is None else [('ring', '<u2')]
    layout = [*((name, '<f4') for name in ('x', 'y', 'z', 'intensity')), *ring, ('time', '<f4')]
    records = np.zeros(len(points), dtype=np.dtype(layout))
    for column, name in enumerate(('x', 'y', 'z', 'intensity')):
        records[name] = points[:, column]
    records['time'] = times
    if rings is not None:
        records['ring'] = rings
    return records


def label_records(labels: NDArray[np.uint8]) -> NDArray[np.void]:
    """Records of the class of each point, (N,)."""
    return np.ascontiguousarray(labels).view(LABEL_LAYOUT)


def cloud_message(store: Any, head: Any, records: NDArray[np.void]) -> Any:
    """A PointCloud2 of packed records, one row."""
    make_field = store.types['sensor_msgs/msg/PointField']
    fields: Mapping[str, Any] = records.dtype.fields or {}
    finite = [np.isfinite(records[name]).all() for name in 'xyz' if name in fields]
    return store.types['sensor_msgs/msg/PointCloud2'](
        header=head,
        height=1,
        width=len(records),
        fields=[
            make_field(name=name, offset=entry[1], datatype=FIELD_NUMBERS[entry[0]], count=1)
            for name, entry in fields.items()
        ],
        is_bigendian=False,
        point_step=records.dtype.itemsize,
        row_step=records.dtype.itemsize * len(records),
        data=np.frombuffer(records.tobytes(), dtype=np.uint8),
        is_dense=all(finite),
    )


def label_info_message(store: Any, names: Sequence[str]) -> Any:
    """What the labels mean."""
    return store.types['std_msgs/msg/String'](data=json.dumps({'class_names': list(names)}))


def encode_image(image: NDArray[np.uint8], kind: ImageKind, quality: int = 95) -> bytes:
    """An RGB image (H, W, 3) as PNG, or as JPEG of a quality up to 100."""
    stream = io.BytesIO()
    options = {'quality': quality} if kind == 'jpeg' else {}
    import_extra('PIL.Image', 'train').fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def image_message(store: Any, head: Any, encoded: bytes, kind: ImageKind) -> Any:
    """A sensor_msgs/CompressedImage."""
    data = np.frombuffer(encoded, dtype=np.uint8)
    return store.types['sensor_msgs/msg/CompressedImage'](header=head, format=kind, data=data)


def camera_info_message(store: Any, head: Any, size: tuple[int, int], intrinsics: Matrix) -> Any:
    """The calibration of a camera without distortion, for images of width and height `size`."""
    region = store.types['sensor_msgs/msg/RegionOfInterest']
    return store.types['sensor_msgs/msg/CameraInfo'](
        header=head,
        height=size[1],
        width=size[0],
        distortion_model='plumb_bob',
        d=np.zeros(5),
        k=intrinsics.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([intrinsics, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=region(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def transforms_message(
    store: Any, stamp_ns: int, transforms: Mapping[tuple[str, str], Matrix]
) -> Any:
    """A tf2_msgs/TFMessage of parent_from_child (4, 4) by the names of parent and child."""
    return store.types['tf2_msgs/msg/TFMessage'](
        transforms=[
            store.types['geometry_msgs/msg/TransformStamped'](
                header=header(store, stamp_ns, parent),
                child_frame_id=child,
                transform=_transform(store, matrix),
            )
            for (parent, child), matrix in transforms.items()
        ]
    )


def _transform(store: Any, matrix: Matrix) -> Any:
    """A geometry_msgs/Transform."""
    quaternion = dict(zip('xyzw', Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()))
    return store.types['geometry_msgs/msg/Transform'](
        translation=store.types['geometry_msgs/msg/Vector3'](
            **dict(zip('xyz', matrix[:3, 3].tolist()))
        ),
        rotation=store.types['geometry_msgs/msg/Quaternion'](**quaternion),
    )
