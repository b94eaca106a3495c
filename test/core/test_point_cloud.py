# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The decoder: by name and type, and nothing but InputError on a malformed cloud."""

from __future__ import annotations

import array
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.core.errors import InputError
from reldistill_ros.labelled_cloud import (
    XYZCPE,
    encode_compact,
    encode_xyzcpe,
    encode_xyzrgb,
    fill_cloud,
    keep_points,
)
from reldistill_ros.point_cloud import read_fields, read_points, read_times

NUMBERS = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}


@dataclass
class Field:
    name: str = ''
    offset: int = 0
    datatype: int = 7
    count: int = 1


@dataclass
class Cloud:
    header: Any = field(
        default_factory=lambda: SimpleNamespace(
            stamp=SimpleNamespace(sec=1_700_000_000, nanosec=0)
        )
    )
    height: int = 1
    width: int = 0
    fields: list[Field] = field(default_factory=list)
    is_bigendian: bool = False
    point_step: int = 0
    row_step: int = 0
    data: Any = b''
    is_dense: bool = True


def make_cloud(
    columns: dict[str, Any],
    *,
    height: int = 1,
    big_endian: bool = False,
    row_padding: int = 0,
    gap: int = 0,
) -> Cloud:
    """A well-formed cloud whose fields stand in the order of the columns, `gap` bytes apart."""
    order = '>' if big_endian else '<'
    kinds = {
        name: np.asarray(values).dtype.newbyteorder(order) for name, values in columns.items()
    }
    offsets, step = [], 0
    for kind in kinds.values():
        offsets.append(step)
        step += kind.itemsize + gap
    layout = {
        'names': [*kinds],
        'formats': [*kinds.values()],
        'offsets': offsets,
        'itemsize': step,
    }
    num_points = len(next(iter(columns.values())))
    records = np.zeros(num_points, np.dtype(layout))
    for name, values in columns.items():
        records[name] = values
    width = num_points // height
    rows = records.reshape(height, width)
    data = b''.join(row.tobytes() + b'\xff' * row_padding for row in rows)
    fields = [
        Field(name, offset, NUMBERS[kind.str[1:]])
        for (name, kind), offset in zip(kinds.items(), offsets)
    ]
    return Cloud(
        height=height,
        width=width,
        fields=fields,
        is_bigendian=big_endian,
        point_step=step,
        row_step=step * width + row_padding,
        data=array.array('B', data),
    )


def xyzi(num: int = 6) -> dict[str, np.ndarray]:
    values = np.arange(num, dtype=np.float32)
    return {'x': values, 'y': values + 10, 'z': values - 20, 'intensity': values * 10}


def expected(num: int = 6) -> np.ndarray:
    return np.stack([*xyzi(num).values()], axis=1) / np.float32([1, 1, 1, 100])


def test_a_plain_cloud_is_read_in_order():
    points = read_points(make_cloud(xyzi()), intensity_max=100)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, expected())


def test_padding_at_the_end_of_rows_is_skipped():
    cloud = make_cloud(xyzi(), height=2, row_padding=5)
    np.testing.assert_array_equal(read_points(cloud, 100), expected())


def test_an_organised_cloud_is_flattened_row_by_row():
    cloud = make_cloud({'label': np.arange(6, dtype=np.uint8)}, height=2)
    np.testing.assert_array_equal(read_fields(cloud, ['label'])['label'], np.arange(6))


def test_a_big_endian_cloud_is_read_twice_alike_and_left_unchanged():
    cloud = make_cloud(xyzi(), big_endian=True)
    before = bytes(cloud.data)
    first, second = read_points(cloud, 100), read_points(cloud, 100)
    np.testing.assert_array_equal(first, expected())
    np.testing.assert_array_equal(second, expected())
    assert bytes(cloud.data) == before


def test_the_result_does_not_share_memory_with_the_message():
    cloud = make_cloud(xyzi())
    read_fields(cloud, ['x'])['x'][:] = 77
    np.testing.assert_array_equal(read_points(cloud, 100), expected())


@pytest.mark.parametrize('dense', [True, False])
def test_points_that_are_not_finite_are_kept_in_place(dense: bool):
    columns = xyzi()
    columns['x'][2], columns['y'][3] = np.nan, np.inf
    cloud = make_cloud(columns)
    cloud.is_dense = dense
    points = read_points(cloud, 100)
    assert len(points) == 6
    assert np.isnan(points[2, 0])
    assert np.isinf(points[3, 1])


