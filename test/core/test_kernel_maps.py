# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The compiled kernel maps equal those by sorting and searching, wherever the voxels lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.core import kernel_maps
from reldistill_ros.core.kernel_maps import (
    CENTRE,
    OFFSETS_3,
    LevelMaps,
    build_kernel_maps,
    concatenate_maps,
)

LIMIT = 2**20


def sorted_unique(coords):
    return np.unique(np.reshape(coords, (-1, 3)), axis=0).astype(np.int32)


def reference_maps(coords, num_levels=5):
    """The same tables with `unique` and `searchsorted`; spans of up to 2^21 - 3 voxels."""
    levels = []
    for _ in range(num_levels - 1):
        halved = coords >> 1
        _, first, parent = np.unique(packed(halved), return_index=True, return_inverse=True)
        child = ((coords & 1) @ np.array([4, 2, 1])).astype(np.int32)
        down = np.full((8, len(first)), len(coords), dtype=np.int32)
        down[child, parent] = np.arange(len(coords))
        levels.append(
            LevelMaps(coords, reference_table(coords), parent.astype(np.int32), child, down)
        )
        coords = halved[first]
    empty = np.zeros(0, np.int32)
    last = LevelMaps(coords, reference_table(coords), empty, empty, np.zeros((8, 0), np.int32))
    return (*levels, last)


def packed(coords):
    lowest = coords.min(axis=0, initial=LIMIT)
    x, y, z = (coords.astype(np.int64) - lowest).T + 1
    return (x << 42) | (y << 21) | z


def reference_table(coords):
    num = len(coords)
    table = np.full((27, num), num, dtype=np.int32)
    table[CENTRE] = np.arange(num)
    keys = packed(coords)
    for k in range(CENTRE if num else 0):
        x, y, z = OFFSETS_3[k].tolist()
        wanted = keys + x * (1 << 42) + y * (1 << 21) + z
        found = np.minimum(np.searchsorted(keys, wanted), num - 1)
        voxels = np.flatnonzero(keys[found] == wanted)
        table[k, voxels] = found[voxels]
        table[26 - k, found[voxels]] = voxels
    return table


def assert_same_maps(maps, expected):
    assert len(maps) == len(expected)
    for level, reference in zip(maps, expected):
        for name in ('coords', 'submanifold', 'parent', 'child', 'down'):
            array, wanted = getattr(level, name), getattr(reference, name)
            assert array.dtype == wanted.dtype == np.int32
            np.testing.assert_array_equal(array, wanted, err_msg=name)


def voxels_in_a_box(sides, corners, max_voxels):
    """Up to `max_voxels` voxels in boxes of any density."""

    def draw(seed, count, side, corner):
        cells = np.random.default_rng(seed).integers(0, side, (count, 3))
        return sorted_unique(cells + np.array(corner))

    return st.builds(
        draw,
        st.integers(0, 2**32 - 1),
        st.integers(0, max_voxels),
        st.tuples(*[sides] * 3),
        st.tuples(*[corners] * 3),
    )


@given(voxels_in_a_box(st.integers(1, 40), st.integers(-50, 50), 300), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_maps_equal_those_by_sorting_and_searching(coords, num_levels):
    assert_same_maps(build_kernel_maps(coords, num_levels), reference_maps(coords, num_levels))


@given(voxels_in_a_box(st.integers(1, 2**20), st.integers(-LIMIT, 0), 60))
@settings(deadline=None)
def test_maps_of_far_and_sparse_voxels_equal_those_by_sorting_and_searching(coords):
    assert_same_maps(build_kernel_maps(coords), reference_maps(coords))


@pytest.mark.parametrize('corner', [-1, 0, -LIMIT, LIMIT - 7])
def test_maps_of_a_full_block_equal_those_by_sorting_and_searching(corner):
    cells = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing='ij'), axis=-1)
    coords = sorted_unique(cells + corner)
    assert_same_maps(build_kernel_maps(coords), reference_maps(coords))


def test_voxels_at_opposite_ends_of_the_limits_are_no_neighbours():
    ends = (-LIMIT, 0, LIMIT)
    coords = sorted_unique([(x, y, z) for x in ends for y in ends for z in ends])
    steps = sorted_unique([*coords.tolist(), (-LIMIT, -LIMIT + 1, -LIMIT), (LIMIT, 0, 1)])
    for voxels, num_pairs in ((coords, 27), (steps, 29 + 4)):
        assert (build_kernel_maps(voxels)[0].submanifold < len(voxels)).sum() == num_pairs


def test_no_voxel_and_one_voxel_have_maps():
    for coords in (np.zeros((0, 3), np.int32), np.array([[-3, 5, -1]], np.int32)):
        assert_same_maps(build_kernel_maps(coords), reference_maps(coords))


def test_any_layout_of_the_coordinates_gives_the_same_maps_from_the_same_code():
    coords = sorted_unique(np.random.default_rng(0).integers(-20, 20, (500, 3)))
    expected = build_kernel_maps(coords)
    read_only = coords.copy()
    read_only.setflags(write=False)
    for other in (read_only, np.asfortranarray(coords), coords.astype(np.int64)):
        assert_same_maps(build_kernel_maps(other), expected)
    assert len(kernel_maps._fill_neighbours.signatures) == 1


def test_a_batch_holds_the_maps_of_its_sweeps_one_after_the_other():
    rng = np.random.default_rng(1)
    sweeps = [build_kernel_maps(sorted_unique(rng.integers(0, 9, (n, 3)))) for n in (40, 0, 70)]
    batch = concatenate_maps(sweeps)
    start = 0
    for maps in sweeps:
        num, total = maps[0].num_voxels, batch[0].num_voxels
        part = batch[0].submanifold[:, start : start + num]
        np.testing.assert_array_equal(part == total, maps[0].submanifold == num)
        live = part < total
        np.testing.assert_array_equal(part[live] - start, maps[0].submanifold[live])
        start += num
    assert start == batch[0].num_voxels
