# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Kernel maps built in torch equal those built in numpy, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reldistill_ros.backends.device_maps import build_device_maps, to_device
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps, concatenate_maps

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
TABLES = ('submanifold', 'parent', 'child', 'down', 'up')


def random_sweep(rng, count, grid):
    low = rng.integers(-grid, grid, 3)
    coords = np.unique(rng.integers(0, grid, (count, 3)) + low, axis=0)
    return coords.astype(np.int32)


def on(device):
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    return device


def assert_equal_maps(built, expected):
    assert len(built) == len(expected)
    for ours, reference in zip(built, expected):
        for name in TABLES:
            torch.testing.assert_close(getattr(ours, name), getattr(reference, name))


def check(sweeps, device):
    expected = to_device(concatenate_maps([build_kernel_maps(s) for s in sweeps]), device)
    coords = torch.from_numpy(np.concatenate(sweeps)).to(device)
    numbers = np.repeat(np.arange(len(sweeps)), [len(s) for s in sweeps])
    assert_equal_maps(build_device_maps(coords, torch.from_numpy(numbers).to(device)), expected)


@pytest.mark.parametrize('device', DEVICES)
def test_a_batch_of_sweeps_gets_the_tables_of_its_sweeps_side_by_side(device):
    rng = np.random.default_rng(0)
    check([random_sweep(rng, count, 40) for count in (3000, 1, 700)], on(device))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    grid=st.sampled_from([1, 2, 5, 40, 1 << 14]),
)
def test_any_sweeps_get_the_tables_of_numpy(seed, counts, grid):
    rng = np.random.default_rng(seed)
    check([random_sweep(rng, count, grid) for count in counts], 'cpu')


def test_one_sweep_needs_no_number():
    coords = random_sweep(np.random.default_rng(1), 500, 20)
    expected = to_device(build_kernel_maps(coords), 'cpu')
    assert_equal_maps(build_device_maps(torch.from_numpy(coords)), expected)


def test_no_voxel_at_all_gives_empty_tables():
    maps = build_device_maps(torch.zeros(0, 3, dtype=torch.int32))
    assert [level.num_voxels for level in maps] == [0, 0, 0, 0, 0]


def test_every_voxel_stands_once_in_the_table_that_leads_back_to_it():
    coords = random_sweep(np.random.default_rng(2), 400, 15)
    level = build_device_maps(torch.from_numpy(coords))[0]
    live = level.up < level.num_coarser
    assert live.sum(dim=0).eq(1).all()
    assert level.up.T[live.T].equal(level.parent)


def test_voxels_that_no_key_can_tell_apart_are_refused():
    far = torch.tensor([[-(2**20)] * 3, [2**20] * 3])
    with pytest.raises(InputError, match='too far apart'):
        build_device_maps(far, torch.tensor([0, 1]))
