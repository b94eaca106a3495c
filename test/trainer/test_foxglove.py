# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""MCAP files of Foxglove's protobuf messages as drives."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from mcap.writer import CompressionType
from tiny_foxglove import (
    CAMERA_PLACE,
    LIDAR_PLACE,
    MS,
    START,
    PackedElementField_pb2,
    calibration,
    car_pose,
    cloud,
    image,
    make,
    scene,
    stamp,
    transform,
    write_mcap,
)

from reldistill_ros.bags.bag import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    POINT_CLOUD,
    TF_MESSAGE,
    open_bag,
)
from reldistill_ros.bags.foxglove_file import is_foxglove
from reldistill_ros.core.errors import InputError
from reldistill_ros.point_cloud import read_fields, read_points
from trainer.datasets.rosbag import Rosbag, RosbagSettings

RNG = np.random.default_rng(0)
POINTS = np.column_stack(
    [RNG.uniform(4, 40, 200), RNG.uniform(-9, 9, (200, 2)), RNG.integers(0, 255, (200, 2))]
).astype(np.float32)
PIXELS = RNG.integers(0, 255, (90, 160, 3), dtype=np.uint8)
MATRIX = np.array([[126.0, 0, 81], [0, 126, 49], [0, 0, 1]])
CALIBRATION, IMAGES = '/cam_front/camera_info', '/cam_front/image_rect_compressed'


def write_scene(folder, **changes):
    write_mcap(folder / 'scene-0061.mcap', scene(POINTS, PIXELS, MATRIX), **changes)
    return folder / 'scene-0061.mcap'


def open_scene(folder, **changes):
    values = {'format': 'rosbag', 'path': 'scene-0061.mcap', 'intensity_max': 255, **changes}
    return Rosbag(RosbagSettings(**values), folder)


@pytest.mark.parametrize(
    'compression', [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD]
)
def test_a_scene_gives_points_images_and_two_poses(tmp_path, compression):
    write_scene(tmp_path, compression=compression)
    dataset = open_scene(tmp_path)
    assert len(dataset) == 11
    sample = dataset[4]  # between two key frames
    assert sample.stamp_ns == START + 200 * MS
    np.testing.assert_array_equal(sample.points[:, :3], POINTS[:, :3])
    np.testing.assert_allclose(sample.points[:, 3], POINTS[:, 3] / 255)
    (front,) = sample.images
    np.testing.assert_array_equal(front.image, PIXELS)
    np.testing.assert_array_equal(front.intrinsics, MATRIX)
    assert front.camera == 'cam_front'
    rotation, place = car_pose(sample.stamp_ns)
    in_map = rotation.apply(POINTS[:, :3] + LIDAR_PLACE) + place
    rotation, place = car_pose(sample.stamp_ns + 12 * MS)
    in_car = rotation.inv().apply(in_map - place) - CAMERA_PLACE
    expected = in_car @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    found = POINTS[:, :3] @ front.camera_from_lidar[:3, :3].T + front.camera_from_lidar[:3, 3]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_stamp_of_the_sensor_counts_and_not_the_time_of_recording(tmp_path):
    with open_bag(write_scene(tmp_path)) as bag:
        entries = bag.index(IMAGES)
        assert [e.stamp_ns - START for e in entries[:2]] == [12 * MS, 62 * MS]
        assert [e.log_ns - START for e in entries[:2]] == [0, 62 * MS]
        message = bag.read(entries[0])
    assert message.header.stamp.nanosec == (START + 12 * MS) % 10**9
    assert (message.format, message.header.frame_id) == ('png', 'cam_front')


def test_topics_have_their_types_of_ros_and_others_keep_their_names(tmp_path):
    with open_bag(write_scene(tmp_path)) as bag:
        assert bag.topics == {
            '/tf': TF_MESSAGE,
            '/lidar_top': POINT_CLOUD,
            IMAGES: COMPRESSED_IMAGE,
            CALIBRATION: CAMERA_INFO,
            '/gps': 'foxglove.LocationFix',
            '/imu': 'IMU',
        }
        for topic in ('/gps', '/imu'):
            with pytest.raises(InputError, match=r'(?s)not say|not read'):
                list(bag.messages(topic))
        message = next(m for _, m in bag.messages(CALIBRATION))
        assert (message.distortion_model, len(message.d)) == ('', 0)


def test_other_processes_open_the_file_for_themselves(tmp_path):
    write_scene(tmp_path)
    dataset = open_scene(tmp_path)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[3].points, dataset[3].points)


def test_two_files_make_one_drive(tmp_path):
    messages = scene(POINTS, PIXELS, MATRIX)
    cut = len(messages) // 2
    write_mcap(tmp_path / 'a.mcap', messages[:cut])
    write_mcap(tmp_path / 'b.mcap', messages[cut:])
    write_scene(tmp_path)
    parts, whole = open_scene(tmp_path, path=['a.mcap', 'b.mcap']), open_scene(tmp_path)
    assert [s.stamp_ns for s in parts] == [s.stamp_ns for s in whole]
    for one, other in zip(parts, whole):
        for left, right in zip(one.images, other.images, strict=True):
            np.testing.assert_array_equal(left.camera_from_lidar, right.camera_from_lidar)


