# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pairs of points and pixels."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_drive import write_settings
from tiny_training import train

from reldistill_ros.core.errors import InputError
from trainer import show_pairs
from trainer.datasets.sample import CameraImage, Sample
from trainer.pairing import (
    PairingSettings,
    check_projects,
    find_hidden,
    pair_points,
    project,
    sweeps_to_check,
)

FOCAL, WIDTH, HEIGHT = 200.0, 320, 240
# axes of the camera in the lidar frame: right is -y, down is -z, forward is x
FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def camera(lidar_above=0.0):
    """A camera that looks along x, below the lidar."""
    camera_from_lidar = FORWARD.copy()
    camera_from_lidar[1, 3] = -lidar_above
    return CameraImage(
        camera='front',
        image_id='front/0',
        image=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        intrinsics=np.array([[FOCAL, 0, 160], [0, FOCAL, 120], [0, 0, 1]]),
        camera_from_lidar=camera_from_lidar,
    )


def cloud(rows):
    return np.array([(*row, 0.5) for row in rows], dtype=np.float32).reshape(-1, 4)


def wall(x, y_range, z_range, step):
    """Points of a wall across the road."""
    y, z = np.meshgrid(np.arange(*y_range, step), np.arange(*z_range, step))
    return cloud(np.column_stack([np.full(y.size, x), y.ravel(), z.ravel()]))


def test_a_point_takes_the_pixel_of_the_pinhole_formula():
    pairs = pair_points(cloud([(10, 2, -1)]), camera(), PairingSettings())
    np.testing.assert_array_equal(pairs.point_indices, [0])
    np.testing.assert_allclose(pairs.pixels, [[160 - 200 * 0.2, 120 + 200 * 0.1]])
    np.testing.assert_allclose(pairs.depths, [10])
    assert pairs.pixels.dtype == pairs.depths.dtype == np.float32


def test_points_behind_or_close_to_the_camera_take_no_pixel():
    points = cloud([(-10, 0, 0), (0, 0, 0), (0.99, 0, 0), (1.01, 0, 0), (30, 0, 5)])
    pairs = pair_points(points, camera(), PairingSettings(min_depth=1, max_depth=20))
    np.testing.assert_array_equal(pairs.point_indices, [3])


def test_the_border_of_the_image_takes_no_point():
    columns = np.array([-0.5, 0, 0.9, 1, 2, WIDTH - 2.1, WIDTH - 1.9, WIDTH - 1.1, WIDTH])
    points = cloud([(10, (160 - u) / 20, 0) for u in columns])
    inside = project(points, camera(), PairingSettings(border=1)).point_indices
    np.testing.assert_array_equal(columns[inside], [1, 2, WIDTH - 2.1])
    everything = project(points, camera(), PairingSettings(border=0)).point_indices
    np.testing.assert_array_equal(columns[everything], [0, 0.9, 1, 2, *columns[5:8]])


def test_a_hidden_point_takes_no_pixel():
    # the lidar, 2 m above the camera, sees over a car the lower part of the wall behind it
    car, building = wall(8, (-2, 2), (-3, -1), 0.05), wall(20, (-3, 3), (-2.4, 4), 0.1)
    points = np.concatenate([car, building])
    pairs = pair_points(points, camera(lidar_above=2), PairingSettings(occlusion_window_deg=0.6))
    seen = points[pairs.point_indices]
    on_building = seen[seen[:, 0] == 20]
    # the upper edge of the car, 1 m above the camera at 8 m, hides the wall up to 2.5 m
    behind_car = np.abs(on_building[:, 1]) < 4
    assert on_building[behind_car][:, 2].min() > 0.45 - 0.1
    assert (on_building[:, 2] > 1).sum() > 0.95 * (building[:, 2] > 1).sum()
    assert (seen[:, 0] == 8).sum() == len(car)


def test_without_a_window_nothing_is_hidden():
    points = cloud([(5, 0, 0), (50, 0, 0)])
    assert len(pair_points(points, camera(), PairingSettings())) == 1
    assert len(pair_points(points, camera(), PairingSettings(occlusion_window_deg=None))) == 2


