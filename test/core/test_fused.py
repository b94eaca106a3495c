# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The fused engine equals plain torch, forward and backward, on any input and any threads."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_student import NUM_FEATURES, make_student
from torch.nn.functional import normalize

from reldistill_ros.backends.fused_backend import FusedBackend
from reldistill_ros.backends.fused_maps import FusedMaps
from reldistill_ros.backends.fused_steps import (
    ThreadTeam,
    block_width,
    pack_weights,
    to_bfloat16,
)
from reldistill_ros.backends.micro_kernels import HAS_BFLOAT16
from reldistill_ros.backends.tile_pairs import level_pairs
from reldistill_ros.backends.torch_backend import TorchBackend
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps, concatenate_maps
from reldistill_ros.core.network import NETWORKS, backbone_convolutions
from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.voxels import voxelise

DATA = Path(os.environ.get('RELDISTILL_DATA', Path(__file__).parents[3] / 'shared' / 'data'))
TOLERANCE = 1e-4

cpu_has_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason='the CPU has no avx512_bf16')


def fused(student, network='small', num_threads=2, precision='float32'):
    weights = {name: value.numpy() for name, value in student.state_dict().items()}
    return FusedBackend(weights, network, num_threads, precision)


def random_coords(seed, count, grid):
    rng = np.random.default_rng(seed)
    return np.unique(rng.integers(-grid, grid, (count, 3)), axis=0).astype(np.int32)


def dense_block(size):
    return np.argwhere(np.ones((size, size, size))).astype(np.int32)


def features_of(coords, seed=0, num_features=NUM_FEATURES):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(coords), num_features)).astype(np.float32)


def assert_equal_but_for_rounding(got, expected, tolerance=TOLERANCE):
    scale = max(np.abs(expected).max(initial=0), 1.0)
    np.testing.assert_allclose(got / scale, expected / scale, atol=tolerance, rtol=0)


STUDENT = make_student()
ENGINES = {threads: fused(STUDENT, num_threads=threads) for threads in (1, 2, 3)}
REFERENCE = TorchBackend(STUDENT)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_random_voxels_give_what_torch_gives(seed, count, grid):
    maps = build_kernel_maps(random_coords(seed, count, grid))
    feats = features_of(maps[0].coords, seed)
    assert_equal_but_for_rounding(ENGINES[2](feats, maps), REFERENCE(feats, maps))


@pytest.mark.parametrize('coords', [np.zeros((1, 3), np.int32), dense_block(15)])
def test_one_voxel_and_a_dense_block_give_what_torch_gives(coords):
    maps = build_kernel_maps(coords)
    feats = features_of(coords)
    assert_equal_but_for_rounding(ENGINES[2](feats, maps), REFERENCE(feats, maps))


def test_no_voxels_give_no_features():
    maps = build_kernel_maps(np.zeros((0, 3), np.int32))
    features = ENGINES[2](np.zeros((0, NUM_FEATURES), np.float32), maps)
    assert features.shape == (0, NETWORKS['small'][0][-1])


@pytest.mark.parametrize('network', ['minkunet18', 'minkunet34'])
def test_the_large_networks_give_what_torch_gives(network):
    student = make_student(network)
    maps = build_kernel_maps(random_coords(1, 2000, 15))
    feats = features_of(maps[0].coords)
    got = fused(student, network)(feats, maps)
    assert_equal_but_for_rounding(got, TorchBackend(student)(feats, maps))


def test_the_result_is_the_same_to_the_bit_with_any_number_of_threads_and_on_every_run():
    maps = build_kernel_maps(random_coords(2, 5000, 25))
    feats = features_of(maps[0].coords)
    first = ENGINES[1](feats, maps)
    for threads in (1, 2, 3, 3, 3):
        assert np.array_equal(ENGINES[threads](feats, maps), first)


