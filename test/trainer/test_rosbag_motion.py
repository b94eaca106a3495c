# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Bags with slow /tf, odometry or no frames at all, several lidars, and clouds freed from motion."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from test_rosbag import (
    CAMERA_PLACE,
    FRONT,
    LIDAR_PLACE,
    MS,
    NO_TURN,
    PIXELS,
    POINTS,
    START,
    STATIC,
    car_pose,
    drive,
    info,
    open_drive,
    reopen,
    tf,
    without,
)
from tiny_bag import FULL_TURN_OF_AXES, cloud, odometry, transforms, write_bag

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import parse_settings
from trainer.datasets.deskew import deskew
from trainer.datasets.rosbag_settings import PRESET_FOLDER, RosbagSettings

EXTRINSICS = [
    {'parent': 'base_link', 'child': 'lidar', 'translation': LIDAR_PLACE},
    {
        'parent': 'base_link',
        'child': FRONT,
        'translation': CAMERA_PLACE,
        'rotation': FULL_TURN_OF_AXES,
    },
]
REAR, REAR_AT = '/rear/points', (-3.0, 0.0, 2.0)


def odom(stamp_ns, topic='/odom', child='base_link'):
    rotation, position = car_pose(stamp_ns)
    return topic, stamp_ns, odometry(stamp_ns, 'odom', child, rotation.as_quat(), position)


def poses(num=16):
    return [odom(START + number * 20 * MS) for number in range(num)]


def placement(dataset):
    return dataset[1].images[0].camera_from_lidar


def test_odometry_and_extrinsics_of_the_settings_replace_all_of_tf(tmp_path):
    expected = placement(open_drive(tmp_path, drive()))
    bare = [message for message in drive() if not message[0].startswith('/tf')]
    write_bag(tmp_path / 'bare', [*bare, *poses()])
    dataset = reopen(tmp_path, path='bare', extrinsics=EXTRINSICS)
    np.testing.assert_allclose(placement(dataset), expected, atol=1e-9)
    assert dataset.uses['/odom'] == 'motion of the car, as /tf holds none'


def test_extrinsics_of_the_settings_count_before_tf_static(tmp_path):
    expected = placement(open_drive(tmp_path, drive()))
    wrong = ('/tf_static', START, transforms((START, 'base_link', 'lidar', NO_TURN, (9, 9, 9))))
    messages = [*without(drive(), '/tf_static'), STATIC, wrong]
    write_bag(tmp_path / 'wrong', messages)
    assert not np.allclose(placement(reopen(tmp_path, path='wrong')), expected)
    mended = reopen(tmp_path, path='wrong', extrinsics=EXTRINSICS[:1])
    np.testing.assert_allclose(placement(mended), expected, atol=1e-9)


def test_odometry_is_looked_for_only_where_tf_holds_no_motion(tmp_path):
    expected = placement(open_drive(tmp_path, drive()))
    standing = [('/odom', t, odometry(t, 'odom', 'base_link', NO_TURN, (0, 0, 0))) for t in (1, 2)]
    write_bag(tmp_path / 'both', [*drive(), *standing])
    np.testing.assert_array_equal(placement(reopen(tmp_path, path='both')), expected)
    dataset = reopen(tmp_path, path='both', odometry_topic='/odom')
    assert placement(dataset)[2, 3] == LIDAR_PLACE[0] - CAMERA_PLACE[0]
    assert dataset.uses['/odom'] == 'motion of the car, named in the settings'


def test_odometry_that_is_ambiguous_or_of_another_car_is_refused(tmp_path):
    still = without(drive(), '/tf')
    write_bag(tmp_path / 'bag', [*still, *poses(), odom(START, '/other')])
    with pytest.raises(InputError, match=r'(?s)several topics.*Odometry'):
        reopen(tmp_path)
    assert reopen(tmp_path, odometry_topic='/odom')
    write_bag(tmp_path / 'other', [*still, odom(START, child='trailer')])
    with pytest.raises(InputError, match=r"(?s)not belong to the lidar.*'lidar'.*'trailer'"):
        reopen(tmp_path, path='other')


