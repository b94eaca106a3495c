# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Voxelisation: every point lands in its voxel, none outside the grid, as by plain numpy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.voxels import (
    HEIGHT_SCALE,
    RANGE_SCALE,
    Voxels,
    _group,
    grid_size,
    voxelise,
)

VOXEL = VoxelSettings(voxel_size=0.1, point_cloud_range=(-4.0, -3.0, -1.0, 4.0, 3.0, 1.0))
INPUTS = InputSettings()
FEATURES = ('offset', 'intensity', 'height', 'range')

any_points = arrays(
    np.float32,
    st.tuples(st.integers(0, 40), st.just(4)),
    elements=st.one_of(st.floats(-5, 5, width=32), st.floats(width=32)),
)


def reference_voxels(points, settings, inputs):
    """The same voxels with `unique` and `bincount`."""
    low = np.asarray(settings.point_cloud_range[:3], dtype=np.float32)
    size = grid_size(settings)
    with np.errstate(invalid='ignore', over='ignore'):
        index = np.floor((points[:, :3] - low) / np.float32(settings.voxel_size))
        inside = ((index >= 0) & (index < size)).all(axis=1)
    if 'intensity' in inputs.features:
        inside &= np.isfinite(points[:, 3])
    x, y, z = index[inside].astype(np.int64).T
    keys, voxel_of_kept = np.unique((x * size[1] + y) * size[2] + z, return_inverse=True)
    rest, z = np.divmod(keys, size[2])
    coords = np.stack([*np.divmod(rest, size[1]), z], axis=1).astype(np.int32)
    point_to_voxel = np.full(len(points), -1, dtype=np.int32)
    point_to_voxel[inside] = voxel_of_kept
    means = reference_means(points[inside].astype(np.float64), voxel_of_kept, len(keys))
    return Voxels(coords, reference_feats(means, coords, settings, inputs), point_to_voxel)


def reference_means(values, groups, num_groups):
    counts = np.bincount(groups, minlength=num_groups)
    sums = [np.bincount(groups, column, minlength=num_groups) for column in values.T]
    return np.stack(sums, axis=1) / counts[:, None]


def reference_feats(means, coords, settings, inputs):
    xyz, intensity = means[:, :3], means[:, 3:]
    centre = (coords + 0.5) * settings.voxel_size + np.asarray(settings.point_cloud_range[:3])
    columns = {
        'offset': (xyz - centre) / settings.voxel_size,
        'intensity': (intensity - inputs.intensity_mean) / inputs.intensity_std,
        'height': xyz[:, 2:] / HEIGHT_SCALE,
        'range': np.linalg.norm(xyz, axis=1, keepdims=True) / RANGE_SCALE,
    }
    return np.concatenate([columns[name] for name in inputs.features], axis=1).astype(np.float32)


def assert_same_voxels(voxels, expected):
    for name in ('coords', 'point_to_voxel'):
        assert getattr(voxels, name).dtype == np.int32
        np.testing.assert_array_equal(getattr(voxels, name), getattr(expected, name))
    assert voxels.feats.dtype == np.float32
    assert voxels.feats.shape == expected.feats.shape
    np.testing.assert_allclose(voxels.feats, expected.feats, rtol=1e-6, atol=1e-6)


grids = st.builds(
    lambda voxel_size, low, extent: VoxelSettings(
        voxel_size=voxel_size,
        point_cloud_range=(*low, *(a + b for a, b in zip(low, extent))),
    ),
    st.sampled_from([0.05, 0.1, 0.3, 2.0]),
    st.tuples(*[st.floats(-5, 1)] * 3),
    st.tuples(*[st.floats(0.01, 8)] * 3),
)
input_settings = st.builds(
    InputSettings,
    features=st.sampled_from([order for n in range(1, 5) for order in permutations(FEATURES, n)]),
    intensity_mean=st.floats(-1, 1),
    intensity_std=st.floats(0.1, 2),
)


@given(any_points, grids, input_settings)
@settings(max_examples=300, deadline=None)
def test_any_cloud_and_grid_give_the_voxels_of_plain_numpy(points, voxel, inputs):
    assert_same_voxels(voxelise(points, voxel, inputs), reference_voxels(points, voxel, inputs))


@given(st.integers(0, 2**32 - 1), st.integers(0, 3000), st.sampled_from([0.02, 0.1, 1.0]))
@settings(max_examples=30, deadline=None)
def test_crowded_and_large_grids_give_the_voxels_of_plain_numpy(seed, num, scale):
    points = np.random.default_rng(seed).normal(0, 20 * scale, (num, 4)).astype(np.float32)
    for size in (0.05, 0.5):
        voxel = VoxelSettings(voxel_size=size, point_cloud_range=(-60, -60, -5, 60, 60, 500))
        expected = reference_voxels(points, voxel, INPUTS)
        assert_same_voxels(voxelise(points, voxel, INPUTS), expected)


@pytest.mark.parametrize('range_', [(0, 0, 0, 0.1, 0.1, 0.1), (-1e4, -1e4, -1e4, 1e4, 1e4, 1e4)])
def test_a_grid_of_one_voxel_and_a_huge_one_are_grids(range_):
    voxel = VoxelSettings(voxel_size=0.1, point_cloud_range=range_)
    points = np.random.default_rng(0).uniform(0, 0.2, (50, 4)).astype(np.float32)
    expected = reference_voxels(points, voxel, INPUTS)
    assert_same_voxels(voxelise(points, voxel, INPUTS), expected)


def test_any_layout_of_the_points_gives_the_same_voxels_from_the_same_code():
    points = np.random.default_rng(0).uniform(-3, 3, (500, 4)).astype(np.float32)
    expected = voxelise(points, VOXEL, INPUTS)
    read_only = points.copy()
    read_only.setflags(write=False)
    for other in (
        points,
        read_only,
        np.asfortranarray(points),
        np.repeat(points, 2, axis=1)[:, ::2],
    ):
        voxels = voxelise(other, VOXEL, INPUTS)
        for name in ('coords', 'feats', 'point_to_voxel'):
            np.testing.assert_array_equal(getattr(voxels, name), getattr(expected, name))
    assert len(_group.signatures) == 1


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


def test_points_without_intensity_are_refused():
    with pytest.raises(InputError, match=r'(?s)x, y, z and intensity.*\(N, 4\).*\(5, 3\)'):
        voxelise(np.zeros((5, 3), np.float32), VOXEL, INPUTS)
