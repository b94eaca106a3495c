# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Voxelisation: every point lands in its voxel, none lands outside the grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.voxels import grid_size, voxelise

VOXEL = VoxelSettings(voxel_size=0.1, point_cloud_range=(-4.0, -3.0, -1.0, 4.0, 3.0, 1.0))
INPUTS = InputSettings()

any_points = arrays(
    np.float32,
    st.tuples(st.integers(0, 40), st.just(4)),
    elements=st.one_of(st.floats(-5, 5, width=32), st.floats(width=32)),
)


@given(any_points)
@settings(deadline=None)
def test_any_cloud_gives_sorted_unique_voxels_inside_the_grid(points):
    voxels = voxelise(points, VOXEL, INPUTS)
    keys = [tuple(c) for c in voxels.coords.tolist()]
    assert keys == sorted(set(keys))
    assert (voxels.coords >= 0).all()
    assert (voxels.coords < grid_size(VOXEL)).all()
    assert np.isfinite(voxels.feats).all()
    assert voxels.feats.shape == (len(keys), INPUTS.num_features)
    used = voxels.point_to_voxel[voxels.point_to_voxel >= 0]
    assert set(used.tolist()) == set(range(len(keys)))


def test_a_point_on_the_upper_edge_is_outside_although_float32_says_it_is_inside():
    edge = np.nextafter(np.float32(4.0), np.float32(0.0))
    points = np.array([[4.0, 0, 0, 0], [edge, 0, 0, 0]], np.float32)
    voxels = voxelise(points, VOXEL, INPUTS)
    assert (voxels.coords[:, 0] < 80).all()
    assert voxels.point_to_voxel[0] == -1


def test_points_that_are_not_finite_belong_to_no_voxel():
    points = np.zeros((4, 4), np.float32)
    points[0, 0], points[1, 2], points[2, 3] = np.nan, np.inf, np.nan
    voxels = voxelise(points, VOXEL, INPUTS)
    assert voxels.point_to_voxel.tolist() == [-1, -1, -1, 0]


def test_a_student_that_does_not_see_the_intensity_labels_points_without_one():
    points = np.array([[1, 0, 0, np.nan], [1, 0, 0, np.inf], [2, 0, 0, 0.5]], np.float32)
    voxels = voxelise(points, VOXEL, InputSettings(features=('offset', 'height')))
    assert voxels.point_to_voxel.tolist() == [0, 0, 1]
    assert np.isfinite(voxels.feats).all()
    assert voxels.feats.shape == (2, 4)


def test_the_features_of_a_voxel_are_those_of_its_mean_point():
    inputs = InputSettings(intensity_mean=0.5, intensity_std=0.25)
    points = np.array([[1.02, 0.03, 0.05, 0.5], [1.06, 0.05, 0.05, 1.0]], np.float32)
    voxels = voxelise(points, VOXEL, inputs)
    assert voxels.coords.tolist() == [[50, 30, 10]]
    offset, intensity, height, distance = np.split(voxels.feats[0], [3, 4, 5])
    np.testing.assert_allclose(offset, [-0.1, -0.1, 0.0], atol=1e-4)
    np.testing.assert_allclose(intensity, [1.0], atol=1e-6)
    np.testing.assert_allclose(height, [0.025], atol=1e-6)
    np.testing.assert_allclose(distance, [np.sqrt(1.04**2 + 0.04**2 + 0.05**2) / 30], atol=1e-6)


def test_the_order_of_the_points_does_not_matter():
    points = np.random.default_rng(0).uniform(-3, 3, (500, 4)).astype(np.float32)
    order = np.random.default_rng(1).permutation(500)
    a, b = voxelise(points, VOXEL, INPUTS), voxelise(points[order], VOXEL, INPUTS)
    np.testing.assert_array_equal(a.coords, b.coords)
    np.testing.assert_array_equal(a.point_to_voxel[order], b.point_to_voxel)
    np.testing.assert_allclose(a.feats, b.feats, atol=1e-6)
