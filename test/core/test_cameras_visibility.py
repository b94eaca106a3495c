# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The compiled projection and occlusion test, against the same in plain numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.cameras.visibility import (
    PairingSettings,
    Pairs,
    PinholeCamera,
    find_hidden,
    find_visible,
    project,
)
from reldistill_ros.core.errors import InputError

ndimage = pytest.importorskip('scipy.ndimage', reason='the train extra is not installed')
SEEDS = st.integers(0, 2**32 - 1)


def plain_project(points, camera, limits):
    finite = np.flatnonzero(np.isfinite(points[:, :3]).all(axis=1))
    rotation, translation = camera.camera_from_lidar[:3, :3], camera.camera_from_lidar[:3, 3]
    in_camera = points[finite, :3] @ rotation.T + translation
    depths = in_camera[:, 2]
    far = np.inf if limits.max_depth is None else limits.max_depth
    in_front = (depths >= limits.min_depth) & (depths <= far)
    homogeneous = in_camera[in_front] @ camera.intrinsics.T
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]
    last = np.array(camera.image_size[::-1]) - 1 - limits.border
    inside = ((pixels >= limits.border) & (pixels <= last)).all(axis=1)
    return Pairs(
        finite[in_front][inside],
        pixels[inside].astype(np.float32),
        depths[in_front][inside].astype(np.float32),
    )


def plain_find_hidden(candidates, camera, limits):
    if limits.occlusion_window_deg is None or len(candidates) == 0:
        return np.zeros(len(candidates), bool)
    cell_size = np.radians(limits.occlusion_window_deg) * camera.intrinsics[0, 0] / 3
    columns, rows = (candidates.pixels // cell_size).astype(np.int64).T
    depth_map = np.full((rows.max() + 1, columns.max() + 1), np.inf, np.float32)
    np.minimum.at(depth_map, (rows, columns), candidates.depths)
    smallest = ndimage.minimum_filter(depth_map, size=5, mode='constant', cval=np.inf)
    nearest = smallest[rows, columns]
    behind = candidates.depths - nearest
    return (behind > limits.occlusion_depth) & (
        behind > limits.occlusion_inverse_depth * candidates.depths * nearest
    )


def random_camera(rng):
    """Somewhere near the lidar, looking anywhere."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    transform = np.eye(4)
    transform[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    transform[:3, 3] = rng.uniform(-2, 2, 3)
    height, width = rng.integers(20, 900, 2)
    focal = rng.uniform(200, 2000)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return PinholeCamera((int(height), int(width)), intrinsics, transform)


def random_limits(rng):
    return PairingSettings(
        min_depth=rng.uniform(0.1, 3),
        max_depth=rng.choice([None, 20.0, 60.0]),
        border=rng.uniform(0, 5),
        occlusion_window_deg=rng.choice([None, 0.3, 1.0, 5.0]),
        occlusion_inverse_depth=rng.uniform(0, 0.02),
        occlusion_depth=rng.uniform(0, 1),
    )


def random_points(rng):
    points = rng.normal(0, 1, (int(rng.integers(0, 3000)), 4)) * rng.uniform(1, 40)
    points[rng.random(len(points)) < 0.02, rng.integers(0, 3)] = rng.choice([np.nan, np.inf])
    return points.astype(np.float32)


@settings(deadline=None)
@given(SEEDS)
def test_points_fall_on_the_pixels_of_the_plain_formula(seed):
    rng = np.random.default_rng(seed)
    points, camera, limits = random_points(rng), random_camera(rng), random_limits(rng)
    with np.errstate(invalid='ignore'):
        expected = plain_project(points, camera, limits)
    got = project(points, camera, limits)
    np.testing.assert_array_equal(got.point_indices, expected.point_indices)
    np.testing.assert_allclose(got.pixels, expected.pixels, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(got.depths, expected.depths, rtol=1e-6)


@settings(deadline=None)
@given(SEEDS)
def test_the_same_points_are_hidden_as_by_a_filtered_depth_map(seed):
    rng = np.random.default_rng(seed)
    points, camera, limits = random_points(rng), random_camera(rng), random_limits(rng)
    candidates = project(points, camera, limits)
    expected = plain_find_hidden(candidates, camera, limits)
    np.testing.assert_array_equal(find_hidden(candidates, camera, limits), expected)
    visible = find_visible(points, camera, limits)
    np.testing.assert_array_equal(visible.point_indices, candidates.point_indices[~expected])


def test_points_may_be_a_read_only_view_with_more_columns():
    camera = PinholeCamera((20, 20), np.diag([10.0, 10, 1]) + 0, np.eye(4))
    points = np.zeros((4, 6), np.float32)
    points[:, :3] = [1, 1, 5]
    points.flags.writeable = False
    assert len(project(points[:, :4], camera, PairingSettings())) == 4


def test_what_is_kept_of_a_large_sweep_is_small():
    camera = PinholeCamera((20, 20), np.diag([10.0, 10, 1]), np.eye(4))
    points = np.full((10_000, 4), -5, np.float32)
    points[0, :3] = [1, 1, 5]
    assert project(points, camera, PairingSettings()).pixels.base is None


def test_a_window_far_smaller_than_a_pixel_is_refused_before_memory_is_taken():
    intrinsics = np.array([[1.0, 0, 500], [0, 1, 500], [0, 0, 1]])
    camera = PinholeCamera((1000, 1000), intrinsics, np.eye(4))
    points = np.array([[0, 0, 5]], np.float32)
    with pytest.raises(InputError, match=r'(?s)window is too small.*focal length 1 pixels'):
        find_visible(points, camera, PairingSettings())
    without = PairingSettings(occlusion_window_deg=None)
    assert len(find_visible(points, camera, without)) == 1
