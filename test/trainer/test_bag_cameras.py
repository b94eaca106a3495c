# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Cameras of a bag: which topics and calibrations belong together, and where they look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation
from tiny_bag import camera_info, compressed, make, raw_image, write_bag

from reldistill_ros.bags.bag import open_bag
from reldistill_ros.cameras.calibration_file import read_calibration_file
from reldistill_ros.cameras.camera_info import read_camera_info
from reldistill_ros.core.errors import InputError
from trainer.datasets.bag_cameras import decode_image, find_cameras, rectify_map

WIDTH, HEIGHT = 64, 48
PIXELS = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
LEFT, RIGHT = 'left_optical', 'right_optical'
K = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
FINE = np.array([[200.0, 0, 64], [0, 200, 48], [0, 0, 1]])
P_LEFT = np.hstack([K, np.zeros((3, 1))])
P_RIGHT = np.hstack([K, [[-12.0], [0], [0]]])  # 12 cm to the right
NO_FILES = {}


def info(frame=LEFT, **changes):
    """A CameraInfo with some fields changed, matrices of any shape."""
    values = {
        name: np.asarray(value, dtype=float).ravel() if name in 'dkrp' else value
        for name, value in changes.items()
    }
    return replace(camera_info(0, frame, WIDTH, HEIGHT), **values)


def region(x_offset, y_offset, width, height):
    return make(
        'sensor_msgs/msg/RegionOfInterest',
        x_offset=x_offset,
        y_offset=y_offset,
        width=width,
        height=height,
        do_rectify=True,
    )


def picture(frame=LEFT, pixels=PIXELS):
    return compressed(0, frame, pixels)


def cameras(tmp_path, topics, **arguments):
    """Cameras of a bag with these messages by topic."""
    path = tmp_path / f'bag{len(list(tmp_path.iterdir()))}'
    write_bag(path, [(topic, 1, message) for topic, message in topics.items()])
    values = {'names': None, 'image_topics': (), 'calibrations': NO_FILES, **arguments}
    with open_bag(path) as bag:
        return find_cameras(bag, **values)


def one_camera(tmp_path, the_info, topic='/left/image_raw/compressed'):
    return cameras(tmp_path, {'/left/camera_info': the_info, topic: picture()})[0]


def test_a_raw_topic_without_distortion_uses_k_and_a_rectified_one_p(tmp_path):
    wide = info(p=np.hstack([FINE, np.zeros((3, 1))]), d=np.zeros(5))
    raw = one_camera(tmp_path, wide)
    np.testing.assert_array_equal(raw.intrinsics, K)
    assert raw.lens is None
    rectified = one_camera(tmp_path, replace(wide, d=np.ones(5)), '/left/image_rect/compressed')
    np.testing.assert_array_equal(rectified.intrinsics, FINE)
    assert rectified.lens is None
    for camera in (raw, rectified):
        np.testing.assert_array_equal(decode_image(picture(), camera, 'x'), PIXELS)
        np.testing.assert_array_equal(camera.camera_from_frame, np.eye(4))


@pytest.mark.parametrize('topic', ['/left/direct', '/left/correct/compressed'])
def test_rect_inside_another_word_does_not_mean_rectified(tmp_path, topic):
    camera = one_camera(tmp_path, info(d=[-0.2, 0, 0, 0, 0]), topic)
    assert camera.lens is not None


@pytest.mark.parametrize(
    ('model', 'd'),
    [
        ('plumb_bob', [-0.25, 0.05, 0.001, 0, 0]),
        ('rational_polynomial', [0.4, 0, 0, 0, 0, 0.7, 0, 0]),
        ('equidistant', [-0.05, 0.01, 0, 0]),
    ],
)
def test_distorted_images_and_their_class_maps_are_rectified_alike(tmp_path, model, d):
    camera = one_camera(tmp_path, info(distortion_model=model, d=d))
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[20:, 30:] = 9
    image = decode_image(picture(pixels=np.repeat(classes[..., None], 3, axis=2)), camera, 'x')
    moved = rectify_map(classes, camera)
    assert image.shape == (*moved.shape, 3)
    assert (image[..., 0] != classes[: len(image), : image.shape[1]]).any()
    certain = (image[..., 0] == 0) | (image[..., 0] == 9)
    np.testing.assert_array_equal(moved[certain], image[..., 0][certain])
    assert certain.mean() > 0.9


def test_an_empty_model_without_coefficients_is_a_pinhole(tmp_path):
    assert one_camera(tmp_path, info(distortion_model='', d=[])).lens is None
    assert one_camera(tmp_path, info(distortion_model='none', d=np.zeros(12))).lens is None


