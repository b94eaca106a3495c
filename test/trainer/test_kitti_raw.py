# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Drives in the layout of KITTI raw."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from reldistill_ros.core.errors import InputError
from trainer.datasets.kitti_raw import KittiRaw, KittiRawSettings
from trainer.pairing import PairingSettings, pair_points

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('RELDISTILL_DATA', REPOSITORY.parent / 'shared' / 'data'))
DRIVE = 'kitti_2011_09_26'
real_drive = pytest.mark.skipif(
    not (DATA / DRIVE).is_dir(), reason=f'no real KITTI drive: {DATA / DRIVE} is absent'
)
POINTS = np.array([[5, 0, 0, 0.5], [10, 1, 0.5, 0.25]], dtype='<f4')
LIDAR_CALIBRATION = 'calib_time: 15-Mar-2012\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.25\n'
CAMERA_CALIBRATION = (
    'R_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 100 0 32 50 0 100 24 0 0 0 1 0.125\n'
)


def settings(**changes):
    return KittiRawSettings(**{'format': 'kitti_raw', 'path': 'drive', **changes})


@pytest.fixture
def drive(tmp_path):
    folder = tmp_path / 'drive'
    (folder / 'velodyne_points' / 'data').mkdir(parents=True)
    (folder / 'image_02' / 'data').mkdir(parents=True)
    (folder / 'calib_velo_to_cam.txt').write_text(LIDAR_CALIBRATION)
    (folder / 'calib_cam_to_cam.txt').write_text(CAMERA_CALIBRATION)
    for number in (0, 1, 7):
        (folder / 'velodyne_points' / 'data' / f'{number:010}.bin').write_bytes(POINTS.tobytes())
        image = Image.fromarray(np.full((48, 64, 3), number, np.uint8))
        image.save(folder / 'image_02' / 'data' / f'{number:010}.png')
    return folder


def test_a_sweep_holds_the_points_and_its_image(drive):
    dataset = KittiRaw(settings(), drive.parent)
    sample = dataset[2]
    assert len(dataset) == 3
    assert (sample.sample_id, sample.stamp_ns) == ('drive/0000000007', 700_000_000)
    assert sample.points.dtype == np.float32
    np.testing.assert_array_equal(sample.points, POINTS)
    np.testing.assert_array_equal(sample.times, [0, 0])
    assert sample.labels is None
    assert (sample.images[0].image == 7).all()


def test_pixels_are_those_of_the_projection_formula(drive):
    sample = KittiRaw(settings(), drive.parent)[0]
    pairs = pair_points(sample.points, sample.images[0], PairingSettings())
    projection = np.array([[100, 0, 32, 50], [0, 100, 24, 0], [0, 0, 1, 0.125]])
    lidar_to_camera = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.25], [0, 0, 0, 1]])
    homogeneous = np.column_stack([POINTS[:, :3], [1, 1]]) @ (projection @ lidar_to_camera).T
    np.testing.assert_array_equal(pairs.point_indices, [0, 1])
    np.testing.assert_allclose(pairs.pixels, homogeneous[:, :2] / homogeneous[:, 2:], rtol=1e-6)
    np.testing.assert_allclose(pairs.depths, homogeneous[:, 2], rtol=1e-6)


def test_calibration_may_lie_in_the_folder_above_the_drive(drive):
    for name in ('calib_velo_to_cam.txt', 'calib_cam_to_cam.txt'):
        shutil.move(drive / name, drive.parent / name)
    assert len(KittiRaw(settings(), drive.parent)) == 3


def test_sweeps_are_chosen_by_range_or_by_number(drive):
    by_range = KittiRaw(settings(sweeps={'start': 1, 'step': 1}), drive.parent)
    by_number = KittiRaw(settings(sweeps=[2, 0]), drive.parent)
    assert [sample.sample_id[-1] for sample in by_range] == ['1', '7']
    assert [sample.sample_id[-1] for sample in by_number] == ['7', '0']


def test_a_wrong_byte_count_names_the_file(drive):
    path = drive / 'velodyne_points' / 'data' / '0000000000.bin'
    path.write_bytes(POINTS.tobytes()[:-3])
    with pytest.raises(InputError, match=r'(?s)wrong byte count.*0000000000\.bin.*29 bytes'):
        KittiRaw(settings(), drive.parent)[0]


