# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""PointCloud2 to numpy, by field name and type; every malformed cloud is an InputError.

Works on any object with the attributes of sensor_msgs/PointCloud2, so on ROS messages and on
those of the `rosbags` package, and imports neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reldistill_ros.core.errors import InputError

# Why not sensor_msgs_py.point_cloud2, which is the reference of the test on plain clouds: measured
# on ROS 2 Kilted, its read_points returns garbage for rows with padding, swaps the bytes of a
# big-endian message in place, so that a second read is wrong, transposes organised clouds, fails
# with an assertion or a TypeError on malformed clouds, and is missing outside a ROS installation.

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
INTENSITY_NAMES = ('intensity', 'i', 'reflectivity')
TIME_NAMES = ('t', 'time', 'timestamp', 'time_stamp', 'offset_time')
TimeUnit = Literal['s', 'ms', 'us', 'ns']
YEAR_1985, YEAR_2286 = 5e8, 1e10  # seconds since 1970
SECONDS: dict[TimeUnit, float] = {'s': 1.0, 'ms': 1e-3, 'us': 1e-6, 'ns': 1e-9}


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


def read_points(message: Any, intensity_max: float) -> NDArray[np.float32]:
    """Decode what the student sees of a cloud.

    Args:
        message: a sensor_msgs/PointCloud2 or an object with its attributes.
        intensity_max: largest raw intensity of the sensor.

    Returns:
        (N, 4) float32, x y z in metres in the cloud's frame, and the first of `INTENSITY_NAMES`,
        of any type, divided by `intensity_max`, zero where there is none; NaN points are kept.

    Raises:
        InputError: the cloud contradicts itself, or x, y, z are missing or not floats.
    """
    if not intensity_max > 0:
        raise InputError('intensity_max must be positive', got=intensity_max)
    num_points = int(message.width) * int(message.height)
    if num_points == 0:
        return np.zeros((0, 4), np.float32)
    intensity = _first_present(message, INTENSITY_NAMES)
    columns = read_fields(message, ['x', 'y', 'z', *([intensity] if intensity else [])])
    _check_coordinates(columns)
    points = np.zeros((num_points, 4), np.float32)  # not before the sizes are checked
    with np.errstate(over='ignore'):  # a FLOAT64 beyond float32 becomes inf: not finite, no label
        for column, name in enumerate('xyz'):
            points[:, column] = columns[name]
        if intensity:
            points[:, 3] = columns[intensity] / float(intensity_max)
    return points


def read_times(message: Any, unit: TimeUnit | None = None) -> NDArray[np.float32]:
    """Decode when each point was measured.

    Without a unit, integers are nanoseconds and floats are seconds after the header's stamp; floats
    that can only be times since 1970, in any unit, are taken for these.

    Args:
        message: a sensor_msgs/PointCloud2 or an object with its attributes.
        unit: of the times, for drivers that depart from this.

    Returns:
        (N,) float32, seconds after the header's stamp, from the first of `TIME_NAMES`; zeros
        where there is none.

    Raises:
        InputError: the cloud contradicts itself, or has neither times nor x.
    """
    if int(message.width) * int(message.height) == 0:
        return np.zeros(0, np.float32)
    name = _first_present(message, TIME_NAMES)
    if name is None:
        return np.zeros_like(read_fields(message, ['x'])['x'], np.float32)
    return _seconds_after_stamp(read_fields(message, [name])[name], message.header.stamp, unit)


def _first_present(message: Any, names: Sequence[str]) -> str | None:
    present = {field.name for field in message.fields}
    return next((name for name in names if name in present), None)


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


def _seconds_after_stamp(
    times: NDArray[Any], stamp: Any, unit: TimeUnit | None
) -> NDArray[np.float32]:
    """Times of points in the conventions of the usual drivers (see `read_times`)."""
    if times.dtype.kind != 'f':  # of 32 bits at most, which hold no date
        return (times * SECONDS[unit or 'ns']).astype(np.float32)
    with np.errstate(over='ignore', invalid='ignore'):  # absurd times become inf or NaN
        return _float_seconds(times, stamp, unit)


def _float_seconds(times: NDArray[Any], stamp: Any, unit: TimeUnit | None) -> NDArray[np.float32]:
    """Of floats, which may be dates: seconds since 1970 in any unit."""
    largest = np.fmax.reduce(np.abs(times), initial=0.0)
    units = [unit] if unit else SECONDS
    date_unit = next((u for u in units if YEAR_1985 <= largest * SECONDS[u] < YEAR_2286), None)
    if date_unit is None:
        return (times * SECONDS[unit or 's']).astype(np.float32)
    seconds: NDArray[Any] = times * SECONDS[date_unit] - (stamp.sec + stamp.nanosec * 1e-9)
    return seconds.astype(np.float32)