@pytest.mark.parametrize('d', [[], [0, 0, 0, 0]])
def test_a_fisheye_without_coefficients_is_a_fisheye(tmp_path, d):
    camera = one_camera(tmp_path, info(distortion_model='equidistant', d=d))
    assert camera.lens.model == 'equidistant'


def test_an_unknown_distortion_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"(?s)distortion.*camera_info.*equidistant.*'ftheta'"):
        one_camera(tmp_path, info(distortion_model='ftheta', d=[0.1] * 6))


def test_the_second_camera_of_a_pair_in_one_frame_is_moved_by_p(tmp_path):
    topics = {
        '/left/camera_info': info(p=P_LEFT),
        '/right/camera_info': info(p=P_RIGHT),
        '/left/image_rect': picture(),
        '/right/image_rect': picture(),
    }
    left, right = cameras(tmp_path, topics)
    np.testing.assert_array_equal(left.camera_from_frame, np.eye(4))
    np.testing.assert_allclose(right.camera_from_frame[:3, 3], [-0.12, 0, 0])
    point = np.array([0.4, -0.3, 5, 1])
    expected = P_RIGHT @ point
    found = right.intrinsics @ (right.camera_from_frame @ point)[:3]
    np.testing.assert_allclose(found / found[2], expected / expected[2])


def test_a_second_camera_with_a_frame_of_its_own_is_where_tf_says(tmp_path, caplog):
    topics = {
        '/left/camera_info': info(p=P_LEFT),
        '/right/camera_info': info(RIGHT, p=P_RIGHT),
        '/left/image_rect': picture(),
        '/right/image_rect': picture(RIGHT),
    }
    _, right = cameras(tmp_path, topics)
    np.testing.assert_array_equal(right.camera_from_frame, np.eye(4))
    assert '-0.12' in caplog.text
    assert 'right_optical' in caplog.text


def test_a_second_camera_that_was_recorded_alone_is_moved_by_p(tmp_path):
    camera = one_camera(tmp_path, info(p=P_RIGHT), '/left/image_rect')
    np.testing.assert_allclose(camera.camera_from_frame[:3, 3], [-0.12, 0, 0])


@pytest.mark.parametrize('topic', ['/left/image_rect', '/left/image_raw'])
def test_r_turns_what_we_rectify_and_not_the_frame(tmp_path, topic):
    # as in image_geometry, whose project3dToPixel multiplies points of the frame by P alone
    turn = Rotation.from_euler('y', 2, degrees=True).as_matrix()
    camera = one_camera(tmp_path, info(r=turn), topic)
    np.testing.assert_array_equal(camera.camera_from_frame, np.eye(4))
    assert (camera.lens is None) == topic.endswith('rect')
    if camera.lens is not None:
        np.testing.assert_allclose(np.reshape(camera.lens.rotation, (3, 3)), turn)
    assert one_camera(tmp_path, info(r=np.zeros(9)), topic).lens is None


def test_a_part_of_the_sensor_has_its_own_matrix(tmp_path):
    part = info(roi=region(8, 4, 32, 40), binning_x=2, binning_y=4)
    calibration = read_camera_info(part, 'x')
    assert calibration.size == (10, 16)
    # the edges of the part, half a pixel from the centres of its outermost pixels
    corner = np.linalg.inv(calibration.matrix) @ [-0.5, -0.5, 1]
    np.testing.assert_allclose(corner, np.linalg.inv(K) @ [7.5, 3.5, 1])
    corner = np.linalg.inv(calibration.matrix) @ [15.5, 9.5, 1]
    np.testing.assert_allclose(corner, np.linalg.inv(K) @ [39.5, 43.5, 1])
    np.testing.assert_allclose(calibration.projection[:, :3], calibration.matrix)
    with pytest.raises(InputError, match='region of interest'):
        read_camera_info(info(roi=region(40, 0, 32, 48)), 'x')


@pytest.mark.parametrize('factor', [0.5, 2])
def test_images_of_exactly_half_or_double_the_size_are_refused(tmp_path, factor):
    camera = one_camera(tmp_path, info())
    size = (int(HEIGHT * factor), int(WIDTH * factor), 3)
    with pytest.raises(InputError, match=r'(?s)do not belong together.*CameraInfo of left'):
        decode_image(picture(pixels=np.zeros(size, np.uint8)), camera, 'x')