def test_a_bag_without_motion_warns_once_how_far_images_are_from_their_sweep(tmp_path, caplog):
    open_drive(tmp_path, without(drive(), '/tf'))
    assert caplog.text.count('taken to stand still') == 1
    assert 'up to 40 ms' in caplog.text
    caplog.clear()
    write_bag(tmp_path / 'at_once', without(drive(image_delay=0), '/tf'))
    reopen(tmp_path, path='at_once')
    assert caplog.text == ''


def test_poses_too_far_apart_leave_the_images_between_out_and_are_counted(tmp_path, caplog):
    kept = [tf(START), tf(START + 280 * MS)]
    write_bag(tmp_path / 'bag', [*without(drive(), '/tf'), *kept])
    assert [len(sample.images) for sample in reopen(tmp_path, max_tf_gap=0.2)] == [0, 0, 0]
    assert '3 of 3 sweeps come without an image of camera_front' in caplog.text
    assert [len(sample.images) for sample in reopen(tmp_path, max_tf_gap=0.3)] == [1, 1, 1]


def rear(stamp_ns, xyz=POINTS[:2], intensity=200.0, **columns):
    fields = {**dict(zip('xyz', xyz.T)), 'intensity': np.full(len(xyz), intensity, np.float32)}
    fields |= {name: np.asarray(values) for name, values in columns.items()}
    return REAR, stamp_ns, cloud(stamp_ns, fields, 'rear')


REAR_PLACE = ('/tf_static', START, transforms((START, 'base_link', 'rear', NO_TURN, REAR_AT)))


def test_a_second_lidar_is_moved_to_the_first_by_place_and_motion(tmp_path):
    delay = 30 * MS
    messages = [*drive(), REAR_PLACE, *(rear(START + n * 100 * MS + delay) for n in range(3))]
    write_bag(tmp_path / 'bag', messages)
    with pytest.raises(InputError, match='several such topics'):
        reopen(tmp_path)
    dataset = reopen(
        tmp_path, lidar_topics=['/lidar/points', REAR], intensity_max=[100, 200], cameras=[]
    )
    sample = dataset[1]
    assert len(sample.points) == 5
    np.testing.assert_array_equal(sample.points[:3, :3], POINTS)
    rotation, position = car_pose(sample.stamp_ns + delay)
    in_odom = rotation.apply(POINTS[:2] + REAR_AT) + position
    rotation, position = car_pose(sample.stamp_ns)
    expected = rotation.inv().apply(in_odom - position) - LIDAR_PLACE
    np.testing.assert_allclose(sample.points[3:, :3], expected, atol=1e-4)
    np.testing.assert_allclose(sample.points[:, 3], [0, 0.5, 1, 1, 1])
    np.testing.assert_allclose(sample.times[3:], 0.03)
    np.testing.assert_array_equal(sample.labels, [1, 0, 255, 255, 255])
    assert dataset.intensity_max == 100


def test_sweeps_without_the_second_lidar_are_counted(tmp_path, caplog):
    write_bag(tmp_path / 'bag', [*drive(), REAR_PLACE, rear(START)])
    dataset = reopen(tmp_path, lidar_topics=['/lidar/points', REAR], max_time_difference=0.05)
    assert [len(sample.points) for sample in dataset] == [5, 3, 3]
    assert f'2 of 3 sweeps come without a cloud of {REAR}' in caplog.text


def test_each_point_is_moved_to_where_it_is_seen_from_at_the_stamp(tmp_path):
    world = np.random.default_rng(0).uniform(5, 30, (300, 3))
    offsets = np.linspace(-0.05, 0.04, 300).astype(np.float32)
    seen = []
    for point, offset in zip(world, offsets):
        rotation, position = car_pose(START + 100 * MS + round(float(offset) * 1e9))
        seen.append(rotation.inv().apply(point - position) - LIDAR_PLACE)
    columns = dict(zip('xyz', np.array(seen, np.float32).T))
    columns |= {'intensity': np.zeros(300, np.float32), 'time': offsets}
    stamp = START + 100 * MS
    message = '/lidar/points', stamp, cloud(stamp, columns)
    write_bag(tmp_path / 'bag', [*[tf(START + n * 5 * MS) for n in range(60)], STATIC, message])
    rotation, position = car_pose(stamp)
    expected = rotation.inv().apply(world - position) - LIDAR_PLACE
    skewed = reopen(tmp_path)[0].points[:, :3]
    straight = reopen(tmp_path, deskew=True)[0]
    assert np.abs(skewed - expected).max() > 0.3
    np.testing.assert_allclose(straight.points[:, :3], expected, atol=2e-3)
    np.testing.assert_allclose(straight.times, offsets)


