# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student equals dense convolution, its exported form and itself after folding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_student import NUM_FEATURES, make_student
from torch.nn import functional as F

from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.backends.torch_maps import PairMaps, TableMaps
from reldistill_ros.core.kernel_maps import build_kernel_maps, concatenate_maps
from reldistill_ros.core.student import fold_batch_norm

GRID = 12


def random_coords(rng, count, grid=GRID):
    coords = np.unique(rng.integers(0, grid, (count, 3)), axis=0)
    return coords.astype(np.int32)  # np.unique sorts by x, then y, then z


def table_maps(maps):
    tables = {name: torch.from_numpy(array) for name, array in table_inputs(maps).items()}
    pick = [
        [v for k, v in tables.items() if k.startswith(kind)]
        for kind in ('submanifold', 'down', 'up')
    ]
    return TableMaps(*pick)


def to_dense(x, coords, grid):
    dense = torch.zeros(1, x.shape[1], grid, grid, grid, dtype=x.dtype)
    i, j, k = torch.from_numpy(coords).long().T
    dense[0, :, i, j, k] = x.T
    return dense


def at(dense, coords):
    i, j, k = torch.from_numpy(coords).long().T
    return dense[0, :, i, j, k].T


@pytest.mark.parametrize('form', [PairMaps, table_maps])
def test_submanifold_convolution_equals_dense_convolution_at_the_occupied_voxels(form):
    rng = np.random.default_rng(0)
    coords = random_coords(rng, 300)
    x = torch.randn(len(coords), 5, dtype=torch.float64)
    kernel = torch.randn(27, 5, 7, dtype=torch.float64)
    sparse = form(build_kernel_maps(coords)).submanifold(0, x, kernel)
    # Offsets run x fastest; conv3d wants (C_out, C_in, x, y, z).
    weight = kernel.reshape(3, 3, 3, 5, 7).permute(4, 3, 2, 1, 0)
    dense = F.conv3d(to_dense(x, coords, GRID), weight, padding=1)
    torch.testing.assert_close(sparse, at(dense, coords), atol=1e-10, rtol=0)


@pytest.mark.parametrize('form', [PairMaps, table_maps])
def test_down_and_up_equal_dense_strided_and_transposed_convolution(form):
    rng = np.random.default_rng(1)
    maps = build_kernel_maps(random_coords(rng, 200))
    coords, coarse = maps[0].coords, maps[1].coords
    x = torch.randn(len(coords), 4, dtype=torch.float64)
    kernel = torch.randn(8, 4, 6, dtype=torch.float64)
    down = form(maps).down(0, x, kernel)
    weight = kernel.reshape(2, 2, 2, 4, 6).permute(4, 3, 0, 1, 2)  # z fastest
    dense = F.conv3d(to_dense(x, coords, GRID), weight, stride=2)
    torch.testing.assert_close(down, at(dense, coarse), atol=1e-10, rtol=0)

    back = torch.randn(8, 6, 3, dtype=torch.float64)
    up = form(maps).up(0, down, back)
    weight = back.reshape(2, 2, 2, 6, 3).permute(3, 4, 0, 1, 2)
    dense = F.conv_transpose3d(to_dense(down, coarse, GRID // 2), weight, stride=2)
    torch.testing.assert_close(up, at(dense, coords), atol=1e-10, rtol=0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_kernel_maps_hold_exactly_the_neighbours_that_exist(seed, count, grid):
    coords = random_coords(np.random.default_rng(seed), count, grid)
    index = {tuple(c): i for i, c in enumerate(coords.tolist())}
    level = build_kernel_maps(coords)[0]
    offsets = [(x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for k, offset in enumerate(offsets):
        expected = [index.get(tuple(c + offset), len(coords)) for c in coords]
        assert level.submanifold[k].tolist() == expected
    for row, (parent, child) in enumerate(zip(level.parent, level.child)):
        assert level.down[child, parent] == row
    assert (level.down < len(coords)).sum() == len(coords)


def test_convolution_gradients_are_right():
    maps = PairMaps(build_kernel_maps(random_coords(np.random.default_rng(2), 20, 4)))
    x = torch.randn(maps._sizes[0], 2, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(27, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: maps.submanifold(0, a, b), (x, kernel))
    kernel = torch.randn(8, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: maps.down(0, a, b), (x, kernel))


@torch.no_grad()
@pytest.mark.parametrize('network', ['small', 'minkunet18', 'minkunet34'])
def test_pairs_tables_and_folded_batch_norm_give_the_same_student(network):
    student = make_student(network)
    maps = build_kernel_maps(random_coords(np.random.default_rng(3), 500, 24))
    feats = torch.randn(maps[0].num_voxels, NUM_FEATURES)
    reference = student(feats, PairMaps(maps))
    scale = reference.abs().max()
    torch.testing.assert_close(
        student(feats, table_maps(maps)) / scale, reference / scale, atol=1e-5, rtol=0
    )
    fold_batch_norm(student)
    torch.testing.assert_close(
        student(feats, PairMaps(maps)) / scale, reference / scale, atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_a_batch_gives_what_its_sweeps_give_alone():
    student = make_student()
    sweeps = [
        build_kernel_maps(random_coords(np.random.default_rng(s), 100 + s, 16)) for s in range(3)
    ]
    feats = [torch.randn(maps[0].num_voxels, NUM_FEATURES) for maps in sweeps]
    alone = torch.cat([student(x, PairMaps(maps)) for x, maps in zip(feats, sweeps)])
    together = student(torch.cat(feats), PairMaps(concatenate_maps(sweeps)))
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
