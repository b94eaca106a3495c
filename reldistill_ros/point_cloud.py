# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""PointCloud2 to numpy and back, by field name and type; every malformed cloud is an InputError.

Works on any object with the attributes of sensor_msgs/PointCloud2, so on ROS messages and on
those of the `rosbags` package, and imports neither.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.vocabulary import IGNORE_INDEX

# sensor_msgs/PointField datatype -> numpy type without byte order
FIELD_TYPES: dict[int, str] = {
    1: 'i1',
    2: 'u1',
    3: 'i2',
    4: 'u2',
    5: 'i4',
    6: 'u4',
    7: 'f4',
    8: 'f8',
}
FIELD_NUMBERS = {np.dtype(name): number for number, name in FIELD_TYPES.items()}
INTENSITY_NAMES = ('intensity', 'i', 'reflectivity')
TIME_NAMES = ('t', 'time', 'timestamp', 'time_stamp', 'offset_time')

# autoware_point_types PointXYZCPE: the compiler's alignment leaves bytes 13 to 15 unused
XYZCPE = np.dtype(
    {
        'names': ['x', 'y', 'z', 'class_id', 'probability', 'entropy'],
        'formats': ['<f4', '<f4', '<f4', 'u1', '<f4', '<f4'],
        'offsets': [0, 4, 8, 12, 16, 20],
        'itemsize': 24,
    }
)
XYZRGB = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<f4')])


def read_fields(message: Any, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Decode fields of a cloud.

    Args:
        message: a sensor_msgs/PointCloud2 or an object with its attributes; left unchanged.
        names: fields to read, each scalar (count 1).

    Returns:
        Each field as a new (height * width,) array, row by row, in native byte order.

    Raises:
        InputError: the cloud contradicts itself or lacks a field.
    """
    fields = [_find_field(message, name) for name in dict.fromkeys(names)]
    _check_fields(fields, int(message.point_step))
    _check_sizes(message)
    return {field.name: _read_field(message, field) for field in fields}


def read_points(
    message: Any, intensity_max: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode what the student sees of a cloud.

    Intensity is the first of `INTENSITY_NAMES`, of any type; time is the first of `TIME_NAMES`:
    integers are nanoseconds and floats are seconds after the header's stamp, large floats are
    absolute seconds or nanoseconds.

    Args:
        message: a sensor_msgs/PointCloud2 or an object with its attributes.
        intensity_max: largest raw intensity of the sensor.

    Returns:
        points: (N, 4) float32, x y z in metres in the cloud's frame and intensity divided by
            `intensity_max`, zero where the cloud has none; NaN points are kept.
        times: (N,) float32, seconds after the header's stamp, zeros where the cloud has none.

    Raises:
        InputError: the cloud contradicts itself, or x, y, z are missing or not floats.
    """
    if not intensity_max > 0:
        raise InputError('intensity_max must be positive', got=intensity_max)
    num_points = int(message.width) * int(message.height)
    if num_points == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    present = {field.name for field in message.fields}
    intensity_name = next((name for name in INTENSITY_NAMES if name in present), None)
    time_name = next((name for name in TIME_NAMES if name in present), None)
    optional = [name for name in (intensity_name, time_name) if name]
    columns = read_fields(message, ['x', 'y', 'z', *optional])
    _check_coordinates(columns)
    points = np.zeros((num_points, 4), np.float32)
    with np.errstate(over='ignore'):  # a FLOAT64 beyond float32 becomes inf: not finite, no label
        for column, name in enumerate('xyz'):
            points[:, column] = columns[name]
        if intensity_name:
            points[:, 3] = columns[intensity_name] / float(intensity_max)
    if time_name is None:
        return points, np.zeros(num_points, np.float32)
    return points, _seconds_after_stamp(columns[time_name], message.header.stamp)


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


def fill_cloud(message: Any, records: NDArray[np.void], source: Any, point_field: Any) -> Any:
    """Put records into an empty PointCloud2, with the header and the shape of another cloud.

    Args:
        message: a new sensor_msgs/PointCloud2.
        records: (N,) records of `encode_xyzcpe` or `encode_xyzrgb`.
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
    message.is_dense = all(bool(np.isfinite(records[name]).all()) for name in 'xyz')
    return message


def _find_field(message: Any, name: str) -> Any:
    """The one field of that name."""
    found = [field for field in message.fields if field.name == name]
    if len(found) != 1:
        raise InputError(
            f'the cloud has {"no field" if not found else "several fields named"} {name!r}',
            expected=f'one field {name!r}',
            got=[field.name for field in message.fields],
        )
    return found[0]


def _check_fields(fields: Sequence[Any], point_step: int) -> None:
    """Known scalar types that lie inside the point and beside one another."""
    end = 0
    last = ''
    for field in sorted(fields, key=lambda field: int(field.offset)):
        where = f'field {field.name!r}'
        if field.datatype not in FIELD_TYPES:
            raise InputError(
                'the field has an unknown type', where=where, expected='1 to 8', got=field.datatype
            )
        if field.count != 1:
            raise InputError('the field is not scalar', where=where, expected=1, got=field.count)
        if field.offset < end:
            raise InputError(f'the field overlaps {last!r}', where=where, got=field.offset)
        last, end = field.name, field.offset + np.dtype(FIELD_TYPES[field.datatype]).itemsize
        if end > point_step:
            raise InputError(
                'the field ends outside the point',
                where=where,
                expected=f'at most point_step = {point_step} bytes',
                got=end,
            )


def _check_sizes(message: Any) -> None:
    """Steps and data hold all points; nothing has been allocated yet."""
    width, height = int(message.width), int(message.height)
    if message.row_step < width * message.point_step:
        raise InputError(
            'a row of the cloud is shorter than its points',
            where='row_step',
            expected=f'at least width * point_step = {width * message.point_step}',
            got=message.row_step,
        )
    if len(message.data) < message.row_step * height:
        raise InputError(
            'the cloud has fewer bytes than its header says',
            where='data',
            expected=f'row_step * height = {message.row_step * height}',
            got=len(message.data),
        )


def _read_field(message: Any, field: Any) -> NDArray[Any]:
    """(height * width,) values of a checked field."""
    native = np.dtype(FIELD_TYPES[field.datatype])
    shape = (int(message.height), int(message.width))
    if 0 in shape:
        return np.zeros(0, native)
    values: NDArray[Any] = np.ndarray(
        shape,
        native.newbyteorder('>' if message.is_bigendian else '<'),
        buffer=memoryview(message.data),
        offset=int(field.offset),
        strides=(int(message.row_step), int(message.point_step)),
    )
    return values.astype(native).reshape(-1)


def _check_coordinates(columns: dict[str, NDArray[Any]]) -> None:
    for name in 'xyz':
        if columns[name].dtype.kind != 'f':
            raise InputError(
                'a coordinate is not a float',
                where=f'field {name!r}',
                expected='FLOAT32 or FLOAT64',
                got=str(columns[name].dtype),
            )


def _seconds_after_stamp(times: NDArray[Any], stamp: Any) -> NDArray[np.float32]:
    """Times of points in the conventions of the usual drivers (see `read_points`)."""
    if times.dtype.kind != 'f':
        return (times * 1e-9).astype(np.float32)
    largest = np.fmax.reduce(np.abs(times), initial=0.0)
    if largest < 1e8:  # three years: seconds after the stamp
        return times.astype(np.float32)
    unit = 1e-9 if largest > 1e15 else 1.0  # absolute nanoseconds, or absolute seconds
    seconds: NDArray[Any] = times * unit - (stamp.sec + stamp.nanosec * 1e-9)
    return seconds.astype(np.float32)