@pytest.mark.parametrize(
    ('points', 'message'),
    [
        (POINTS[:0], 'no points'),
        (np.full((2, 4), np.nan, '<f4'), 'finite'),
        (np.array([[1, 2, 3, np.inf], [1, 2, 3, 0]], '<f4'), 'not finite'),
    ],
)
def test_an_empty_or_broken_cloud_is_refused(drive, points, message):
    (drive / 'velodyne_points' / 'data' / '0000000000.bin').write_bytes(points.tobytes())
    with pytest.raises(InputError, match=message):
        KittiRaw(settings(), drive.parent)[0]


def test_a_missing_image_is_named(drive):
    (drive / 'image_02' / 'data' / '0000000001.png').unlink()
    with pytest.raises(InputError, match=r'(?s)does not exist.*image_02/data/0000000001\.png'):
        KittiRaw(settings(), drive.parent)[1]


@pytest.mark.parametrize(
    ('name', 'old', 'new'),
    [
        ('calib_velo_to_cam.txt', 'T:', 'X:'),
        ('calib_velo_to_cam.txt', '-0.25', ''),
        ('calib_velo_to_cam.txt', '-0.25', 'nan'),
        ('calib_cam_to_cam.txt', 'P_rect_02', 'P_rect_03'),
        ('calib_cam_to_cam.txt', 'R_rect_00: 1', 'R_rect_00: one'),
    ],
)
def test_incomplete_calibration_is_refused_when_the_drive_is_opened(drive, name, old, new):
    path = drive / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf'(?s)incomplete.*{name}'):
        KittiRaw(settings(), drive.parent)


def test_missing_calibration_is_named(drive):
    (drive / 'calib_cam_to_cam.txt').unlink()
    with pytest.raises(InputError, match=r'(?s)does not exist.*calib_cam_to_cam\.txt'):
        KittiRaw(settings(), drive.parent)


def test_a_sweep_that_the_drive_does_not_have_is_refused(drive):
    with pytest.raises(InputError, match='0 to 2'):
        KittiRaw(settings(sweeps=[3]), drive.parent)
    with pytest.raises(InputError, match='at least one sweep'):
        KittiRaw(settings(path='elsewhere'), with_calibration(drive, 'elsewhere'))


def with_calibration(drive, name):
    (drive.parent / name).mkdir()
    for path in drive.glob('calib*'):
        shutil.copy(path, drive.parent / name)
    return drive.parent


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError):
        settings(camera='image_02')
    with pytest.raises(ValidationError):
        settings(cameras=['image_04'])
    with pytest.raises(ValidationError):
        settings(sweeps=[-1])


def test_a_drive_can_be_sent_to_another_process(drive):
    dataset = pickle.loads(pickle.dumps(KittiRaw(settings(), drive.parent)))
    np.testing.assert_array_equal(dataset[0].points, POINTS)


@real_drive
def test_the_real_drive_is_read_with_its_label_maps():
    real = settings(path=DRIVE, label_maps=f'{DRIVE}/label_maps', sweeps=[0, 23])
    for sample in KittiRaw(real, DATA):
        image = sample.images[0]
        assert 70_000 < len(sample.points) < 130_000
        assert 0 <= sample.points[:, 3].min() < sample.points[:, 3].max() <= 1
        assert image.image.shape == (375, 1242, 3)
        assert image.class_map.shape == image.confidence.shape == (384, 1216)
        assert image.class_map.max() <= 18
        np.testing.assert_allclose(image.camera_from_lidar[2, :3], [1, 0, 0], atol=0.02)


@real_drive
def test_the_road_before_the_real_car_is_paired_with_road_pixels():
    real = settings(path=DRIVE, label_maps=f'{DRIVE}/label_maps', sweeps={'step': 8})
    road = []
    for sample in KittiRaw(real, DATA):
        image = sample.images[0]
        pairs = pair_points(sample.points, image, PairingSettings())
        x, y, z = sample.points[pairs.point_indices, :3].T
        lane = (x > 6) & (x < 12) & (np.abs(y) < 1) & (np.abs(z + 1.73) < 0.2)
        scale = np.array(image.class_map.shape[::-1]) / image.image.shape[1::-1]
        columns, rows = ((pairs.pixels[lane] + 0.5) * scale).astype(int).T
        road.extend(image.class_map[rows, columns] == 0)
    assert len(road) > 100
    assert np.mean(road) > 0.95