def test_fields_are_found_by_name_in_any_order_with_gaps():
    columns = xyzi()
    shuffled = {name: columns[name] for name in ('intensity', 'z', 'x', 'y')}
    np.testing.assert_array_equal(read_points(make_cloud(shuffled, gap=3), 100), expected())


def test_double_coordinates_are_read():
    columns = {name: values.astype(np.float64) for name, values in xyzi().items()}
    np.testing.assert_allclose(read_points(make_cloud(columns), 100), expected(), rtol=1e-6)


def test_a_double_beyond_single_precision_becomes_infinite():
    columns = {name: values.astype(np.float64) for name, values in xyzi().items()}
    columns['x'][0] = 1e300
    assert np.isinf(read_points(make_cloud(columns), 100)[0, 0])


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize('name', ['intensity', 'i', 'reflectivity'])
def test_intensity_of_any_type_and_usual_name_is_scaled(kind: type, name: str):
    columns = xyzi()
    columns[name] = columns.pop('intensity').astype(kind)
    np.testing.assert_allclose(read_points(make_cloud(columns), 100), expected(), rtol=1e-6)


def test_a_cloud_without_intensity_gets_zeros():
    columns = xyzi()
    del columns['intensity']
    assert not read_points(make_cloud(columns), 100)[:, 3].any()


@pytest.mark.parametrize(
    ('name', 'times'),
    [
        ('t', np.array([0, 50_000_000], np.uint32)),
        ('time_stamp', np.array([0, 50_000_000], np.uint32)),
        ('offset_time', np.array([0, 50_000_000], np.uint32)),
        ('time', np.array([0, 0.05], np.float32)),
        ('timestamp', np.array([1_700_000_000, 1_700_000_000.05])),
        ('timestamp', np.array([1_700_000_000e9, 1_700_000_000.05e9])),
        ('timestamp', np.array([1_700_000_000e6, 1_700_000_000.05e6])),
    ],
)
def test_times_of_the_usual_drivers_become_seconds_after_the_stamp(name: str, times: np.ndarray):
    columns = {**xyzi(2), name: times}
    seconds = read_times(make_cloud(columns))
    assert seconds.dtype == np.float32
    np.testing.assert_allclose(seconds, [0, 0.05], atol=1e-6)


@pytest.mark.parametrize(
    ('unit', 'times'),
    [
        ('s', np.array([0, 0.05], np.float32)),
        ('ms', np.array([0, 50], np.uint16)),
        ('us', np.array([0, 50_000], np.float32)),
        ('us', np.array([0, 50_000], np.uint32)),
        ('ns', np.array([0, 50_000_000], np.float64)),
        ('us', np.array([1_700_000_000e6, 1_700_000_000.05e6])),
    ],
)
def test_drivers_with_another_unit_can_be_read(unit: str, times: np.ndarray):
    seconds = read_times(make_cloud({**xyzi(2), 't': times}), unit)
    np.testing.assert_allclose(seconds, [0, 0.05], atol=1e-6)


def test_nanoseconds_longer_than_a_sweep_are_no_date():
    times = np.array([0, 4_000_000_000], np.uint32)
    np.testing.assert_allclose(read_times(make_cloud({**xyzi(2), 't': times})), [0, 4])


def test_a_cloud_without_times_gets_zeros():
    times = read_times(make_cloud(xyzi()))
    assert times.dtype == np.float32
    np.testing.assert_array_equal(times, np.zeros(6))


@pytest.mark.parametrize('change', [{'count': 2}, {'datatype': 99}, {'offset': 99}])
def test_odd_times_are_refused_only_where_they_are_wanted(change: dict[str, int]):
    cloud = make_cloud({**xyzi(), 't': np.zeros(6, np.uint32)})
    cloud.fields[4] = replace(cloud.fields[4], **change)
    np.testing.assert_array_equal(read_points(cloud, 100), expected())
    with pytest.raises(InputError, match="field 't'"):
        read_times(cloud)


@pytest.mark.parametrize('fields', [True, False])
@pytest.mark.parametrize('height', [0, 1])
def test_a_cloud_of_no_points_is_empty_not_wrong(fields: bool, height: int):
    cloud = make_cloud(xyzi(1))
    cloud.width, cloud.height, cloud.data, cloud.row_step = 0, height, b'', 0
    cloud.fields = cloud.fields if fields else []
    assert read_points(cloud, 100).shape == (0, 4)
    assert read_times(cloud).shape == (0,)
    if fields:
        assert read_fields(cloud, ['x'])['x'].shape == (0,)


def broken(**changes: Any) -> Cloud:
    cloud = make_cloud(xyzi())
    for name, value in changes.items():
        setattr(cloud, name, value)
    return cloud


