# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""A drive written as a bag is the same drive."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from reldistill_ros.bags.bag import open_bag
from reldistill_ros.core.errors import InputError
from trainer import write_bag as write_bag_module
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings
from trainer.datasets.pandaset import PandaSet, PandaSetSettings
from trainer.datasets.rosbag import Rosbag
from trainer.datasets.rosbag_settings import RosbagSettings
from trainer.write_bag import START_NS, make_stamp, write_bag

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('RELDISTILL_DATA', REPOSITORY.parent / 'shared' / 'data'))
KITTI, SCENE = 'kitti_2011_09_26', 'pandaset/001'
real_kitti = pytest.mark.skipif(
    not (DATA / KITTI).is_dir(), reason=f'no real KITTI drive: {DATA / KITTI} is absent'
)
real_scene = pytest.mark.skipif(
    not (DATA / SCENE).is_dir(), reason=f'no real scene: {DATA / SCENE} is absent'
)


def kitti(root, path='drive', maps='drive/maps', **changes):
    values = {'format': 'kitti_raw', 'path': path, 'label_maps': maps, **changes}
    return KittiRaw(KittiRawSettings(**values), root)


def write_and_read(dataset, out, **options):
    return Rosbag(RosbagSettings(**write_bag(dataset, out, **options)), out)


def assert_same(sample, original, pixel_tolerance=0):
    assert sample.stamp_ns == make_stamp(original)
    np.testing.assert_array_equal(sample.points[:, :3], original.points[:, :3])
    np.testing.assert_allclose(sample.points[:, 3], original.points[:, 3], rtol=3e-7)
    np.testing.assert_array_equal(sample.times, original.times)
    np.testing.assert_array_equal(sample.labels, original.labels)
    assert [i.camera for i in sample.images] == [i.camera for i in original.images]
    for image, source in zip(sample.images, original.images):
        np.testing.assert_array_equal(image.intrinsics, source.intrinsics)
        np.testing.assert_allclose(image.camera_from_lidar, source.camera_from_lidar, atol=1e-6)
        difference = np.abs(image.image.astype(int) - source.image)
        assert image.image.shape == source.image.shape
        assert difference.mean() <= pixel_tolerance
        np.testing.assert_array_equal(image.class_map, source.class_map)
        np.testing.assert_array_equal(image.confidence, source.confidence)


def test_the_bag_of_a_drive_gives_the_samples_of_the_drive(tiny):
    original = kitti(tiny)
    copy = write_and_read(original, tiny / 'out')
    assert len(copy) == len(original) == 5
    assert copy.intensity_max == 1
    for index in range(5):
        assert_same(copy[index], original[index])
        np.testing.assert_array_equal(copy[index].points, original[index].points)


def test_a_drive_without_a_clock_begins_at_a_stamp_that_ros_takes_for_one(tiny):
    copy = write_and_read(kitti(tiny, sweeps=[0, 3]), tiny / 'out')
    assert [sample.stamp_ns - START_NS for sample in copy] == [0, 300_000_000]


def test_a_camera_that_never_moves_is_placed_once_and_for_late_subscribers(tiny):
    write_bag(kitti(tiny), tiny / 'out')
    with open_bag(tiny / 'out' / 'bag') as bag:
        assert len(list(bag.messages('/tf_static'))) == 1
        assert set(bag.topics) == {
            '/tf_static',
            '/lidar/points',
            '/image_02/image/compressed',
            '/image_02/camera_info',
        }
        _, transform = next(bag.messages('/tf_static'))
    edge = transform.transforms[0]
    assert (edge.header.frame_id, edge.child_frame_id) == ('lidar', 'image_02_optical')


def test_without_label_maps_none_are_written(tiny):
    copy = write_and_read(kitti(tiny, maps=None), tiny / 'out')
    assert copy[0].images[0].class_map is None
    assert [path.name for path in (tiny / 'out').iterdir()] == ['bag']


def test_a_bag_can_be_written_as_a_bag(tiny):
    first = write_and_read(kitti(tiny, sweeps=[1, 2]), tiny / 'first')
    assert_same(write_and_read(first, tiny / 'second')[1], first[1])


def run(monkeypatch, tiny, *more):
    arguments = [tiny / 'run.yaml', '--data', tiny, '--out', tiny / 'out', *more]
    monkeypatch.setattr('sys.argv', ['write_bag', *map(str, arguments)])
    write_bag_module.main()


def test_the_command_prints_the_settings_that_read_the_bag(monkeypatch, tiny, capsys):
    run(monkeypatch, tiny, '--images', 'jpeg', '--quality', '90')
    _, text = capsys.readouterr().out.split('settings:\n')
    copy = Rosbag(RosbagSettings(**yaml.safe_load(text)), tiny / 'out')
    assert_same(copy[4], kitti(tiny)[4], pixel_tolerance=3)


def test_a_drive_that_breaks_off_leaves_nothing(monkeypatch, tiny):
    (tiny / 'drive/velodyne_points/data/0000000003.bin').write_bytes(b'broken')
    with pytest.raises(InputError, match='wrong byte count'):
        run(monkeypatch, tiny)
    assert not [path for path in tiny.iterdir() if 'out' in path.name]


def test_the_command_refuses_an_existing_folder_and_an_impossible_quality(monkeypatch, tiny):
    (tiny / 'out').mkdir()
    with pytest.raises(InputError, match='exists already'):
        run(monkeypatch, tiny)
    with pytest.raises(InputError, match='no such quality'):
        run(monkeypatch, tiny, '--quality', '0')


@real_kitti
def test_real_kitti_sweeps_survive_the_bag(tmp_path):
    original = kitti(DATA, KITTI, f'{KITTI}/label_maps', sweeps=[0, 1, 23])
    copy = write_and_read(original, tmp_path / 'out')
    for index in range(3):
        assert_same(copy[index], original[index])
        np.testing.assert_array_equal(copy[index].points, original[index].points)


@real_scene
def test_a_real_scene_keeps_its_labels_and_the_motion_between_sweep_and_image(tmp_path):
    values = {'format': 'pandaset', 'path': SCENE, 'label_maps': f'{SCENE}/label_maps'}
    original = PandaSet(PandaSetSettings(**values), DATA)
    copy = write_and_read(original, tmp_path / 'out', kind='jpeg')
    assert copy.label_names == original.label_names
    assert len(copy) == len(original) == 4
    for index in range(4):
        assert_same(copy[index], original[index], pixel_tolerance=3)
    moves = [sample.images[0].camera_from_lidar[2, 3] for sample in copy]
    assert np.ptp(moves) > 1e-3
