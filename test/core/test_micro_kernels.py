# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The fused engine computes the same on every kind of CPU, and refuses what a CPU cannot do."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite.binding import get_host_cpu_features
from random_student import NUM_FEATURES, make_student

from reldistill_ros.backends.torch_maps import PairMaps
from reldistill_ros.core.kernel_maps import build_kernel_maps

ROOT = Path(__file__).parents[2]

# What numba compiles for instead of the CPU that it finds.
BASELINE = '+64bit,+cmov,+cx8,+fxsr,+mmx,+sse,+sse2'
AVX2 = (
    f'{BASELINE},+cx16,+sahf,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+f16c,'
    '+bmi,+bmi2,+lzcnt,+movbe'
)
CPUS = {'x86-64': (BASELINE, 4), 'haswell': (AVX2, 8)}  # features, lanes of a vector

# Prints the lanes of a vector, and what asking for bfloat16 is answered with.
INFERENCE = """
import sys
from pathlib import Path

import numpy as np

from reldistill_ros.backends.fused_backend import FusedBackend
from reldistill_ros.backends.micro_kernels import LANES
from reldistill_ros.core.errors import InputError
from reldistill_ros.core.kernel_maps import build_kernel_maps

folder = Path(sys.argv[1])
weights = dict(np.load(folder / 'weights.npz'))
sweep = np.load(folder / 'sweep.npz')
backend = FusedBackend(weights, 'small', num_threads=2)
np.save(folder / 'features.npy', backend(sweep['feats'], build_kernel_maps(sweep['coords'])))
print(LANES)
try:
    FusedBackend(weights, 'small', num_threads=1, precision='bfloat16')
except InputError as error:
    print(error)
"""

x86_64_only = pytest.mark.skipif(
    platform.machine() not in ('x86_64', 'AMD64'),
    reason=f'emulates older CPUs of x86_64, this one is {platform.machine()}',
)


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
    """A folder with the weights and a sweep, and the features that torch gives."""
    folder = tmp_path_factory.mktemp('sweep')
    rng = np.random.default_rng(0)
    coords = np.unique(rng.integers(0, 12, (300, 3)), axis=0).astype(np.int32)
    feats = rng.normal(size=(len(coords), NUM_FEATURES)).astype(np.float32)
    student = make_student()
    np.savez(folder / 'weights.npz', **{k: v.numpy() for k, v in student.state_dict().items()})
    np.savez(folder / 'sweep.npz', coords=coords, feats=feats)
    maps = PairMaps(build_kernel_maps(coords))
    with torch.no_grad():
        return folder, student.backbone(torch.from_numpy(feats), maps).numpy()


@x86_64_only
@pytest.mark.parametrize('cpu', CPUS)
def test_the_engine_equals_torch_on_older_cpus_and_refuses_bfloat16_there(cpu, expected, tmp_path):
    folder, features = expected
    instructions, lanes = CPUS[cpu]
    if lanes == 8 and not get_host_cpu_features()['avx2']:
        pytest.skip('this CPU has no AVX2')
    result = subprocess.run(
        [sys.executable, '-c', INFERENCE, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            'NUMBA_CPU_NAME': cpu,
            'NUMBA_CPU_FEATURES': instructions,
            'NUMBA_CACHE_DIR': str(tmp_path),
        },
    )
    assert result.returncode == 0, result.stderr
    first, *answer = result.stdout.splitlines()
    assert int(first) == lanes  # the kernels are those of that CPU
    scale = np.abs(features).max()
    got = np.load(folder / 'features.npy')
    np.testing.assert_allclose(got / scale, features / scale, atol=1e-4, rtol=0)
    assert answer[0] == 'this CPU does not compute in bfloat16'
    assert 'set the precision to float32' in answer[-1]