def with_field(index: int, **changes: Any) -> Cloud:
    cloud = make_cloud(xyzi())
    for name, value in changes.items():
        setattr(cloud.fields[index], name, value)
    return cloud


@pytest.mark.parametrize(
    ('cloud', 'words'),
    [
        (broken(data=b'123'), 'fewer bytes'),
        (broken(width=7), 'row of the cloud is shorter'),
        (broken(row_step=95), 'row of the cloud is shorter'),
        (broken(height=2), 'fewer bytes'),
        (broken(point_step=0), 'outside the point'),
        (broken(point_step=15), 'outside the point'),
        (broken(fields=[]), 'no field'),
        (broken(width=2**32 - 1, height=2**32 - 1), 'row of the cloud is shorter'),
        (broken(width=2**32 - 1, height=2**32 - 1, row_step=2**40), 'fewer bytes'),
        (with_field(0, name='u'), "no field 'x'"),
        (with_field(1, name='x'), 'several fields'),
        (with_field(1, offset=2), 'overlaps'),
        (with_field(3, offset=14), 'outside the point'),
        (with_field(3, offset=2**32 - 1), 'outside the point'),
        (with_field(0, count=0), 'not scalar'),
        (with_field(0, count=3), 'not scalar'),
        (with_field(0, datatype=0), 'unknown type'),
        (with_field(0, datatype=9), 'unknown type'),
        (with_field(2, datatype=6), 'not a float'),
    ],
)
def test_a_malformed_cloud_is_refused_with_the_reason(cloud: Cloud, words: str):
    with pytest.raises(InputError, match=words):
        read_points(cloud, 100)


def test_a_field_that_is_not_read_may_be_odd():
    cloud = make_cloud(xyzi())
    cloud.fields.append(Field('padding', 0, 99, 7))
    np.testing.assert_array_equal(read_points(cloud, 100), expected())


@pytest.mark.parametrize('intensity_max', [0.0, -1.0, float('nan')])
def test_a_maximum_of_the_intensity_that_is_not_positive_is_refused(intensity_max: float):
    with pytest.raises(InputError, match='intensity_max'):
        read_points(make_cloud(xyzi()), intensity_max)


NUMBER = st.one_of(
    st.integers(0, 40), st.sampled_from([2**16, 2**31 - 1, 2**31, 2**32 - 1]), st.just(16)
)
FIELDS = st.lists(
    st.builds(
        Field,
        name=st.sampled_from(['x', 'y', 'z', 'intensity', 'i', 't', 'timestamp', '']),
        offset=NUMBER,
        datatype=st.integers(0, 255) | st.integers(1, 8),
        count=st.sampled_from([1, 1, 1, 0, 2, 2**32 - 1]),
    ),
    max_size=8,
)
GOOD_FIELDS = st.just([Field(name, 4 * index) for index, name in enumerate('xyzi')])
CLOUDS = st.builds(
    Cloud,
    height=NUMBER,
    width=NUMBER,
    fields=FIELDS | GOOD_FIELDS,
    is_bigendian=st.booleans(),
    point_step=NUMBER,
    row_step=NUMBER,
    data=st.binary(max_size=600) | st.just(b'\x01' * 600),
    is_dense=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(CLOUDS)
def test_no_cloud_raises_anything_but_an_input_error(cloud: Cloud):
    num_points = cloud.width * cloud.height
    with suppress(InputError):
        assert read_points(cloud, 255.0).shape == (num_points, 4)
    with suppress(InputError):
        assert read_times(cloud).shape == (num_points,)


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 4),
    width=st.integers(1, 5),
    padding=st.integers(0, 7),
    gap=st.integers(0, 5),
    big_endian=st.booleans(),
    kind=st.sampled_from([*NUMBERS]),
    order=st.permutations(['x', 'y', 'z', 'intensity']),
)
def test_any_layout_reads_the_same(height, width, padding, gap, big_endian, kind, order):
    values = np.arange(height * width)
    columns = {
        'x': values.astype('f4'),
        'y': values.astype('f8'),
        'z': -values.astype('f4'),
        'intensity': values.astype(kind),
    }
    cloud = make_cloud(
        {name: columns[name] for name in order},
        height=height,
        row_padding=padding,
        gap=gap,
        big_endian=big_endian,
    )
    points = read_points(cloud, 1.0)
    np.testing.assert_array_equal(points, np.stack([values, values, -values, values], axis=1))


