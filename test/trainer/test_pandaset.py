# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Scenes in the layout of PandaSet."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from old_pandas import write_table
from PIL import Image
from scipy.spatial.transform import Rotation

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import load_settings
from reldistill_ros.core.vocabulary import IGNORE_INDEX, Vocabulary
from trainer.datasets.pandaset import PandaSet, PandaSetSettings
from trainer.pairing import PairingSettings, pair_points

REPOSITORY = Path(__file__).resolve().parents[2]
VOCABULARIES = REPOSITORY / 'config' / 'vocabularies'
DATA = Path(os.environ.get('RELDISTILL_DATA', REPOSITORY.parent / 'shared' / 'data'))
real_scenes = pytest.mark.skipif(
    not (DATA / 'pandaset').is_dir(), reason=f'no real scenes: {DATA / "pandaset"} is absent'
)
STAMP = 1_557_539_924.5
HEADING = Rotation.from_euler('z', 30, degrees=True)  # of the car; it drives along its y axis
POSITION = np.array([100.0, -50.0, 3.0])
# Two points of the Pandar64 and one of the PandarGT: forward, left, up of the Pandar64
IN_LIDAR = np.array([[10.0, 2.0, -1.5], [20.0, -3.0, 1.0], [15.0, 0.0, 0.0]])


def settings(**changes):
    return PandaSetSettings(**{'format': 'pandaset', 'path': '001', **changes})


def pose(rotation, position):
    x, y, z, w = rotation.as_quat()
    return {
        'position': dict(zip('xyz', map(float, position))),
        'heading': {'w': float(w), 'x': float(x), 'y': float(y), 'z': float(z)},
    }