def test_buffers_that_served_a_large_sweep_serve_a_small_one():
    small, large = (build_kernel_maps(random_coords(3, n, 20)) for n in (100, 4000))
    feats = features_of(small[0].coords)
    engine = fused(STUDENT)
    before = engine(feats, small)
    engine(features_of(large[0].coords), large)
    assert np.array_equal(engine(feats, small), before)


def test_calls_from_several_threads_do_not_mix():
    from concurrent.futures import ThreadPoolExecutor

    sweeps = [build_kernel_maps(random_coords(seed, 800, 12)) for seed in range(6)]
    feats = [features_of(maps[0].coords) for maps in sweeps]
    alone = [ENGINES[2](x, maps) for x, maps in zip(feats, sweeps)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ENGINES[2], feats * 5, sweeps * 5))
    assert all(np.array_equal(got, alone[i % 6]) for i, got in enumerate(together))


@pytest.mark.parametrize('network', sorted(NETWORKS))
def test_the_list_of_convolutions_is_the_student(network):
    student = make_student(network)
    kernels = {
        name.removesuffix('.kernel'): tuple(value.shape)
        for name, value in student.backbone.state_dict().items()
        if name.endswith('.kernel')
    }
    volume = {'submanifold': (27,), 'down': (8,), 'up': (8,), 'linear': ()}
    layers = backbone_convolutions(network, NUM_FEATURES)
    assert {c.name: (*volume[c.kind], c.c_in, c.c_out) for c in layers} == kernels


def listed_table(pairs, num_in):
    """The table (K, V) that pairs stand for."""
    table = np.full((pairs.num_offsets, pairs.num_rows), num_in, np.int32)
    for tile, starts in enumerate(pairs.starts):
        for k in range(pairs.num_offsets):
            chosen = slice(starts[k], starts[k + 1])
            table[k, pairs.rows_out[chosen] + tile * pairs.tile_rows] = pairs.rows_in[chosen]
    return table


@given(st.integers(0, 2**32 - 1), st.integers(1, 500))
@settings(max_examples=30, deadline=None)
def test_the_pairs_are_those_of_the_tables(seed, count):
    maps = build_kernel_maps(random_coords(seed, count, 8))
    pairs = level_pairs(maps)
    for index, level in enumerate(maps):
        num = level.num_voxels
        assert np.array_equal(listed_table(pairs['submanifold', index], num), level.submanifold)
        assert np.array_equal(listed_table(pairs['linear', index], num)[0], np.arange(num))
        if index < len(maps) - 1:
            assert np.array_equal(listed_table(pairs['down', index], num), level.down)
            up = listed_table(pairs['up', index], level.down.shape[1])
            assert np.array_equal(up[level.child, np.arange(num)], level.parent)
            assert (up < level.down.shape[1]).sum() == num


def both_gradients(maps, convolve, shape, volume):
    """Output and gradients of one convolution, in the fused engine and in double precision."""
    torch.manual_seed(1)
    num_in, c_in, c_out = shape
    x, kernel = torch.randn(num_in, c_in), torch.randn(volume, c_in, c_out)
    results = []
    for form, dtype in ((FusedMaps, torch.float32), (PairMaps, torch.float64)):
        inputs = [t.to(dtype).requires_grad_() for t in (x, kernel)]
        out = convolve(form(maps), *inputs)
        torch.manual_seed(2)
        weights = torch.randn(out.shape).to(dtype)
        results.append([out, *torch.autograd.grad((out * weights).sum(), inputs)])
    return zip(*results)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 1500),
    st.sampled_from([(16, 16), (3, 96), (40, 7), (96, 112)]),
)
@settings(max_examples=25, deadline=None)
def test_convolution_and_gradients_give_what_torch_gives(seed, count, channels):
    maps = build_kernel_maps(random_coords(seed, count, 12))
    fine, coarse = maps[0].num_voxels, maps[1].num_voxels
    cases = [
        (lambda m, x, w: m.submanifold(0, x, w), fine, 27),
        (lambda m, x, w: m.down(0, x, w), fine, 8),
        (lambda m, x, w: m.up(0, x, w), coarse, 8),
        (lambda m, x, w: m.linear(0, x, w[0]), fine, 1),
    ]
    for convolve, num_in, volume in cases:
        for got, expected in both_gradients(maps, convolve, (num_in, *channels), volume):
            assert_equal_but_for_rounding(got.detach().numpy(), expected.detach().numpy())


