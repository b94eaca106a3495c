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
    'S_rect_02: 6.4e1 4.8e1\nR_rect_00: 1 0 0 0 1 0 0 0 1\n'
    'P_rect_02: 100 0 32 50 0 100 24 0 0 0 1 0.125\n'
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
    for number in (5, 6, 7):
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


def test_all_four_cameras_are_read_each_with_its_own_projection(drive):
    lines = 'R_rect_00: 1 0 0 0 1 0 0 0 1\n'
    for number in range(4):
        lines += f'S_rect_0{number}: 64 48\n'
        lines += f'P_rect_0{number}: 100 0 32 {-40 * number} 0 100 24 0 0 0 1 0\n'
        folder = drive / f'image_0{number}' / 'data'
        folder.mkdir(parents=True, exist_ok=True)
        for sweep in (5, 6, 7):
            pixels = np.full((48, 64, 3) if number > 1 else (48, 64), 50 * number, np.uint8)
            Image.fromarray(pixels).save(folder / f'{sweep:010}.png')
    (drive / 'calib_cam_to_cam.txt').write_text(lines)
    names = [f'image_0{number}' for number in range(4)]
    sample = KittiRaw(settings(cameras=names), drive.parent)[0]
    assert [image.camera for image in sample.images] == names
    for number, image in enumerate(sample.images):
        assert image.image.shape == (48, 64, 3)  # two of them are grey
        assert (image.image == 50 * number).all()
        pairs = pair_points(sample.points, image, PairingSettings())
        np.testing.assert_allclose(pairs.pixels[0], [32 - 40 * number / 4.75, 24], rtol=1e-5)


def test_the_times_of_the_sweeps_are_those_of_the_file(drive):
    lines = [f'2011-09-26 13:02:{second:02}.951199337' for second in range(24, 32)]
    lines[6] = ''  # of a sweep that was never recorded
    (drive / 'velodyne_points' / 'timestamps.txt').write_text('\n'.join(lines) + '\n')
    with pytest.raises(InputError, match=r'(?s)no time.*timestamps\.txt, line 7'):
        KittiRaw(settings(), drive.parent)
    dataset = KittiRaw(settings(sweeps={'without': [6]}), drive.parent)
    assert [sample.stamp_ns for sample in dataset] == [
        1_317_042_149_951_199_337,
        1_317_042_151_951_199_337,
    ]


@pytest.mark.parametrize('line', ['noon', 'NaT', '2011-09-26 13:02:61.0', '2011-13-26 13:02:21.0'])
def test_a_line_that_is_no_time_and_a_missing_line_are_refused(drive, line):
    path = drive / 'velodyne_points' / 'timestamps.txt'
    path.write_text('2011-09-26 13:02:25.9\n' * 6 + line + '\n' + '2011-09-26 13:02:26.1\n')
    with pytest.raises(InputError, match=r'(?s)no time.*line 7'):
        KittiRaw(settings(), drive.parent)
    path.write_text('2011-09-26 13:02:25.9\n' * 7)
    with pytest.raises(InputError, match=r'(?s)no time.*line 8'):
        KittiRaw(settings(), drive.parent)


def test_calibration_may_lie_in_the_folder_above_the_drive(drive):
    for name in ('calib_velo_to_cam.txt', 'calib_cam_to_cam.txt'):
        shutil.move(drive / name, drive.parent / name)
    assert len(KittiRaw(settings(), drive.parent)) == 3


@pytest.mark.parametrize(
    ('sweeps', 'numbers'),
    [
        ({}, [5, 6, 7]),
        ({'start': 6}, [6, 7]),
        ({'stop': 7}, [5, 6]),
        ({'step': 2}, [5, 7]),
        ({'without': [6, 9]}, [5, 7]),
        ([7, 5], [7, 5]),
    ],
)
def test_sweeps_are_chosen_by_the_numbers_of_their_files(drive, sweeps, numbers):
    samples = list(KittiRaw(settings(sweeps=sweeps), drive.parent))
    assert [int(sample.sample_id[-1]) for sample in samples] == numbers
    assert [sample.images[0].image.max() for sample in samples] == numbers
    assert [sample.stamp_ns for sample in samples] == [n * 100_000_000 for n in numbers]


@pytest.mark.parametrize('number', [5, 6, 7])
@pytest.mark.parametrize(('kind', 'ending'), [('velodyne_points', 'bin'), ('image_02', 'png')])
def test_a_number_without_sweep_or_image_is_an_error_unless_it_is_left_out(
    drive, kind, ending, number
):
    (drive / kind / 'data' / f'{number:010}.{ending}').unlink()
    with pytest.raises(InputError, match=rf'(?s){kind}.*5 to 7.*nothing for {number}\n'):
        KittiRaw(settings(), drive.parent)
    rest = [
        sample.images[0].image.max()
        for sample in KittiRaw(settings(sweeps={'without': [number]}), drive.parent)
    ]
    assert rest == [n for n in (5, 6, 7) if n != number]


def test_a_file_that_is_not_named_after_a_sweep_is_refused(drive):
    for name in ('0000000005 copy.bin', '05.bin'):
        path = drive / 'velodyne_points' / 'data' / name
        path.write_bytes(POINTS.tobytes())
        with pytest.raises(InputError, match='not named after its sweep'):
            KittiRaw(settings(), drive.parent)
        path.unlink()


def test_an_image_of_another_size_than_its_calibration_is_refused(drive):
    path = drive / 'image_02' / 'data' / '0000000006.png'
    Image.open(path).resize((32, 24)).save(path)
    with pytest.raises(InputError, match=r'(?s)do not belong together.*06\.png.*48, 64.*24, 32'):
        KittiRaw(settings(), drive.parent)[1]


def test_a_wrong_byte_count_names_the_file(drive):
    path = drive / 'velodyne_points' / 'data' / '0000000005.bin'
    path.write_bytes(POINTS.tobytes()[:-3])
    with pytest.raises(InputError, match=r'(?s)wrong byte count.*0000000005\.bin.*29 bytes'):
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
    (drive / 'velodyne_points' / 'data' / '0000000005.bin').write_bytes(points.tobytes())
    with pytest.raises(InputError, match=message):
        KittiRaw(settings(), drive.parent)[0]


@pytest.mark.parametrize(
    ('name', 'old', 'new'),
    [
        ('calib_velo_to_cam.txt', 'T:', 'X:'),
        ('calib_velo_to_cam.txt', '-0.25', ''),
        ('calib_velo_to_cam.txt', '-0.25', 'nan'),
        ('calib_cam_to_cam.txt', 'P_rect_02', 'P_rect_03'),
        ('calib_cam_to_cam.txt', 'S_rect_02', 'S_02'),
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
    for sweeps in ([8], {'stop': 9}):
        with pytest.raises(InputError, match=r'(?s)5 to 7.*nothing for 8\n'):
            KittiRaw(settings(sweeps=sweeps), drive.parent)
    with pytest.raises(InputError, match='no sweep'):
        KittiRaw(settings(sweeps={'start': 8}), drive.parent)
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