@pytest.fixture
def scene(tmp_path):
    folder = tmp_path / '001'
    for part in ('lidar', 'camera/front_camera', 'annotations/semseg'):
        (folder / part).mkdir(parents=True)
    in_base = IN_LIDAR @ [[0, 1, 0], [-1, 0, 0], [0, 0, 1]] + [0, 0.81, 1.85]
    x, y, z = (HEADING.apply(in_base) + POSITION).T.tolist()
    numbers = {'x': x, 'y': y, 'z': z, 'i': [0.0, 51.0, 255.0], 't': [STAMP - 0.1, STAMP, STAMP]}
    write_table(folder / 'lidar' / '00.pkl.gz', numbers, {'d': [0, 0, 1]})
    write_table(folder / 'annotations' / 'semseg' / '00.pkl.gz', {'class': [13, 7, 0]})
    classes = {'13': 'Car', '7': 'Road', '5': 'Vegetation'}
    (folder / 'annotations' / 'semseg' / 'classes.json').write_text(json.dumps(classes))
    (folder / 'lidar' / 'timestamps.json').write_text(json.dumps([STAMP, STAMP + 0.1]))
    (folder / 'lidar' / 'poses.json').write_text(json.dumps([pose(HEADING, POSITION)] * 2))
    # a camera at the Pandar64 that looks forward: its x, y, z are right, down, forward
    to_camera = Rotation.from_matrix([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    camera_pose = pose(HEADING * to_camera, HEADING.apply([0, 0.81, 1.85]) + POSITION)
    camera = folder / 'camera' / 'front_camera'
    (camera / 'poses.json').write_text(json.dumps([camera_pose] * 2))
    (camera / 'timestamps.json').write_text(json.dumps([STAMP - 0.05, STAMP + 0.05]))
    intrinsics = {'fx': 100.0, 'fy': 110.0, 'cx': 64.0, 'cy': 48.0}
    (camera / 'intrinsics.json').write_text(json.dumps(intrinsics))
    Image.fromarray(np.full((96, 128, 3), 9, np.uint8)).save(camera / '00.jpg')
    return folder


def test_points_are_moved_to_the_frame_of_the_lidar(scene):
    sample = PandaSet(settings(sensor='both'), scene.parent)[0]
    assert sample.points.dtype == sample.times.dtype == np.float32
    np.testing.assert_allclose(sample.points[:, :3], IN_LIDAR, atol=1e-5)
    np.testing.assert_allclose(sample.points[:, 3], [0, 0.2, 1])
    np.testing.assert_allclose(sample.times, [-0.1, 0, 0], atol=1e-6)
    assert (sample.sample_id, sample.stamp_ns) == ('001/00', 1_557_539_924_500_000_000)


@pytest.mark.parametrize(('sensor', 'rows'), [('pandar64', [0, 1]), ('pandargt', [2])])
def test_a_sensor_gives_its_own_points_with_their_labels(scene, sensor, rows):
    sample = PandaSet(settings(sensor=sensor), scene.parent)[0]
    np.testing.assert_allclose(sample.points[:, :3], IN_LIDAR[rows], atol=1e-5)
    np.testing.assert_array_equal(sample.labels, np.array([2, 1, IGNORE_INDEX])[rows])
    assert len(sample.times) == len(rows)


def test_labels_are_positions_in_the_names_and_unnamed_numbers_are_ignored(scene):
    dataset = PandaSet(settings(sensor='both'), scene.parent)
    assert dataset.label_names == ('Vegetation', 'Road', 'Car')
    np.testing.assert_array_equal(dataset[0].labels, [2, 1, IGNORE_INDEX])
    assert dataset[0].labels.dtype == np.uint8


def test_the_camera_sees_the_points_where_it_looks(scene):
    sample = PandaSet(settings(), scene.parent)[0]
    pairs = pair_points(sample.points, sample.images[0], PairingSettings())
    np.testing.assert_allclose(pairs.depths, [10, 20], rtol=1e-5)
    expected = [[64 - 100 * 0.2, 48 + 110 * 0.15], [64 + 100 * 0.15, 48 - 110 * 0.05]]
    np.testing.assert_allclose(pairs.pixels, expected, rtol=1e-5)


def test_a_scene_without_annotations_has_no_labels(scene):
    (scene / 'annotations').rename(scene / 'elsewhere')
    dataset = PandaSet(settings(), scene.parent)
    assert dataset.label_names == ()
    assert dataset[0].labels is None


def test_labels_of_another_sweep_are_refused(scene):
    write_table(scene / 'annotations' / 'semseg' / '00.pkl.gz', {'class': [13, 7]})
    with pytest.raises(InputError, match=r'(?s)do not belong together.*semseg/00\.pkl\.gz'):
        PandaSet(settings(), scene.parent)[0]


def test_every_camera_of_the_scene_can_be_read(scene):
    front = scene / 'camera' / 'front_camera'
    backwards = Rotation.from_matrix([[-1, 0, 0], [0, 0, -1], [0, -1, 0]])
    back = pose(HEADING * backwards, HEADING.apply([0, 0.81, 1.85]) + POSITION)
    shutil.copytree(front, scene / 'camera' / 'back_camera')
    (scene / 'camera' / 'back_camera' / 'poses.json').write_text(json.dumps([back] * 2))
    names = ['front_camera', 'back_camera']
    sample = PandaSet(settings(cameras=names), scene.parent)[0]
    assert [image.camera for image in sample.images] == names
    np.testing.assert_allclose(sample.images[0].camera_from_lidar[2, :3], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(sample.images[1].camera_from_lidar[2, :3], [-1, 0, 0], atol=1e-9)
    assert len(pair_points(sample.points, sample.images[1], PairingSettings())) == 0


def test_a_camera_that_the_scene_does_not_have_is_named(scene):
    message = r"(?s)does not have the camera.*left_camera.*\['front_camera'\]"
    with pytest.raises(InputError, match=message):
        PandaSet(settings(cameras=['left_camera']), scene.parent)


def test_an_image_that_is_missing_is_named(scene):
    (scene / 'camera' / 'front_camera' / '00.jpg').unlink()
    with pytest.raises(InputError, match=r'(?s)lacks sweeps.*front_camera.*nothing for 0\n'):
        PandaSet(settings(), scene.parent)[0]


def test_an_image_that_was_resized_is_refused(scene):
    path = scene / 'camera' / 'front_camera' / '00.jpg'
    for size in ((64, 48), (256, 192)):
        Image.new('RGB', size).save(path)
        with pytest.raises(InputError, match=r'(?s)do not belong together.*00\.jpg.*64\.0, 48\.0'):
            PandaSet(settings(), scene.parent)[0]


def test_an_image_of_another_time_than_its_sweep_is_refused(scene):
    stamps = scene / 'camera' / 'front_camera' / 'timestamps.json'
    for stamp in (STAMP - 0.15, STAMP + 0.15):
        stamps.write_text(json.dumps([stamp, STAMP]))
        with pytest.raises(InputError, match=r'(?s)00\.jpg and .*00\.pkl\.gz.*0\.150 s'):
            PandaSet(settings(), scene.parent)


def test_a_sweep_of_which_the_sensor_has_no_point_is_refused(scene):
    columns = {name: [1.0] for name in 'xyzit'}
    write_table(scene / 'lidar' / '00.pkl.gz', columns, {'d': [1]})
    with pytest.raises(InputError, match='no points'):
        PandaSet(settings(), scene.parent)[0]


def test_points_that_are_not_finite_are_refused(scene):
    columns = {name: [1.0, np.nan] for name in 'xyzit'}
    write_table(scene / 'lidar' / '00.pkl.gz', columns, {'d': [0, 0]})
    with pytest.raises(InputError, match='not finite'):
        PandaSet(settings(), scene.parent)[0]


def test_a_table_without_the_columns_is_refused(scene):
    write_table(scene / 'lidar' / '00.pkl.gz', {'x': [1.0]})
    with pytest.raises(InputError, match='lacks columns'):
        PandaSet(settings(), scene.parent)[0]


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('lidar/poses.json', None, 'does not exist'),
        ('lidar/poses.json', '[{"position": {}}]', 'poses are malformed'),
        ('lidar/poses.json', '{}', 'holds no list'),
        ('lidar/timestamps.json', '[1', 'not JSON'),
        ('lidar/timestamps.json', '["noon"]', 'timestamps are malformed'),
        ('camera/front_camera/timestamps.json', None, 'does not exist'),
        ('camera/front_camera/intrinsics.json', '{"fx": 1}', 'intrinsics are malformed'),
        ('annotations/semseg/classes.json', '{"a": "Car"}', 'classes are malformed'),
    ],
)
def test_malformed_files_are_refused_when_the_scene_is_opened(scene, name, content, message):
    (scene / name).unlink()
    if content is not None:
        (scene / name).write_text(content)
    with pytest.raises(InputError, match=rf'(?s){message}.*{name}'):
        PandaSet(settings(), scene.parent)


def test_a_sweep_without_a_pose_is_refused(scene):
    (scene / 'lidar' / '00.pkl.gz').rename(scene / 'lidar' / '02.pkl.gz')
    image = scene / 'camera' / 'front_camera' / '00.jpg'
    image.rename(image.with_name('02.jpg'))
    with pytest.raises(InputError, match='no pose'):
        PandaSet(settings(), scene.parent)[0]


@pytest.fixture(scope='module')
def real_samples():
    datasets = [
        PandaSet(settings(path=f'pandaset/{name}', label_maps=f'pandaset/{name}/label_maps'), DATA)
        for name in ('001', '002')
    ]
    return datasets[0].label_names, [dataset[number] for dataset in datasets for number in (0, 3)]


@real_scenes
def test_the_real_front_camera_looks_along_x_from_the_place_of_the_lidar(real_samples):
    for sample in real_samples[1]:
        camera_from_lidar = sample.images[0].camera_from_lidar
        np.testing.assert_allclose(camera_from_lidar[2, :3], [1, 0, 0], atol=0.02)
        np.testing.assert_allclose(camera_from_lidar[1, :3], [0, 0, -1], atol=0.02)
        # 4 cm above the camera; the car moves up to 0.5 m between image and sweep
        np.testing.assert_allclose(camera_from_lidar[:2, 3], [0, -0.04], atol=0.03)


@real_scenes
def test_the_real_road_lies_about_two_metres_below_the_lidar(real_samples):
    label_names, samples = real_samples
    for sample in samples:
        near = np.hypot(*sample.points[:, :2].T) < 10
        road = sample.points[near & (sample.labels == label_names.index('Road'))]
        assert len(road) > 1000
        assert -2.3 < np.median(road[:, 2]) < -1.9
        assert -0.11 < sample.times.min() < sample.times.max() < 0.01


def agreement(real_samples, pairing):
    """Share of pairs whose true label is the class that the 2D network saw."""
    label_names, samples = real_samples
    coarse = load_settings(VOCABULARIES / 'coarse_driving.yaml', Vocabulary)
    network = load_settings(VOCABULARIES / 'cityscapes_coco_stuff.yaml', Vocabulary)
    words = dict(zip(coarse.prompts, coarse.prompt_classes))
    seen_table = np.array([words.get(prompt, IGNORE_INDEX) for prompt in network.prompts])
    label_table = coarse.label_table('pandaset', label_names)
    agree = []
    for sample in samples:
        image = sample.images[0]
        pairs = pair_points(sample.points, image, pairing)
        scale = np.array(image.class_map.shape[::-1]) / image.image.shape[1::-1]
        columns, rows = ((pairs.pixels + 0.5) * scale).astype(int).T
        labels = label_table[sample.labels[pairs.point_indices]]
        seen = seen_table[image.class_map[rows, columns]]
        known = (labels != IGNORE_INDEX) & (seen != IGNORE_INDEX)
        agree.append((labels == seen)[known])
    return np.concatenate(agree)


@real_scenes
def test_true_labels_agree_with_the_network_more_often_where_points_are_not_hidden(real_samples):
    everything = agreement(real_samples, PairingSettings(occlusion_window_deg=None))
    visible = agreement(real_samples, PairingSettings())
    assert visible.mean() > 0.91
    assert visible.mean() > everything.mean() + 0.01
    assert len(visible) > 0.9 * len(everything)
    hidden_mean = (everything.sum() - visible.sum()) / (len(everything) - len(visible))
    assert hidden_mean < 0.8


@real_scenes
def test_a_real_scene_can_be_sent_to_another_process():
    dataset = PandaSet(settings(path='pandaset/001'), DATA)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[1].points, dataset[1].points)