def test_gradients_pass_gradcheck():
    """Both inputs enter linearly, so that large steps are exact but for float32 rounding."""
    maps = FusedMaps(build_kernel_maps(random_coords(0, 12, 2)))
    x = torch.randn(maps._pairs['submanifold', 0].num_rows, 2, requires_grad=True)
    kernel = torch.randn(27, 2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: maps.submanifold(0, a, b), (x, kernel), eps=0.5, atol=1e-4, rtol=1e-4
    )
    kernel = torch.randn(8, 2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: maps.up(0, maps.down(0, a, b), b.transpose(1, 2)), (x, kernel.detach())
        , eps=0.5, atol=1e-4, rtol=1e-4,
    )  # fmt: skip


def test_a_training_step_gives_the_gradients_of_torch():
    sweeps = [build_kernel_maps(random_coords(seed, 1500, 12)) for seed in (5, 6)]
    maps = concatenate_maps(sweeps)
    feats = torch.from_numpy(features_of(maps[0].coords))
    gradients = []
    for form, dtype in ((FusedMaps, torch.float32), (PairMaps, torch.float64)):
        student = make_student().train().to(dtype)
        embeddings = normalize(student(feats.to(dtype), form(maps)), dim=1)
        embeddings[:, 0].mean().backward()
        gradients.append({n: p.grad.numpy() for n, p in student.named_parameters()})
    for name, expected in gradients[1].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradients[0][name], expected, atol=2e-3 * scale, err_msg=name)


