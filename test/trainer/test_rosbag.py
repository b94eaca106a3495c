# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""ROS 2 bags as data sets."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation
from tiny_bag import (
    FULL_TURN_OF_AXES,
    camera_info,
    cloud,
    compressed,
    raw_image,
    string,
    transforms,
    write_bag,
)

from reldistill_ros.core.errors import InputError
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.pairing import PairingSettings, pair_points

START = 1_700_000_000_000_000_000
MS = 1_000_000
NO_TURN = (0, 0, 0, 1)
LIDAR_PLACE, CAMERA_PLACE = (1.0, 0.0, 2.0), (1.5, 0.2, 1.4)
POINTS = np.array([[8, 1, 0.5], [12, -2, -1], [20, 0, 3]], dtype=np.float32)
PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
FRONT = 'camera_front_optical'
XYZI = {**dict(zip('xyz', POINTS.T)), 'intensity': np.float32([0, 50, 100])}


def car_pose(stamp_ns):
    """Where the car is: it drives 10 m/s and turns 0.5 rad/s."""
    seconds = (stamp_ns - START) / 1e9
    return Rotation.from_euler('z', 0.5 * seconds), np.array([10 * seconds, 0, 0])


def tf(stamp_ns):
    rotation, position = car_pose(stamp_ns)
    edge = (stamp_ns, 'odom', 'base_link', rotation.as_quat(), position)
    return '/tf', stamp_ns, transforms(edge)


def sweep(stamp_ns, points=POINTS):
    columns = dict(zip('xyz', points.T))
    columns['intensity'] = np.linspace(0, 100, len(points)).astype(np.float32)
    columns['time'] = np.full(len(points), -0.05, np.float32)
    return '/lidar/points', stamp_ns, cloud(stamp_ns, columns)


def labels(stamp_ns, numbers=(1, 0, 255)):
    columns = {'label': np.array(numbers, np.uint8)}
    return '/lidar/labels', stamp_ns, cloud(stamp_ns, columns)


def picture(stamp_ns, name='/camera_front/image/compressed', pixels=PIXELS):
    return name, stamp_ns, compressed(stamp_ns, FRONT, pixels)


def info(name='/camera_front/camera_info', **changes):
    return name, START, camera_info(START, FRONT, 64, 48, **changes)


STATIC = (
    '/tf_static',
    START,
    transforms(
        (START, 'base_link', 'lidar', NO_TURN, LIDAR_PLACE),
        (START, 'base_link', FRONT, FULL_TURN_OF_AXES, CAMERA_PLACE),
    ),
)
LABEL_INFO = ('/lidar/label_info', START, string(json.dumps({'class_names': ['road', 'car']})))


def drive(num_sweeps=3, image_delay=40 * MS):
    """A sweep every 100 ms, an image after each, poses every 20 ms."""
    stamps = [START + number * 100 * MS for number in range(num_sweeps)]
    messages = [STATIC, LABEL_INFO, info()]
    messages += [tf(START + number * 20 * MS) for number in range(5 * num_sweeps + 1)]
    for stamp in stamps:
        messages += [sweep(stamp), labels(stamp), picture(stamp + image_delay)]
    return messages


def without(messages, topic):
    return [message for message in messages if message[0] != topic]


def open_drive(tmp_path, messages, **changes):
    write_bag(tmp_path / 'bag', messages)
    return reopen(tmp_path, **changes)


def reopen(tmp_path, **changes):
    values = {'format': 'rosbag', 'path': 'bag', 'intensity_max': 100, **changes}
    return Rosbag(RosbagSettings(**values), tmp_path)


def test_a_sweep_comes_with_its_image_and_labels(tmp_path):
    dataset = open_drive(tmp_path, drive())
    sample = dataset[1]
    assert len(dataset) == 3
    assert dataset.label_names == ('road', 'car')
    assert sample.stamp_ns == START + 100 * MS
    assert sample.sample_id == f'bag/{sample.stamp_ns}'
    np.testing.assert_array_equal(sample.points[:, :3], POINTS)
    np.testing.assert_allclose(sample.points[:, 3], [0, 0.5, 1])
    np.testing.assert_allclose(sample.times, -0.05)
    np.testing.assert_array_equal(sample.labels, [1, 0, 255])
    assert [image.camera for image in sample.images] == ['camera_front']
    np.testing.assert_array_equal(sample.images[0].image, PIXELS)


def test_sweeps_are_read_in_any_order_from_any_of_the_bag(tmp_path):
    messages = drive(5)
    messages.sort(key=lambda message: -message[1])  # recorded backwards
    dataset = open_drive(tmp_path, messages)
    assert [dataset[number].stamp_ns for number in (3, 0, 4)] == [
        START + number * 100 * MS for number in (3, 0, 4)
    ]
    assert [sample.stamp_ns for sample in reopen(tmp_path, sweeps=[2])] == [START + 200 * MS]


