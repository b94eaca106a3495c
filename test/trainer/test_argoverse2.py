# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Argoverse 2 in its own format, on a tiny log that these tests write."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from reldistill_ros.core.errors import InputError

pytest.importorskip('pyarrow', reason='the optional package pyarrow is not installed')

import pyarrow.feather as feather
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny_argoverse2 import FOCAL, SWEEP_NS, UP_LIDAR, write, write_log

from trainer.datasets.argoverse2 import Argoverse2
from trainer.datasets.argoverse2_log import NO_IMAGE, Argoverse2Settings, nearest_stamps
from trainer.pairing import PairingSettings, project

CAMERAS = ('ring_front_center', 'ring_side_left')


def settings(**changes):
    return Argoverse2Settings(
        **{'format': 'argoverse2', 'path': 'val', 'cameras': CAMERAS, **changes}
    )


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / 'val' / '7fab2350'
    write_log(folder)
    return folder


def open_beside(log, **changes):
    return Argoverse2(settings(**changes), log.parents[1])


def read(path):
    return {
        name: np.array(column) for name, column in feather.read_table(path).to_pydict().items()
    }


def sweep_file(log, index):
    return sorted((log / 'sensors' / 'lidar').iterdir())[index]


def pose(table, row):
    transform = np.eye(4)
    xyzw = [table[name][row] for name in ('qx', 'qy', 'qz', 'qw')]
    transform[:3, :3] = Rotation.from_quat(xyzw).as_matrix()
    transform[:3, 3] = [table[name][row] for name in ('tx_m', 'ty_m', 'tz_m')]
    return transform


def test_points_are_moved_to_the_upper_lidar_with_the_axes_of_the_car(log):
    dataset = open_beside(log)
    sample = dataset[1]
    raw = read(sweep_file(log, 1))
    stamp = int(sweep_file(log, 1).stem)
    assert len(dataset) == 2
    assert (sample.sample_id, sample.stamp_ns) == (f'val/7fab2350/{stamp}', stamp)
    assert sample.points.dtype == sample.times.dtype == np.float32
    expected = np.column_stack([raw[name].astype(float) for name in 'xyz']) - UP_LIDAR
    np.testing.assert_allclose(sample.points[:, :3], expected, atol=1e-5)
    np.testing.assert_allclose(sample.points[:, 3], raw['intensity'] / 255, rtol=1e-6)
    np.testing.assert_allclose(sample.times[[0, -1]], [0.002654, 0.106085816], rtol=1e-6)
    assert sample.labels is None


def test_pixels_are_those_of_the_chain_over_two_poses_of_the_car(log):
    extrinsics = read(log / 'calibration' / 'egovehicle_SE3_sensor.feather')
    city = read(log / 'city_SE3_egovehicle.feather')
    mounts = {name: pose(extrinsics, row) for row, name in enumerate(extrinsics['sensor_name'])}
    num_pixels = 0
    for index, sample in enumerate(open_beside(log)):
        raw = read(sweep_file(log, index))
        homogeneous = np.column_stack([raw['x'], raw['y'], raw['z'], np.ones(80)]).astype(float)
        at_sweep = pose(city, city['timestamp_ns'].tolist().index(sample.stamp_ns))
        for image in sample.images:
            stamp = int(image.image_id.rsplit('/', 1)[1])
            at_image = pose(city, city['timestamp_ns'].tolist().index(stamp))
            pairs = project(sample.points, image, PairingSettings())
            to_camera = np.linalg.inv(at_image @ mounts[image.camera]) @ at_sweep
            x, y, z, _ = to_camera @ homogeneous[pairs.point_indices].T
            expected = np.stack([FOCAL * x / z + 33, FOCAL * y / z + 25], axis=1)
            np.testing.assert_allclose(pairs.pixels, expected, atol=1e-3)
            num_pixels += len(pairs)
    assert num_pixels > 20


def test_each_sweep_gets_the_images_nearest_in_time(log):
    for number, sample in enumerate(open_beside(log)):
        assert [image.camera for image in sample.images] == list(CAMERAS)
        stamps = [int(image.image_id.rsplit('/', 1)[1]) for image in sample.images]
        assert all(abs(stamp - sample.stamp_ns) < 25_000_000 for stamp in stamps)
        assert all(abs(image.image.mean() - 40 * number) < 2 for image in sample.images)