def test_packed_weights_are_blocks_of_output_channels():
    kernel = np.arange(2 * 3 * 128, dtype=np.float32).reshape(2, 3, 128)
    width = block_width(128)
    packed = pack_weights(kernel)
    assert packed.shape == (2, 128 // width, 3, width)
    assert packed[1, 1, 2].tolist() == kernel[1, 2, width : 2 * width].tolist()


def test_bfloat16_is_rounded_to_the_nearest_even():
    values = np.float32([1.0, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20])
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert to_bfloat16(values).tolist() == expected.tolist()


@cpu_has_bfloat16
@pytest.mark.parametrize('num_features', [4, 5])
def test_bfloat16_is_close_and_the_same_on_every_run(num_features):
    student = make_student(num_features=num_features)
    maps = build_kernel_maps(random_coords(7, 3000, 20))
    feats = features_of(maps[0].coords, num_features=num_features)
    expected = TorchBackend(student)(feats, maps)
    outputs = [fused(student, 'small', n, 'bfloat16')(feats, maps) for n in (1, 2)]
    assert np.array_equal(*outputs)
    error = np.linalg.norm(outputs[0] - expected) / np.linalg.norm(expected)
    assert 1e-4 < error < 0.03


def test_a_cpu_without_bfloat16_refuses_it(monkeypatch):
    monkeypatch.setattr('reldistill_ros.backends.fused_backend.HAS_BFLOAT16', False)
    with pytest.raises(InputError, match=r'(?s)does not compute in bfloat16.*float32'):
        fused(STUDENT, precision='bfloat16')


@pytest.mark.skipif(not (DATA / 'kitti_2011_09_26').is_dir(), reason=f'no recordings in {DATA}')
def test_a_real_sweep_gives_what_torch_gives():
    path = sorted((DATA / 'kitti_2011_09_26').rglob('*.bin'))[0]
    points = np.fromfile(path, np.float32).reshape(-1, 4)
    grid = VoxelSettings(voxel_size=0.1, point_cloud_range=(-51.2, -51.2, -4.0, 51.2, 51.2, 2.4))
    inputs = InputSettings(
        features=('offset', 'intensity', 'height'), intensity_mean=0.3, intensity_std=0.2
    )
    voxels = voxelise(points, grid, inputs)
    assert len(voxels.coords) > 20_000
    maps = build_kernel_maps(voxels.coords)
    got = ENGINES[2](voxels.feats, maps)
    assert_equal_but_for_rounding(got, REFERENCE(voxels.feats, maps))


@pytest.mark.parametrize(
    'feats_of', [lambda f: f[:1], lambda f: f[:, :-1], lambda f: np.repeat(f, 2, axis=0)]
)
def test_features_that_do_not_fit_are_refused(feats_of):
    maps = build_kernel_maps(random_coords(0, 200, 8))
    with pytest.raises(InputError, match='do not fit the maps or the student'):
        ENGINES[2](feats_of(features_of(maps[0].coords)), maps)


@pytest.mark.parametrize(
    ('rows', 'channels', 'dtype'),
    [
        (0, 16, torch.float64),
        (0, 4, torch.float32),
        (0, 20, torch.float32),
        (5, 16, torch.float32),
    ],
)
def test_rows_that_do_not_fit_the_kernel_or_the_maps_are_refused(rows, channels, dtype):
    maps = build_kernel_maps(random_coords(0, 200, 8))
    x = torch.zeros(rows or maps[0].num_voxels, channels, dtype=dtype)
    with pytest.raises(ValueError, match='expected float32 rows and kernel'):
        FusedMaps(maps).submanifold(0, x, torch.zeros(27, 16, 16))


def test_a_second_derivative_is_refused():
    maps = FusedMaps(build_kernel_maps(random_coords(0, 50, 4)))
    num = maps._pairs['submanifold', 0].num_rows
    x = torch.randn(num, 16, requires_grad=True)
    out = maps.submanifold(0, x, torch.randn(27, 16, 16, requires_grad=True)).square().sum()
    (first,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        first.sum().backward()


def test_gradients_are_the_same_to_the_bit_with_any_number_of_threads():
    maps = build_kernel_maps(random_coords(9, 4000, 15))
    x = torch.randn(maps[0].num_voxels, 48, requires_grad=True)
    kernel = torch.randn(27, 48, 96, requires_grad=True)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        out = FusedMaps(maps).submanifold(0, x, kernel)
        found.append(torch.autograd.grad(out.square().sum(), (x, kernel)))
    torch.set_num_threads(before)
    for gradients in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients, found[0]))


def test_the_gradient_of_a_kernel_that_very_many_rows_share_stays_exact():
    num = 200_000
    maps = FusedMaps(build_kernel_maps(np.argwhere(np.ones((num, 1, 1))).astype(np.int32)))
    x, kernel = torch.rand(num, 16), torch.zeros(16, 16, requires_grad=True)
    grad = torch.rand(num, 16)
    (got,) = torch.autograd.grad(maps.linear(0, x, kernel), kernel, grad)
    expected = x.double().T @ grad.double()
    assert_equal_but_for_rounding(got.numpy(), expected.numpy(), 5e-6)


def test_a_forked_process_computes_too():
    maps = build_kernel_maps(random_coords(4, 500, 10))
    feats = features_of(maps[0].coords)
    expected = ENGINES[2](feats, maps)
    read, write = os.pipe()
    child = os.fork()
    if not child:  # a hang must not outlive the test
        signal.alarm(20)
        os.write(write, bytes([np.array_equal(ENGINES[2](feats, maps), expected)]))
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b'\x01'
    assert os.waitpid(child, 0)[1] == 0


def test_a_helper_that_cannot_start_leaves_nobody_working_behind():
    team = ThreadTeam(3)
    working = []

    def work(own):
        working.append(own)
        time.sleep(0.2)
        working.pop()

    starts = iter([team._helpers.submit, None])

    def submit(*arguments):
        start = next(starts)
        if start is None:
            raise RuntimeError("can't start new thread")
        return start(*arguments)

    team._helpers = SimpleNamespace(submit=submit)
    with pytest.raises(RuntimeError, match='new thread'):
        team.call(work)
    assert working == []