def test_deskewing_what_cannot_be_deskewed_is_refused(tmp_path):
    write_bag(tmp_path / 'bag', drive())
    early = reopen(tmp_path, deskew=True)
    assert len(early[1].points) == 3
    with pytest.raises(InputError, match=r'(?s)not known for all of the sweep.*sweeps'):
        early[0]  # its points are 50 ms older than the first pose
    write_bag(tmp_path / 'late', [*without(drive(), '/lidar/points'), timed(START, -3.0)])
    late = reopen(tmp_path, path='late', deskew=True)
    with pytest.raises(InputError, match=r'(?s)not those of a sweep.*time_unit'):
        late[0]
    write_bag(tmp_path / 'still', without(drive(), '/tf'))
    with pytest.raises(InputError, match=r'(?s)deskew.*motion'):
        reopen(tmp_path, path='still', deskew=True)
    write_bag(tmp_path / 'untimed', [*without(drive(), '/lidar/points'), rear(START), REAR_PLACE])
    with pytest.raises(InputError, match=r'(?s)have no times.*deskew: false'):
        reopen(tmp_path, path='untimed', deskew=True)


def timed(stamp_ns, offset):
    columns = {**dict(zip('xyz', POINTS.T)), 'intensity': np.zeros(3, np.float32)}
    columns['time'] = np.full(3, offset, np.float32)
    return '/lidar/points', stamp_ns, cloud(stamp_ns, columns)


def test_times_in_microseconds_are_read_as_the_settings_say(tmp_path):
    write_bag(tmp_path / 'bag', [timed(START, 50_000.0)])
    np.testing.assert_allclose(reopen(tmp_path, time_unit='us')[0].times, 0.05)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-0.375, 0.375, width=32), min_size=1, max_size=30),
    st.floats(-20, 20),
    st.floats(-1, 1),
)
def test_deskewing_equals_moving_every_point_by_its_own_pose(times, speed, turn_rate):
    def pose(since_ns):
        found = np.repeat(np.eye(4)[None], len(since_ns), 0)
        found[:, :3, :3] = Rotation.from_rotvec(
            np.outer(since_ns / 1e9, [0, 0, turn_rate])
        ).as_matrix()
        found[:, 0, 3] = speed * since_ns / 1e9
        return found

    times = np.array(times, np.float32)
    points = np.random.default_rng(0).uniform(-30, 30, (len(times), 3))
    own = pose(times.astype(np.float64) * 1e9)
    expected = np.einsum('nij,nj->ni', own[:, :3, :3], points) + own[:, :3, 3]
    found = deskew(points, times, pose, 'here')
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_a_point_without_a_time_becomes_no_point():
    standing = lambda stamps: np.eye(4)[None].repeat(len(stamps), 0)  # noqa: E731
    found = deskew(np.ones((2, 3)), np.array([np.nan, 0.1]), standing, 'here')
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], 1)


def test_a_cloud_without_intensity_is_refused_unless_asked_for(tmp_path):
    bare = '/lidar/points', START, cloud(START, dict(zip('xyz', POINTS.T)))
    write_bag(tmp_path / 'bag', [bare])
    with pytest.raises(
        InputError, match=r"(?s)no intensity.*\['x', 'y', 'z'\].*intensity: absent"
    ):
        reopen(tmp_path)
    np.testing.assert_array_equal(reopen(tmp_path, intensity='absent')[0].points[:, 3], 0)