def read_one(tmp_path, topic, message):
    write_mcap(tmp_path / 'one.mcap', [(topic, START, message)])
    with open_bag(tmp_path / 'one.mcap') as bag:
        return next(m for _, m in bag.messages(topic))


def test_every_type_of_field_is_read(tmp_path):
    kinds = {
        'i1': 'INT8', 'u1': 'UINT8', 'i2': 'INT16', 'u2': 'UINT16',
        'i4': 'INT32', 'u4': 'UINT32', 'f4': 'FLOAT32', 'f8': 'FLOAT64',
    }  # fmt: skip
    layout = np.dtype([(name, f'<{name}') for name in kinds])
    records = np.frombuffer(RNG.bytes(5 * layout.itemsize), layout)
    field = PackedElementField_pb2.PackedElementField
    fields = [
        field(name=name, offset=layout.fields[name][1], type=getattr(field, kind))
        for name, kind in kinds.items()
    ]
    message = make(
        'PointCloud',
        timestamp=stamp(START),
        point_stride=layout.itemsize,
        fields=fields,
        data=records.tobytes(),
    )
    for name, column in read_fields(read_one(tmp_path, '/points', message), [*kinds]).items():
        np.testing.assert_array_equal(column, records[name])


def test_a_cloud_that_contradicts_itself_or_has_a_pose_is_refused(tmp_path):
    for field, value in (('data', b'123'), ('point_stride', 0)):
        broken = cloud(START, POINTS)
        setattr(broken, field, value)
        with pytest.raises(InputError, match='whole points'):
            read_one(tmp_path, '/points', broken)
    moved = cloud(START, POINTS)
    moved.pose.position.x = 1.0
    with pytest.raises(InputError, match='pose of its own'):
        read_one(tmp_path, '/points', moved)
    still = cloud(START, POINTS)
    still.pose.orientation.w = 1.0
    assert len(read_points(read_one(tmp_path, '/points', still), 255)) == len(POINTS)


def test_raw_images_and_lists_of_transforms_are_read(tmp_path):
    raw = make(
        'RawImage',
        timestamp=stamp(START),
        frame_id='cam',
        width=160,
        height=90,
        encoding='rgb8',
        step=480,
        data=PIXELS.tobytes(),
    )
    message = read_one(tmp_path, '/image', raw)
    np.testing.assert_array_equal(message.data, PIXELS.ravel())
    both = make('FrameTransforms')
    both.transforms.add().CopyFrom(transform(START, 'a', 'b', (0, 0, 0, 1), (1, 2, 3)))
    both.transforms.add(parent_frame_id='b', child_frame_id='c')  # no rotation means no turn
    edges = read_one(tmp_path, '/tf', both).transforms
    assert [edge.child_frame_id for edge in edges] == ['b', 'c']
    assert edges[0].transform.translation.y == 2
    assert edges[1].transform.rotation.w == 1


def test_a_calibration_with_too_few_numbers_is_refused(tmp_path):
    short = calibration(START, (90, 160), MATRIX)
    del short.K[8]
    with pytest.raises(InputError, match='malformed'):
        read_one(tmp_path, '/info', short)
    bare = calibration(START, (90, 160), MATRIX)
    bare.ClearField('P')
    np.testing.assert_array_equal(read_one(tmp_path, '/info', bare).p, 0)


def test_a_truncated_file_is_refused(tmp_path):
    path = write_scene(tmp_path)
    whole = path.read_bytes()
    assert is_foxglove(path)
    for length in (30, 2000, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r'(?s)cannot be read.*mcap recover'):
            open_scene(tmp_path)


def test_a_message_that_is_no_protobuf_is_refused(tmp_path):
    write_mcap(tmp_path / 'one.mcap', [('/lidar_top', START, cloud(START, POINTS))])
    path = tmp_path / 'bad.mcap'
    write_mcap(
        path,
        [('/lidar_top', START, broken(cloud(START, POINTS)))],
        compression=CompressionType.NONE,
    )
    with open_bag(path) as bag, pytest.raises(InputError, match='cannot be decoded'):
        bag.index('/lidar_top')


def broken(message):
    """A message that is written as other bytes."""
    kind = type(message)
    return type(
        'Broken', (), {'DESCRIPTOR': kind.DESCRIPTOR, 'SerializeToString': lambda _: b'\xff'}
    )()


def test_images_are_not_mixed_up_between_cameras(tmp_path):
    messages = scene(POINTS, PIXELS, MATRIX, num_sweeps=2)
    back = [
        ('/cam_back/camera_info', START, calibration(START, (90, 160), MATRIX, 'cam_back')),
        ('/cam_back/image_rect_compressed', START, image(START, 255 - PIXELS, 'cam_back')),
        ('/tf', START, transform(START, 'base_link', 'cam_back', (0.5, 0.5, 0.5, 0.5), (0, 0, 1))),
    ]
    write_mcap(tmp_path / 'scene-0061.mcap', [*back, *messages])
    images = open_scene(tmp_path)[0].images
    assert [one.camera for one in images] == ['cam_back', 'cam_front']
    np.testing.assert_array_equal(images[0].image, 255 - PIXELS)