def test_the_road_does_not_hide_itself():
    ranges = 1.7 / np.tan(np.radians(np.arange(1.2, 20, 0.4)))  # rings of a 64-beam lidar
    angles = np.radians(np.arange(-35, 35, 0.2))
    r, a = np.meshgrid(ranges, angles)
    road = cloud(
        np.column_stack([(r * np.cos(a)).ravel(), (r * np.sin(a)).ravel(), r.ravel() * 0 - 1.7])
    )
    candidates = project(road, camera(), PairingSettings())
    assert len(candidates) > 5000
    assert not find_hidden(candidates, camera(), PairingSettings()).any()


def test_points_that_are_not_finite_take_no_pixel():
    points = cloud([(10, 0, 0), (np.nan, 0, 0), (10, np.inf, 0), (np.inf, 0, 0), (12, 4, 0)])
    with np.errstate(all='raise'):
        pairs = pair_points(points, camera(), PairingSettings())
    np.testing.assert_array_equal(pairs.point_indices, [0, 4])


def test_a_cloud_without_points_gives_no_pairs():
    pairs = pair_points(cloud([]), camera(), PairingSettings())
    assert (len(pairs), pairs.pixels.shape) == (0, (0, 2))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pairs_lie_in_the_image_and_the_nearest_point_of_all_is_never_hidden(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform([-5, -30, -10, 0], [60, 30, 10, 1], (300, 4)).astype(np.float32)
    pairs = pair_points(points, camera(lidar_above=1), PairingSettings())
    candidates = project(points, camera(lidar_above=1), PairingSettings())
    assert (pairs.pixels >= 1).all()
    assert (pairs.pixels <= [WIDTH - 2, HEIGHT - 2]).all()
    assert (np.diff(pairs.point_indices) > 0).all()
    assert set(pairs.point_indices) <= set(candidates.point_indices)
    nearest = candidates.point_indices[candidates.depths.argmin()]
    assert nearest in pairs.point_indices


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_points_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform([2, -9, -5, 0], [40, 9, 5, 1], (400, 4)).astype(np.float32)
    order = rng.permutation(400)
    once = pair_points(points, camera(), PairingSettings()).point_indices
    again = pair_points(points[order], camera(), PairingSettings()).point_indices
    np.testing.assert_array_equal(np.sort(order[again]), once)


def drive_of(*clouds):
    """A drive of these clouds, each with an image of the same camera."""
    return [
        Sample(f'drive/{number}', 0, points, np.zeros(len(points), np.float32), (camera(),))
        for number, points in enumerate(clouds)
    ]


def test_a_calibration_that_projects_nothing_is_refused():
    behind, before = cloud([(-10, 0, 0), (-20, 1, 0)]), cloud([(10, 0, 0)])
    with pytest.raises(InputError, match=r'(?s)projects no point.*drive/0, camera front'):
        check_projects(drive_of(behind, behind), PairingSettings())
    check_projects(drive_of(behind, before), PairingSettings())


@pytest.mark.parametrize(
    ('num', 'checked'), [(1, [0]), (3, [0, 1, 2]), (1001, [0, 250, 500, 750, 1000])]
)
def test_sweeps_all_over_the_drive_are_looked_at(num, checked):
    assert sweeps_to_check(range(num)) == checked


def test_distilling_refuses_a_camera_that_sees_no_point_before_anything_is_learnt(tiny):
    drive = tiny / 'drive'
    for name in ('image', 'maps'):
        shutil.copytree(drive / f'{name}_02', drive / f'{name}_03')
    calibration = drive / 'calib_cam_to_cam.txt'
    lines = calibration.read_text()
    lines += lines.replace('rect_02', 'rect_03').replace('P_rect_03: 24.0', 'P_rect_03: -24e6')
    calibration.write_text(lines)
    source = {'format': 'kitti_raw', 'path': 'drive', 'label_maps': 'drive/maps'}
    write_settings(tiny, train=[{**source, 'cameras': ['image_02', 'image_03']}])
    with pytest.raises(InputError, match=r'(?s)projects no point.*camera image_03'):
        train(tiny, 'run')
    assert not (tiny / 'run' / 'teacher.json').exists()
    write_settings(tiny, train=[source], epochs=1)
    train(tiny, 'run')


DRIVE = {'format': 'kitti_raw', 'path': 'drive'}


@pytest.fixture
def data(tmp_path):
    """A drive of one sweep whose only point falls on pixel (42, 24)."""
    folder = tmp_path / 'drive'
    (folder / 'velodyne_points' / 'data').mkdir(parents=True)
    (folder / 'image_02' / 'data').mkdir(parents=True)
    points = cloud([(10, -1, 0)])
    (folder / 'velodyne_points' / 'data' / '0000000000.bin').write_bytes(points.tobytes())
    blank = Image.fromarray(np.full((48, 64, 3), 100, np.uint8))
    blank.save(folder / 'image_02' / 'data' / '0000000000.png')
    (folder / 'calib_velo_to_cam.txt').write_text('R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n')
    (folder / 'calib_cam_to_cam.txt').write_text(
        'S_rect_02: 64 48\nR_rect_00: 1 0 0 0 1 0 0 0 1\n'
        'P_rect_02: 100 0 32 0 0 100 24 0 0 0 1 0\n'
    )
    return tmp_path


def run(monkeypatch, data, content, *more):
    path = data / 'settings.yaml'
    path.write_text(yaml.safe_dump(content))
    arguments = [path, '--data', data, '--out', data / 'pictures' / 'overlay.png', *more]
    monkeypatch.setattr('sys.argv', ['pairing', *map(str, arguments)])
    show_pairs.main()
    return np.array(Image.open(data / 'pictures' / 'overlay.png'))


def test_the_command_draws_the_point_where_the_camera_sees_it(monkeypatch, data):
    picture = run(monkeypatch, data, DRIVE)
    assert picture.shape == (48, 64, 3)
    coloured = np.argwhere(picture.max(axis=2) != picture.min(axis=2))
    np.testing.assert_array_equal(coloured, [[24, 42]])


def test_the_command_takes_a_run_file_and_one_of_its_drives(monkeypatch, data):
    drives = {'train': [{**DRIVE, 'path': 'elsewhere'}], 'evaluate': [DRIVE]}
    content = yaml.safe_load(write_settings(data, **drives).read_text())
    picture = run(monkeypatch, data, content, '--dataset', '1')
    assert (picture.max(axis=2) != picture.min(axis=2)).sum() == 1
    with pytest.raises(InputError, match='settings are not valid: speed'):
        run(monkeypatch, data, {**content, 'speed': 3})


def test_the_command_is_run_as_the_module_of_pairing(data):
    (data / 'drive.yaml').write_text(yaml.safe_dump(DRIVE))
    command = [sys.executable, '-m', 'trainer.pairing', data / 'drive.yaml', '--data', data]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [*command, '--out', data / 'out.png'], cwd=root, capture_output=True, text=True, check=True
    )
    assert 'drive/image_02/0000000000: 1 pairs, 0 points hidden' in result.stdout
    assert (data / 'out.png').is_file()


@pytest.mark.parametrize(
    ('changes', 'more', 'message'),
    [
        ({}, ['--sweep', '1'], 'no such sweep'),
        ({}, ['--dataset', '1'], 'no such dataset'),
        ({'path': 'nowhere'}, [], 'drive does not exist'),
        ({'format': 'kitti'}, [], 'settings are not valid'),
        ({'speed': 3}, [], 'settings are not valid'),
    ],
)
def test_the_command_refuses_wrong_input_and_writes_nothing(
    monkeypatch, data, changes, more, message
):
    with pytest.raises(InputError, match=message):
        run(monkeypatch, data, {**DRIVE, **changes}, *more)
    assert not (data / 'pictures').exists()


def test_the_command_refuses_a_calibration_that_looks_backwards(monkeypatch, data):
    calibration = data / 'drive' / 'calib_velo_to_cam.txt'
    calibration.write_text('R: 0 1 0 0 0 -1 -1 0 0\nT: 0 0 0\n')
    with pytest.raises(InputError, match='projects no point'):
        run(monkeypatch, data, DRIVE)
    assert not (data / 'pictures').exists()
