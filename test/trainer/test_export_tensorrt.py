# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The student as a program for torch-tensorrt: what it computes, and that all of it is taken."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'core'))
from random_student import make_student

from reldistill_ros.backends.engine_sizes import input_shapes
from reldistill_ros.backends.tables import table_inputs
from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.student import folded_copy
from trainer.export_tensorrt import check_can_build, export_program
from trainer.settings import CHECKOUT

NUM_FEATURES = 6


@pytest.mark.parametrize(('precision', 'tolerance'), [('float32', 1e-5), ('float16', 1e-2)])
def test_the_program_computes_what_the_student_does_for_any_number_of_voxels(precision, tolerance):
    backbone = folded_copy(make_student('small', NUM_FEATURES)).backbone
    program = export_program(
        folded_copy(make_student('small', NUM_FEATURES)).backbone, NUM_FEATURES, precision, 'cpu'
    ).module()
    for count in (2, 300):
        rng = np.random.default_rng(count)
        coords = np.unique(rng.integers(0, 20, (count, 3)), axis=0).astype(np.int32)
        feats = torch.from_numpy(rng.normal(size=(len(coords), 6)).astype(np.float32))
        maps = build_kernel_maps(coords)
        tables = [torch.from_numpy(table) for table in table_inputs(maps).values()]
        with torch.inference_mode():
            expected = backbone(feats, PairMaps(maps))
            got = program(feats, *tables)
        assert got.dtype == torch.float32
        scale = float(expected.abs().max())
        torch.testing.assert_close(got, expected, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize(
    ('network', 'precision'), [('minkunet18', 'float32'), ('minkunet18', 'float16')]
)
def test_torch_tensorrt_takes_every_operator_into_one_engine(network, precision):
    if importlib.util.find_spec('torch_tensorrt') is None:
        pytest.skip('needs torch-tensorrt: pip install --no-deps torch_tensorrt_rtx==2.13.0')
    if torch.version.cuda is not None:
        pytest.skip('this torch has CUDA: engines are built for real there')
    result = subprocess.run(
        [sys.executable, 'test/trainer/torch_tensorrt_dry_run.py', network, precision],
        cwd=CHECKOUT,
        env={'PYTHONPATH': str(CHECKOUT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    if 'ModuleNotFoundError' in result.stderr:
        pytest.skip(f'torch-tensorrt misses {result.stderr.strip().splitlines()[-1]}')
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found['operators'] > 250
    assert found['supported'] == found['operators']
    assert (found['engines'], found['unsupported'], found['left_in_torch']) == (1, [], [])
    assert found['names'] == list(input_shapes((1,) * 5, NUM_FEATURES))


def test_without_a_gpu_the_command_says_so_at_once(tmp_path):
    if torch.cuda.is_available():
        pytest.skip('this machine has a GPU')
    with pytest.raises(InputError, match=r'(?s)torch sees none.*leave --tensorrt out'):
        check_can_build()
    result = subprocess.run(
        [sys.executable, '-m', 'trainer.export', 'no_run', '--out', tmp_path / 'x', '--tensorrt'],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert 'torch sees none' in result.stderr