def test_a_camera_without_a_near_image_is_left_out_with_a_warning(log, caplog):
    for path in (log / 'sensors' / 'cameras' / 'ring_side_left').iterdir():
        if abs(int(path.stem) - int(sweep_file(log, 1).stem)) < SWEEP_NS / 2:
            path.unlink()
    dataset = open_beside(log)
    assert '1 of 2 sweeps come without an image of ring_side_left' in caplog.text
    assert [[image.camera for image in sample.images] for sample in dataset] == [
        ['ring_front_center', 'ring_side_left'],
        ['ring_front_center'],
    ]
    (log / 'sensors' / 'cameras' / 'ring_side_left').rename(log / 'elsewhere')
    assert [len(sample.images) for sample in open_beside(log)] == [1, 1]


def test_logs_are_all_those_of_the_folder_or_those_that_are_named(log):
    write_log(log.parent / 'another')
    names = [name.split('/')[1] for name in open_beside(log).sample_ids]
    assert names == ['7fab2350'] * 2 + ['another'] * 2
    assert len(open_beside(log, logs=['another'], sweeps={'start': 1})) == 1
    with pytest.raises(InputError, match=r'(?s)at least one sweep.*no sweep'):
        open_beside(log, logs=['elsewhere'])
    with pytest.raises(InputError, match=r'(?s)holds no logs.*val'):
        open_beside(log, path='.')


def test_a_stamp_without_a_pose_is_refused(log):
    path = log / 'city_SE3_egovehicle.feather'
    table = read(path)
    write(path.with_suffix(''), {name: column[:-2] for name, column in table.items()})
    with pytest.raises(InputError, match=r'(?s)no pose.*city_SE3.*nothing for 1 of 4'):
        open_beside(log)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('calibration/intrinsics', 'calibration lacks sensors'),
        ('calibration/egovehicle_SE3_sensor', 'calibration lacks sensors'),
    ],
)
def test_a_camera_without_calibration_is_named(log, name, message):
    path = log / f'{name}.feather'
    table = {key: column[1:] for key, column in read(path).items()}
    write(log / name, table)
    with pytest.raises(InputError, match=rf'(?s){message}.*{path.name}.*ring_front_center'):
        open_beside(log)


@pytest.mark.parametrize(
    'name', ['calibration/intrinsics', 'calibration/egovehicle_SE3_sensor', 'city_SE3_egovehicle']
)
def test_missing_broken_and_other_tables_are_refused(log, name):
    path = log / f'{name}.feather'
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match=rf'(?s)does not exist.*{path.name}'):
        open_beside(log)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf'(?s)cannot be read.*{path.name}'):
        open_beside(log)
    write(log / name, {'a': [1]})
    with pytest.raises(InputError, match=rf'(?s)lacks columns.*{path.name}'):
        open_beside(log)


def test_an_empty_or_broken_sweep_is_refused(log):
    path = sweep_file(log, 0)
    table = read(path)
    dataset = open_beside(log)
    write(path.with_suffix(''), {name: column[:0] for name, column in table.items()})
    with pytest.raises(InputError, match=r'(?s)no points.*\.feather'):
        dataset[0]
    table['x'] = np.full(80, np.inf, np.float16)
    table['x'][0] = 1
    write(path.with_suffix(''), table)
    with pytest.raises(InputError, match=r'(?s)not finite.*\.feather'):
        dataset[0]
    path.write_bytes(b'')
    with pytest.raises(InputError, match=r'(?s)cannot be read.*\.feather'):
        dataset[0]


def test_an_image_of_another_size_than_its_calibration_is_refused(log):
    for path in (log / 'sensors' / 'cameras' / 'ring_front_center').iterdir():
        Image.new('RGB', (32, 24)).save(path)
    with pytest.raises(InputError, match=r'(?s)do not belong together.*48, 64.*24, 32'):
        open_beside(log)[0]


def test_unknown_cameras_are_refused():
    with pytest.raises(ValidationError):
        settings(cameras=['ring_top'])
    assert len(Argoverse2Settings(format='argoverse2', path='val').cameras) == 7


def test_it_can_be_sent_to_another_process(log):
    dataset = open_beside(log)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[1].points, dataset[1].points)


@given(
    images=st.sets(st.integers(1, 10**6), max_size=20),
    sweeps=st.lists(st.integers(1, 10**6), min_size=1, max_size=10),
    limit=st.integers(0, 10**5),
)
def test_the_nearest_image_is_the_nearest_of_all(images, sweeps, limit):
    found = nearest_stamps(sorted(images), np.array(sweeps), limit)
    for sweep, stamp in zip(sweeps, found.tolist()):
        smallest = min((abs(image - sweep) for image in images), default=limit + 1)
        if smallest > limit:
            assert stamp == NO_IMAGE
        else:
            assert stamp in images
            assert abs(stamp - sweep) == smallest