def test_the_transform_follows_the_car_between_sweep_and_image(tmp_path):
    # 50 ms after a sweep lies half-way between two poses
    sample = open_drive(tmp_path, drive(image_delay=50 * MS))[0]
    rotation, position = car_pose(sample.stamp_ns)
    in_odom = rotation.apply(POINTS + LIDAR_PLACE) + position
    rotation, position = car_pose(sample.stamp_ns + 50 * MS)
    in_camera = rotation.inv().apply(in_odom - position) - CAMERA_PLACE
    expected = in_camera @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # right, down, forward
    transform = sample.images[0].camera_from_lidar
    np.testing.assert_allclose(
        POINTS @ transform[:3, :3].T + transform[:3, 3], expected, atol=1e-4
    )


def test_the_car_that_stands_still_needs_no_moving_frame(tmp_path):
    sample = open_drive(tmp_path, without(drive(), '/tf'))[0]
    expected = np.array([[0, -1, 0, 0.2], [0, 0, -1, -0.6], [1, 0, 0, -0.5], [0, 0, 0, 1]])
    np.testing.assert_allclose(sample.images[0].camera_from_lidar, expected, atol=1e-12)
    pairs = pair_points(sample.points, sample.images[0], PairingSettings())
    np.testing.assert_allclose(pairs.pixels[0], [32 - 80 / 7.5, 24 - 110 / 7.5], rtol=1e-5)


def test_an_image_too_far_in_time_is_left_out_and_counted(tmp_path, caplog):
    late = picture(START + 90 * MS)
    messages = [*without(drive(), '/camera_front/image/compressed'), late]
    dataset = open_drive(tmp_path, messages)
    assert [len(sample.images) for sample in dataset] == [1, 1, 0]
    assert '1 of 3 sweeps come without an image of camera_front: 1 have none within' in caplog.text
    assert [len(sample.images) for sample in reopen(tmp_path, max_time_difference=0.05)] == [
        0,
        1,
        0,
    ]


def test_an_image_whose_pose_was_not_recorded_is_left_out_and_counted(tmp_path, caplog):
    messages = [
        message for message in drive() if message[0] != '/tf' or message[1] < START + 230 * MS
    ]
    assert [len(sample.images) for sample in open_drive(tmp_path, messages)] == [1, 1, 0]
    assert '1 of 3 sweeps' in caplog.text
    assert '0 have none within max_time_difference, 1 have one but no /tf' in caplog.text


def test_a_bag_with_all_images_warns_of_nothing(tmp_path, caplog):
    open_drive(tmp_path, drive())
    assert caplog.text == ''


@pytest.mark.parametrize(
    ('encoding', 'stored', 'expected'),
    [
        ('rgb8', PIXELS, PIXELS),
        ('bgr8', PIXELS[..., ::-1], PIXELS),
        ('mono8', PIXELS[..., :1], PIXELS[..., [0, 0, 0]]),
    ],
)
def test_raw_images_are_decoded_with_padded_rows(tmp_path, encoding, stored, expected):
    message = raw_image(START, FRONT, np.ascontiguousarray(stored), encoding, padding=5)
    messages = without(drive(1), '/camera_front/image/compressed')
    sample = open_drive(tmp_path, [*messages, ('/camera_front/image_raw', START, message)])[0]
    np.testing.assert_array_equal(sample.images[0].image, expected)


def test_an_encoding_that_is_not_known_is_refused(tmp_path):
    message = raw_image(START, FRONT, PIXELS[..., :2].copy(), 'yuv422')
    messages = without(drive(1), '/camera_front/image/compressed')
    dataset = open_drive(tmp_path, [*messages, ('/camera_front/image_raw', START, message)])
    with pytest.raises(InputError, match=r'(?s)not supported yet.*yuv422'):
        dataset[0]


def test_a_broken_jpeg_and_an_image_of_another_size_are_refused(tmp_path):
    messages = without(drive(2), '/camera_front/image/compressed')
    small, broken = picture(START, pixels=PIXELS[:20]), picture(START + 100 * MS)
    broken[2].data = broken[2].data[:100]
    dataset = open_drive(tmp_path, [*messages, small, broken])
    with pytest.raises(
        InputError, match=r'(?s)do not belong together.*CameraInfo of camera_front'
    ):
        dataset[0]
    with pytest.raises(InputError, match='cannot be decoded'):
        dataset[1]


def test_rectified_images_use_their_own_matrix(tmp_path):
    messages = without(without(drive(1), '/camera_front/image/compressed'), info()[0])
    projection = np.array([90.0, 0, 30, 0, 0, 90, 20, 0, 0, 0, 1, 0])
    messages += [info(d=np.array([0.1]), p=projection), picture(START, '/camera_front/image_rect')]
    image = open_drive(tmp_path, messages)[0].images[0]
    np.testing.assert_array_equal(image.intrinsics, [[90, 0, 30], [0, 90, 20], [0, 0, 1]])


