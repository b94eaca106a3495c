# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Labelled and coloured points to PointCloud2, in the layouts that others read."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.vocabulary import IGNORE_INDEX
from reldistill_ros.point_cloud import FIELD_TYPES

FIELD_NUMBERS = {np.dtype(name): number for number, name in FIELD_TYPES.items()}
UNLABELLED_COLOR = (96, 96, 96)

# autoware_point_types PointXYZCPE: the compiler's alignment leaves bytes 13 to 15 unused
XYZCPE = np.dtype(
    {
        'names': ['x', 'y', 'z', 'class_id', 'probability', 'entropy'],
        'formats': ['<f4', '<f4', '<f4', 'u1', '<f4', '<f4'],
        'offsets': [0, 4, 8, 12, 16, 20],
        'itemsize': 24,
    }
)
# 2 bytes a point: 260,000 points stay below the 512 KiB that Fast DDS carries without a profile
COMPACT = np.dtype([('class_id', 'u1'), ('probability', 'u1')])
XYZRGB = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<f4')])


def encode_xyzcpe(
    points: NDArray[np.floating[Any]],
    class_ids: NDArray[np.uint8],
    probabilities: NDArray[np.floating[Any]],
    entropies: NDArray[np.floating[Any]],
) -> NDArray[np.void]:
    """Labelled points in Autoware's layout.

    Args:
        points: (N, >=3) x y z.
        class_ids: (N,), `IGNORE_INDEX` for unlabelled.
        probabilities: (N,), of the class.
        entropies: (N,), of the distribution over the classes.

    Returns:
        (N,) records of 24 bytes; unlabelled points have probability 0 and entropy NaN.
    """
    unlabelled = class_ids == IGNORE_INDEX
    records = np.zeros(len(points), XYZCPE)
    for column, name in enumerate('xyz'):
        records[name] = points[:, column]
    records['class_id'] = class_ids
    records['probability'] = np.where(unlabelled, 0.0, probabilities)
    records['entropy'] = np.where(unlabelled, np.nan, entropies)
    return records


def encode_xyzrgb(
    points: NDArray[np.floating[Any]], colors: NDArray[np.uint8]
) -> NDArray[np.void]:
    """Coloured points as RViz and Foxglove read them.

    Args:
        points: (N, >=3) x y z.
        colors: (N, 3) RGB.

    Returns:
        (N,) records of 16 bytes; `rgb` holds the bits 0x00RRGGBB in a float32.
    """
    records = np.zeros(len(points), XYZRGB)
    for column, name in enumerate('xyz'):
        records[name] = points[:, column]
    red, green, blue = colors.astype('<u4').T
    records['rgb'] = (red << 16 | green << 8 | blue).view('<f4')
    return records


def encode_compact(
    class_ids: NDArray[np.uint8], probabilities: NDArray[np.floating[Any]]
) -> NDArray[np.void]:
    """Labels without coordinates, one for each point of the input, in order.

    Args:
        class_ids: (N,), `IGNORE_INDEX` for unlabelled.
        probabilities: (N,), of the class.

    Returns:
        (N,) records of 2 bytes; `probability` is rounded to 255 steps, 0 where unlabelled.
    """
    records = np.zeros(len(class_ids), COMPACT)
    records['class_id'] = class_ids
    records['probability'] = np.where(
        class_ids == IGNORE_INDEX, 0, np.rint(255 * np.clip(probabilities, 0, 1))
    )
    return records


def keep_points(message: Any, source: Any, keep: NDArray[np.bool_]) -> Any:
    """Put some points of a cloud into an empty PointCloud2 of the same layout.

    Args:
        message: a new sensor_msgs/PointCloud2.
        source: a cloud of N points that `read_points` has accepted.
        keep: (N,), which points to keep.

    Returns:
        `message`, with the fields and the byte order of the source in one row, without padding
        at its end.
    """
    rows, points, step = int(source.height), int(source.width), int(source.point_step)
    message.header, message.fields = source.header, source.fields
    message.is_bigendian, message.is_dense = source.is_bigendian, source.is_dense
    kept = np.zeros((0, step), np.uint8)
    if rows * points:
        data: NDArray[np.uint8] = np.ndarray(
            (rows, points, step),
            np.uint8,
            buffer=memoryview(source.data),
            strides=(int(source.row_step), step, 1),
        )
        kept = data[keep.reshape(rows, points)]
    message.height, message.width = 1, len(kept)
    message.point_step, message.row_step = step, step * len(kept)
    message.data = array.array('B', kept.tobytes())
    return message


def fill_cloud(message: Any, records: NDArray[np.void], source: Any, point_field: Any) -> Any:
    """Put records into an empty PointCloud2, with the header and the shape of another cloud.

    Args:
        message: a new sensor_msgs/PointCloud2.
        records: (N,) records of one of the functions above.
        source: the cloud of N points that they belong to; its organisation is kept.
        point_field: the class sensor_msgs/PointField.

    Returns:
        `message`.
    """
    message.header = source.header
    message.height, message.width = int(source.height), int(source.width)
    message.fields = [
        point_field(name=name, offset=place[1], datatype=FIELD_NUMBERS[place[0]], count=1)
        for name, place in (records.dtype.fields or {}).items()
    ]
    message.is_bigendian = False
    message.point_step = records.dtype.itemsize
    message.row_step = message.point_step * message.width
    # rclpy checks any other sequence byte by byte on older distributions
    message.data = array.array('B', records.tobytes())
    coordinates = [name for name in 'xyz' if name in (records.dtype.names or ())]
    message.is_dense = all(bool(np.isfinite(records[name]).all()) for name in coordinates)
    return message
