# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The benchmarks for a GPU: what they do without one, and that they run through with one."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from benchmark import gpu_losses, gpu_training
from benchmark.gpu_batch import Voxels, read_batch
from reldistill_ros.core.errors import InputError
from trainer.settings import CHECKOUT

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')


def random_voxels(num_sweeps=2, count=150, grid=10):
    rng = np.random.default_rng(0)
    coords = [
        np.unique(rng.integers(0, grid, (count, 3)), axis=0).astype(np.int32)
        for _ in range(num_sweeps)
    ]
    sizes = np.array([len(c) for c in coords])
    feats = rng.standard_normal((sizes.sum(), 6), np.float32)
    return Voxels(feats, np.concatenate(coords), sizes)


@needs_none
@pytest.mark.parametrize('module', ['gpu_training', 'gpu_losses', 'gpu_tiles'])
def test_without_a_gpu_one_sentence_and_exit_code_three(module):
    command = [sys.executable, '-m', f'benchmark.{module}']
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, '')
    assert done.stdout == 'there is no CUDA device on this machine: nothing was measured\n'


@needs_none
def test_without_a_gpu_nothing_is_measured():
    with pytest.raises(InputError, match='no CUDA device'):
        gpu_training.measure(random_voxels())
    with pytest.raises(InputError, match='no CUDA device'):
        gpu_losses.measure()


def test_a_batch_is_read_as_it_was_written(tmp_path):
    voxels = random_voxels()
    np.savez(tmp_path / 'batch.npz', feats=voxels.feats, coords=voxels.coords, sizes=voxels.sizes)
    read = read_batch(tmp_path / 'batch.npz')
    assert [level.num_voxels for level in read.maps] == [level.num_voxels for level in voxels.maps]


def test_a_step_is_timed_and_compared_on_whatever_device(monkeypatch):
    """On the CPU, with a clock for CUDA's events."""

    def timed(action):
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    monkeypatch.setattr(gpu_training, 'timed', timed)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda: None)
    step = gpu_training.Step(random_voxels(), 'small', torch.device('cpu'))
    row = gpu_training.measure_backend(step, 'torch', 'float32', False, 2)
    assert row['relative_error'] == 0
    assert 0 < row['network_seconds'] < 60
    assert row['useful_tflops'] == pytest.approx(step.flops / row['network_seconds'] / 1e12)
    rows = gpu_training.measure_backend(step, 'triton', 'float32', False, 2)
    assert rows.keys() == {'backend', 'precision', 'failed'}  # and the others are still measured
    result = {'rows': [row, {**row, 'failed': 'out of memory'}], 'left_out': {'spconv': 'absent'}}
    lines = gpu_training.table(result).splitlines()
    assert len(lines) == 4
    assert lines[2].endswith('out of memory')


def test_ratios_compare_with_the_fastest_peer_of_the_same_width():
    seconds = [
        ('triton', 'bfloat16', 1.0),
        ('spconv', 'float16', 2.0),
        ('torchsparse', 'float16', 1.5),
        ('triton', 'float32', 4.0),
        ('spconv', 'tf32', 3.0),
    ]
    rows = [
        {'backend': name, 'precision': precision, 'seconds': s, 'network_seconds': s}
        for name, precision, s in seconds
    ]
    gpu_training.add_ratios(rows)
    assert [row['seconds_ratio_to_peer'] for row in rows] == [1.5, 0.75, 1.0, 0.75, 1.0]


@pytest.mark.gpu
@needs_gpu
def test_every_backend_on_this_gpu_gives_a_row():
    result = gpu_training.measure(random_voxels(4, 4000, 40), 'minkunet18', 2)
    json.dumps(result, allow_nan=False)
    rows = {(row['backend'], row['precision']): row for row in result['rows']}
    assert rows['triton', 'float32']['relative_error'] < 1e-3
    assert rows['triton', 'bfloat16']['relative_error'] < 5e-2
    assert all(row['peak_mib'] > 0 for row in result['rows'])


@pytest.mark.gpu
@needs_gpu
def test_the_loss_on_this_gpu_is_compared_with_its_peak():
    result = gpu_losses.measure(2048, 2)
    json.dumps(result, allow_nan=False)
    assert [row['precision'] for row in result['rows']] == ['float32', 'tf32']
    assert all(0 < row['share_of_peak'] < 1.2 for row in result['rows'])
    assert result['rows'][1]['relative_error'] < 0.05