@pytest.mark.parametrize(
    'changes', [{'k': np.zeros(9)}, {'width': 0}, {'p': np.zeros(12)}, {'k': np.full(9, np.nan)}]
)
def test_a_camera_that_was_never_calibrated_is_refused(tmp_path, changes):
    with pytest.raises(InputError, match=r'(?s)calibrat.*bag.*camera_info'):
        one_camera(tmp_path, info(**changes), '/left/image_rect')


def test_images_without_camera_info_are_refused_alone_and_left_out_beside_others(tmp_path, caplog):
    with pytest.raises(InputError, match=r'(?s)no CameraInfo.*rear.*calibrations: \{rear'):
        cameras(tmp_path, {'/rear/image_raw': picture()})
    topics = {
        '/left/camera_info': info(),
        '/left/image_raw': picture(),
        '/rear/image_raw': picture(),
    }
    assert [camera.name for camera in cameras(tmp_path, topics)] == ['left']
    assert 'no CameraInfo' in caplog.text
    assert '/rear/image_raw' in caplog.text
    with pytest.raises(InputError, match='no CameraInfo'):
        cameras(tmp_path, topics, names=('left', 'rear'))
    assert cameras(tmp_path, topics, names=()) == ()


def test_a_camera_info_topic_without_messages_is_named(tmp_path):
    topics = {'/left/camera_info': info(), '/left/image_raw': picture()}
    write_bag(tmp_path / 'bag', [(topic, 1, message) for topic, message in topics.items()])
    with open_bag(tmp_path / 'bag') as bag:
        bag.messages = lambda topic: iter(())
        with pytest.raises(InputError, match=r'(?s)no message.*/left/camera_info'):
            find_cameras(bag, None, ())


def ost_yaml(path, **changes):
    values = {
        'image_width': WIDTH,
        'image_height': HEIGHT,
        'camera_name': 'narrow_stereo',
        'camera_matrix': {'rows': 3, 'cols': 3, 'data': FINE.ravel().tolist()},
        'distortion_model': 'plumb_bob',
        'distortion_coefficients': {'rows': 1, 'cols': 5, 'data': [0.0] * 5},
        'rectification_matrix': {'rows': 3, 'cols': 3, 'data': np.eye(3).ravel().tolist()},
        'projection_matrix': {'rows': 3, 'cols': 4, 'data': P_LEFT.ravel().tolist()},
        **changes,
    }
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value}))
    return path


def test_a_calibration_file_stands_in_for_a_camera_info_and_corrects_one(tmp_path):
    path = ost_yaml(tmp_path / 'ost.yaml')
    topics = {'/rear/image_raw': picture(RIGHT)}
    camera = cameras(tmp_path, topics, calibrations={'rear': path})[0]
    assert (camera.name, camera.frame, camera.image_size) == ('rear', RIGHT, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(camera.intrinsics, FINE)
    topics |= {'/rear/camera_info': info()}
    camera = cameras(tmp_path, topics, calibrations={'rear': path})[0]
    np.testing.assert_array_equal(camera.intrinsics, FINE)
    with pytest.raises(InputError, match=r'(?s)does not have the cameras.*front'):
        cameras(tmp_path, topics, calibrations={'front': path})


def test_a_broken_calibration_file_is_refused(tmp_path):
    with pytest.raises(InputError, match='cannot be read'):
        read_calibration_file(tmp_path / 'missing.yaml')
    short = {'rows': 3, 'cols': 3, 'data': [1.0] * 8}
    with pytest.raises(InputError, match='malformed'):
        read_calibration_file(ost_yaml(tmp_path / 'short.yaml', camera_matrix=short))
    with pytest.raises(InputError, match='settings are not valid'):
        read_calibration_file(ost_yaml(tmp_path / 'none.yaml', camera_matrix=None))
    bare = ost_yaml(tmp_path / 'bare.yaml', projection_matrix=None, rectification_matrix=None)
    assert not read_calibration_file(bare).is_turned


def test_depth_images_are_no_cameras_and_of_two_camera_infos_the_plain_one_counts(tmp_path):
    depth = raw_image(0, LEFT, np.zeros((HEIGHT, WIDTH, 2), np.uint8), '16UC1')
    topics = {
        '/left/camera_info': info(),
        '/left/camera_info_rect': info(k=FINE),
        '/left/image_raw': picture(),
        '/left/depth': depth,
        '/depth/image_rect_raw': depth,
        '/depth/camera_info': info(),
    }
    (camera,) = cameras(tmp_path, topics)
    assert camera.topic == '/left/image_raw'
    np.testing.assert_array_equal(camera.intrinsics, K)