def test_labels_are_written_in_autowares_layout():
    places = {name: place[1] for name, place in XYZCPE.fields.items()}
    assert places == {'x': 0, 'y': 4, 'z': 8, 'class_id': 12, 'probability': 16, 'entropy': 20}
    records = encode_xyzcpe(
        np.array([[1, 2, 3, 0]], np.float32),
        np.array([7], np.uint8),
        np.array([0.5], np.float32),
        np.array([0.25], np.float32),
    )
    assert records.tobytes() == (
        np.array([1, 2, 3], '<f4').tobytes()
        + bytes([7, 0, 0, 0])
        + np.array([0.5, 0.25], '<f4').tobytes()
    )


def test_an_unlabelled_point_has_probability_zero_and_no_entropy():
    nothing = np.array([0.9], np.float32)
    records = encode_xyzcpe(np.zeros((1, 4)), np.array([255], np.uint8), nothing, nothing)
    assert records['probability'][0] == 0
    assert np.isnan(records['entropy'][0])


def test_colours_are_packed_red_first():
    records = encode_xyzrgb(np.zeros((1, 3)), np.array([[0x12, 0x34, 0x56]], np.uint8))
    assert records['rgb'].view('<u4')[0] == 0x123456


def test_a_written_cloud_reads_back_with_the_shape_and_header_of_its_source():
    source = make_cloud(xyzi(), height=2)
    points = read_points(source, 100)
    classes = np.array([0, 1, 2, 3, 254, 255], np.uint8)
    records = encode_xyzcpe(points, classes, np.ones(6), np.zeros(6))
    cloud = fill_cloud(Cloud(), records, source, Field)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (2, 3, 24, 72)
    assert cloud.header is source.header
    assert cloud.is_dense
    columns = read_fields(cloud, [*XYZCPE.names])
    np.testing.assert_array_equal(columns['class_id'], classes)
    np.testing.assert_array_equal(columns['x'], points[:, 0])


def test_a_written_cloud_with_missing_points_says_so():
    source = make_cloud(xyzi(1))
    records = encode_xyzrgb(np.array([[np.nan, 0, 0]]), np.zeros((1, 3), np.uint8))
    assert not fill_cloud(Cloud(), records, source, Field).is_dense


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 4),
    width=st.integers(0, 5),
    padding=st.integers(0, 7),
    big_endian=st.booleans(),
    seed=st.integers(0, 99),
)
def test_points_kept_of_a_cloud_have_all_their_fields(height, width, padding, big_endian, seed):
    columns = {**xyzi(height * width), 'ring': np.arange(height * width, dtype=np.uint16)}
    source = make_cloud(columns, height=height, row_padding=padding, big_endian=big_endian)
    keep = np.random.default_rng(seed).random(height * width) < 0.5
    cloud = keep_points(Cloud(), source, keep)
    assert (cloud.height, cloud.width, cloud.row_step) == (1, keep.sum(), 18 * keep.sum())
    assert cloud.header is source.header
    for name, values in read_fields(cloud, [*columns]).items():
        np.testing.assert_array_equal(values, columns[name][keep])


def test_compact_labels_round_probabilities_to_a_byte_and_say_zero_where_unlabelled():
    probabilities = np.array([0, 0.1, 0.5, 1.0, 0.9], np.float32)
    records = encode_compact(np.array([3, 0, 254, 7, 255], np.uint8), probabilities)
    assert records.tobytes() == bytes([3, 0, 0, 26, 254, 128, 7, 255, 255, 0])
    cloud = fill_cloud(Cloud(), records, make_cloud(xyzi(5)), Field)
    assert (cloud.point_step, cloud.is_dense) == (2, True)
    assert read_fields(cloud, ['class_id'])['class_id'].tolist() == [3, 0, 254, 7, 255]


@pytest.mark.parametrize('height', [1, 2])
def test_the_decoder_agrees_with_sensor_msgs_py(height: int):
    reference = pytest.importorskip(
        'sensor_msgs_py.point_cloud2', reason='sensor_msgs_py comes with a ROS installation only'
    )
    from sensor_msgs.msg import PointCloud2, PointField

    source = make_cloud({**xyzi(12), 'ring': np.arange(12, dtype=np.uint16)}, height=height)
    message = PointCloud2(
        height=source.height,
        width=source.width,
        fields=[
            PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=1)
            for f in source.fields
        ],
        point_step=source.point_step,
        row_step=source.row_step,
        data=source.data,
        is_dense=True,
    )
    names = ['x', 'y', 'z', 'intensity', 'ring']
    theirs = reference.read_points(message, field_names=names).reshape(-1)
    ours = read_fields(message, names)
    for name in names:
        np.testing.assert_array_equal(ours[name], theirs[name])
