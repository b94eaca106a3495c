# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The benchmark counts right, compares what is equal, and writes what its readers expect."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from benchmark.lidar_sweep import POINT_CLOUD_RANGE
from benchmark.numpy_maps import compare_maps, numpy_maps
from benchmark.sparse import measure, write_inputs
from benchmark.sparse_engines import ENGINES, TASKS, obstacle
from benchmark.sparse_reference import write_expected
from benchmark.sparse_report import markdown_report, ratios_to_peers, save_plot
from benchmark.sparse_worker import WARM_UP
from benchmark.sparse_workload import Workload, count_flops
from reldistill_ros.core.kernel_maps import LevelMaps, build_kernel_maps
from reldistill_ros.core.network import backbone_convolutions
from reldistill_ros.core.settings import VoxelSettings

COLUMNS = {
    *('case', 'network', 'engine', 'mode', 'dtype', 'median_s', 'iqr_s', 'peak_mb', 'gflops'),
    *('relative_error', 'note'),
}
POINTS = np.random.default_rng(0).uniform(-6, 6, (3000, 4)).astype(np.float32)
VOXEL = VoxelSettings(voxel_size=0.4, point_cloud_range=POINT_CLOUD_RANGE)


@pytest.fixture(scope='module')
def workload(tmp_path_factory):
    """The warm-up sweep itself, with the small student."""
    folder = tmp_path_factory.mktemp('workload')
    write_inputs(folder, cases=(), networks=())
    network, case = WARM_UP
    tiny = Workload(folder, case, network)
    write_expected(tiny)
    return tiny


def test_flops_of_one_voxel_are_those_of_the_centre_kernels():
    layers = backbone_convolutions('minkunet18', 6)
    by_hand = sum(2 * layer.c_in * layer.c_out for layer in layers)
    flops = count_flops('minkunet18', build_kernel_maps(np.zeros((1, 3), np.int32)))
    assert flops['forward'] == by_hand
    assert flops['forward_backward'] == 3 * by_hand - 2 * 6 * 32


def test_flops_count_existing_pairs_only():
    # Two voxels of one parent: level 0 has 4 pairs, the way down and up 2, the rest is one voxel.
    maps = build_kernel_maps(np.array([[0, 0, 0], [0, 0, 1]], np.int32))
    by_hand = 0
    for layer in backbone_convolutions('small', 6):
        pairs = 1
        if layer.level == 0:
            pairs = 4 if layer.kind == 'submanifold' else 2
        by_hand += 2 * pairs * layer.c_in * layer.c_out
    assert count_flops('small', maps)['forward'] == by_hand


def test_numpy_gives_the_same_voxels_and_maps():
    assert set(compare_maps(POINTS, VOXEL)) == {'points', 'ours_s', 'numpy_s', 'ratio'}


@pytest.mark.parametrize('name', [field.name for field in fields(LevelMaps)])
def test_maps_that_differ_are_not_timed(name, monkeypatch):
    def with_one_wrong_entry(coords):
        *finer, last = numpy_maps(coords)
        wrong = getattr(finer[-1], name).copy()
        wrong.flat[-1] += 1
        return (*finer[:-1], replace(finer[-1], **{name: wrong}), last)

    monkeypatch.setattr('benchmark.numpy_maps.numpy_maps', with_one_wrong_entry)
    with pytest.raises(AssertionError, match=name):
        compare_maps(POINTS, VOXEL)


def test_rows_hold_every_mode_of_our_engines_and_their_outputs_are_right(workload, tmp_path):
    engines = [engine for engine in ENGINES if not engine.is_peer and not obstacle(engine)]
    rows = [row for task in TASKS for row in measure(workload, task, engines, num_runs=2)]
    modes = {(row['engine'], row['mode']) for row in rows}
    assert {('ours-fused', mode) for mode in ('maps', 'forward', 'labeller')} <= modes
    assert ('ours-fused', 'forward_backward') in modes
    assert ('ours-onnx', 'forward_backward') not in modes
    for row in rows:
        assert set(row) == COLUMNS
        assert row['median_s'] > 0
        if row['mode'] == 'forward':
            assert row['gflops'] > 0
            assert row['relative_error'] < (1e-5 if row['dtype'] == 'float32' else 0.03)
        if row['mode'] == 'forward_backward':
            # norms over two voxels at the coarsest level enlarge what float32 rounds
            assert row['relative_error'] < 5e-3
    results = _results(rows, workload)
    json.dumps(results, allow_nan=False)
    assert 'ours-fused' in markdown_report(results)
    save_plot(results, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size > 1000


def _results(rows, workload):
    return {
        'rows': rows,
        'ratios': ratios_to_peers(rows),
        'fma_peak_gflops': 100.0,
        'gemm_peak_gflops': 90.0,
        'numpy_maps': {'points': 1, 'ours_s': 1.0, 'numpy_s': 4.0, 'ratio': 4.0},
        'sweeps': {workload.case: {'points': 1, 'voxels': [1], 'mean_neighbours': [1.0]}},
        'runs': 2,
        'device': 'a CPU',
        'date': '2026-01-01',
        'commit': 'unknown',
    }


def test_ratios_pair_our_rows_with_the_peers_of_the_same_mode():
    def row(engine, mode, seconds):
        same = {'case': '32', 'network': 'minkunet18', 'peak_mb': 100.0}
        return {**same, 'engine': engine, 'mode': mode, 'median_s': seconds}

    rows = [row('ours-fused', 'forward', 0.1), row('spconv-cpu-1', 'forward', 0.5)]
    rows.append(row('spconv-cpu-1', 'maps', 0.02))
    (ratio,) = ratios_to_peers(rows)
    assert (ratio['engine'], ratio['peer'], ratio['mode']) == (
        'ours-fused',
        'spconv-cpu-1',
        'forward',
    )
    assert ratio['speed'] == pytest.approx(5)


@pytest.mark.parametrize('name', ['spconv-cpu-1', 'torchsparse-cpu-2', 'minkowski-cpu-2'])
def test_a_peer_gives_what_ours_gives(workload, name):
    engine = next(engine for engine in ENGINES if engine.name == name)
    if reason := obstacle(engine):
        pytest.skip(reason)
    found = [row for task in TASKS for row in measure(workload, task, [engine], num_runs=1)]
    rows = {row['mode']: row for row in found}
    assert rows['forward']['relative_error'] < 1e-5
    assert ('forward_backward' in rows) == engine.trains
    if engine.trains:
        assert rows['forward_backward']['relative_error'] < 5e-3