def test_the_clouds_with_an_intensity_are_the_lidars_and_not_the_radars(tmp_path):
    radar = cloud(START, {**dict(zip('xyz', POINTS.T)), 'rcs': np.ones(3, np.float32)}, 'radar')
    write_bag(tmp_path / 'bag', [*drive(2), ('/a_radar', START, radar)])
    assert reopen(tmp_path)[0].points[2, 3] == 1


def test_the_table_says_what_each_topic_is_used_for(tmp_path, caplog):
    write_bag(tmp_path / 'bag', [*drive(2), *poses()])
    with caplog.at_level(logging.INFO):
        dataset = reopen(tmp_path, lidar_topics=['/lidar/points'])
    rows = {row.topic: row for row in dataset.describe_topics()}
    assert rows['/lidar/points'].use == 'lidar, named in the settings'
    assert rows['/lidar/labels'].use == 'labels, the clouds with only `label`'
    assert rows['/camera_front/image/compressed'].frame == FRONT
    assert 'camera_front' in rows['/camera_front/image/compressed'].use
    assert rows['/odom'].use == ''
    assert rows['/odom'].frame == 'odom'
    assert '/lidar/points' in caplog.text
    assert 'lidar, named in the settings' in caplog.text


PRESETS = sorted(path.stem for path in PRESET_FOLDER.glob('*.yaml'))


@pytest.mark.parametrize('preset', PRESETS)
def test_presets_are_settings_and_explicit_values_win(preset):
    found = parse_settings({'format': 'rosbag', 'path': 'a', 'preset': preset}, RosbagSettings, '')
    assert len(found.lidar_topics) == 1
    values = {'format': 'rosbag', 'path': ['a', 'b'], 'preset': preset, 'intensity_max': 7}
    found = parse_settings({**values, 'lidar_topics': ['/x']}, RosbagSettings, '')
    assert (found.intensity_max, found.lidar_topics) == (7, ('/x',))
    assert found.model_validate_json(found.model_dump_json()) == found


def test_all_presets_are_there():
    names = {'autoware', 'nuscenes_foxglove', 'nuscenes_ros2', 'kitti', 'ouster'}
    assert {*PRESETS} == names | {'velodyne', 'livox'}


@pytest.mark.parametrize(
    'change',
    [
        {'preset': 'tank'},
        {'intensity_max': None},
        {'path': []},
        {'lidar_topics': ['/a', '/a']},
        {'intensity_max': [1, 2]},
        {'extrinsics': [{'parent': 'a', 'child': 'b', 'rotation': [0, 0, 0, 0]}]},
    ],
)
def test_settings_that_contradict_themselves_are_refused(change):
    values = {'format': 'rosbag', 'path': 'a', 'intensity_max': 1, **change}
    with pytest.raises(InputError, match=next(iter(change))):
        parse_settings(values, RosbagSettings, 'here')


def test_images_that_are_rectified_in_spite_of_their_name_are_left_as_they_are(tmp_path):
    bent = info(d=np.array([0.3, 0, 0, 0, 0]))
    messages = [bent if message[0] == bent[0] else message for message in drive(1)]
    write_bag(tmp_path / 'bag', messages)
    assert reopen(tmp_path)[0].images[0].image.shape != PIXELS.shape
    image = reopen(tmp_path, rectified_topics=['/camera_front/image/compressed'])[0].images[0]
    np.testing.assert_array_equal(image.image, PIXELS)


def test_a_car_that_stands_still_in_tf_and_in_its_odometry_is_read(tmp_path):
    stamps = [START + number * 20 * MS for number in range(16)]
    still = (NO_TURN, (1.0, 2.0, 0.0))
    messages = without(drive(), '/tf')
    for stamp in stamps:
        edge = (stamp, 'odom', 'base_link', *still)
        messages.append(('/tf', stamp, transforms(edge)))
        messages.append(('/odom', stamp, odometry(stamp, 'odom', 'base_link', *still)))
    dataset = open_drive(tmp_path, messages)
    assert placement(dataset)[2, 3] == pytest.approx(LIDAR_PLACE[0] - CAMERA_PLACE[0])
    np.testing.assert_allclose(placement(dataset)[:3, :3].sum(axis=1), [-1, -1, 1], atol=1e-9)