def test_a_camera_without_calibration_is_refused(tmp_path):
    messages = [
        info(k=np.zeros(9)) if message[0] == info()[0] else message for message in drive(1)
    ]
    with pytest.raises(InputError, match='not calibrated'):
        open_drive(tmp_path, messages)


def test_cameras_are_chosen_by_name_and_several_image_topics_by_topic(tmp_path):
    messages = [*drive(1), info('/car/left/camera_info'), picture(START, '/car/left/image')]
    messages.append(picture(START, '/camera_front/image_raw/compressed'))
    with pytest.raises(InputError, match='several image topics'):
        open_drive(tmp_path, messages)
    assert [i.camera for i in reopen(tmp_path, cameras=['car_left'])[0].images] == ['car_left']
    both = reopen(tmp_path, image_topics=['/camera_front/image/compressed'])[0]
    assert [image.camera for image in both.images] == ['camera_front', 'car_left']
    assert both.images[0].image_id == f'bag/camera_front/{START + 40 * MS}'
    with pytest.raises(InputError, match=r'(?s)does not have the cameras.*rear'):
        reopen(tmp_path, cameras=['rear'])
    with pytest.raises(InputError, match=r'(?s)does not have the image topics.*/typo'):
        reopen(tmp_path, image_topics=['/typo'])


def test_frames_that_are_not_connected_are_refused(tmp_path):
    with pytest.raises(InputError, match=r'(?s)coordinate frames.*lidar.*optical'):
        open_drive(tmp_path, without(drive(1), '/tf_static'))[0]


def test_a_bag_without_cameras_and_labels_gives_points_alone(tmp_path):
    dataset = open_drive(tmp_path, [sweep(START), sweep(START + 100 * MS)])
    assert dataset.label_names == ()
    assert dataset[0].labels is None
    assert dataset[0].images == ()


def test_several_lidars_have_to_be_told_apart(tmp_path):
    rear = ('/rear/points', START, cloud(START, XYZI, 'rear'))
    with pytest.raises(InputError, match=r'(?s)several.*lidar_topics'):
        open_drive(tmp_path, [*drive(1), rear])
    sample = reopen(tmp_path, lidar_topics=['/lidar/points'])[0]
    assert len(sample.points) == 3
    with pytest.raises(InputError, match=r'(?s)no such topic.*/front/points'):
        reopen(tmp_path, lidar_topics=['/front/points'])


def test_labels_of_another_sweep_are_refused(tmp_path):
    wrong = [labels(START + MS), labels(START + 100 * MS, [1])]
    messages = [*without(drive(2), '/lidar/labels'), *wrong]
    dataset = open_drive(tmp_path, messages)
    with pytest.raises(InputError, match='no labels with the same stamp'):
        dataset[0]
    with pytest.raises(InputError, match='labels and the points do not belong together'):
        dataset[1]


@pytest.mark.parametrize('text', ['road, car', '{"names": []}', '{"class_names": [1]}', '[1]'])
def test_labels_without_names_are_refused(tmp_path, text):
    named = ('/lidar/label_info', START, string(text))
    with pytest.raises(InputError, match='what its labels mean'):
        open_drive(tmp_path, [*without(drive(1), '/lidar/label_info'), named])


def test_an_empty_cloud_and_one_of_nan_are_refused_but_single_nans_are_kept(tmp_path):
    partly = POINTS.copy()
    partly[1] = np.nan
    clouds = [POINTS[:0], np.full_like(POINTS, np.nan), partly]
    dataset = open_drive(tmp_path, [sweep(START + n * MS, c) for n, c in enumerate(clouds)])
    for number in (0, 1):
        with pytest.raises(InputError, match='no point'):
            dataset[number]
    np.testing.assert_array_equal(dataset[2].points[:, :3], partly)


def test_label_maps_are_found_by_camera_and_stamp(tmp_path):
    folder = tmp_path / 'maps' / 'camera_front'
    folder.mkdir(parents=True)
    for kind, number in (('class', 3), ('confidence', 200)):
        path = folder / f'{START + 40 * MS}_{kind}.png'
        Image.fromarray(np.full((24, 32), number, np.uint8)).save(path)
    dataset = open_drive(tmp_path, drive(2), label_maps='maps')
    image = dataset[0].images[0]
    assert (image.class_map == 3).all()
    assert (image.confidence == 200).all()
    with pytest.raises(InputError, match=f'{START + 140 * MS}_class.png'):
        dataset[1]


def test_something_else_than_a_bag_is_refused(tmp_path):
    (tmp_path / 'bag').mkdir()
    with pytest.raises(InputError, match='bag'):
        reopen(tmp_path)


def test_processes_open_the_bag_for_themselves(tmp_path):
    dataset = open_drive(tmp_path, drive(8))
    before = dataset[5]
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[5].points, before.points)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, shuffle=False)
    assert [sample.stamp_ns for sample in loader] == [START + n * 100 * MS for n in range(8)]
    assert dataset[0].stamp_ns == START
    dataset.close()
    assert dataset[1].stamp_ns == START + 100 * MS
