# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Kernels are compiled once for a machine, say so, and do without a cache where they must."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Prints a digest of everything that the kernels compute.
START = """
import hashlib
import numpy as np
from reldistill_ros.core.kernel_maps import build_kernel_maps
from reldistill_ros.core.settings import InputSettings, VoxelSettings
from reldistill_ros.core.voxels import voxelise

points = np.random.default_rng(0).uniform(-3, 3, (5000, 4)).astype(np.float32)
voxel = VoxelSettings(voxel_size=0.1, point_cloud_range=(-4.0, -3.0, -1.0, 4.0, 3.0, 1.0))
voxels = voxelise(points, voxel, InputSettings())
arrays = [voxels.feats, voxels.point_to_voxel]
for level in build_kernel_maps(voxels.coords):
    arrays += [level.coords, level.submanifold, level.parent, level.child, level.down]
print(hashlib.sha256(b''.join(array.tobytes() for array in arrays)).hexdigest())
"""

# A home and a package folder without a writable cache, whoever runs the tests.
NO_CACHE = """
from numba.core import caching

def refuse(self):
    raise OSError('read-only file system')

caching._CacheLocator.ensure_cache_path = refuse
"""


def start(cache, script=START):
    """What a fresh interpreter prints to stdout and stderr."""
    result = subprocess.run(
        [sys.executable, '-c', script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'NUMBA_CACHE_DIR': str(cache)},
        check=True,
    )
    return result.stdout, result.stderr


def write_kernel(folder, options=''):
    """A module with one small kernel."""
    (folder / 'doubled.py').write_text(
        'from reldistill_ros.core.compiled import compiled\n\n\n'
        f'@compiled({options})\ndef double(x: float) -> float:\n    return 2 * x\n'
    )


def call_kernel(folder):
    """Prints 3.0 and whether the kernel was compiled with fastmath."""
    return f"""
import sys

sys.path.append({str(folder)!r})
from doubled import double

print(double(1.5), double.targetoptions.get('fastmath', False))
"""


def test_the_first_start_says_that_it_compiles_and_the_second_has_nothing_to_say(tmp_path):
    digest, told = start(tmp_path)
    assert told.startswith('reldistill: compiling for this CPU, up to half a minute, once; ')
    assert f'it is kept in {tmp_path}' in told
    assert len(told.splitlines()) == 1
    assert start(tmp_path) == (digest, '')


def test_without_a_folder_for_the_cache_it_compiles_at_every_start_and_says_how_to_change_it(
    tmp_path,
):
    write_kernel(tmp_path)
    for _ in range(2):
        doubled, told = start(tmp_path, NO_CACHE + call_kernel(tmp_path))
        assert doubled.split() == ['3.0', 'False']
        assert told.startswith(
            'reldistill: compiling for this CPU, up to half a minute, at every start'
        )
        assert 'NUMBA_CACHE_DIR' in told
        assert len(told.splitlines()) == 1


def test_kernels_of_others_are_not_announced(tmp_path):
    script = """
import numba
import reldistill_ros.core.compiled

assert numba.njit(lambda x: x + 1)(1) == 2
"""
    assert start(tmp_path, script) == ('', '')


@pytest.mark.parametrize('options', ['', 'fastmath=True'])
def test_a_kernel_takes_further_options_of_the_compiler(tmp_path, options):
    write_kernel(tmp_path, options)
    assert start(tmp_path, call_kernel(tmp_path))[0].split() == ['3.0', str(bool(options))]


def test_a_kernel_is_made_anew_when_a_module_that_it_uses_has_changed_whatever_its_date(tmp_path):
    used = tmp_path / 'used.py'
    text = 'from reldistill_ros.core.compiled import compiled\n\n\n'
    (tmp_path / 'user.py').write_text(
        f'import used\n{text}@compiled(used)\ndef total(x: float) -> float:\n'
        '    return used.summand(x) + 1\n'
    )
    script = f'import sys\nsys.path.append({str(tmp_path)!r})\nimport user\nprint(user.total(1.0))'
    for summand, expected in (('x', '2.0'), ('x', '2.0'), ('x + 10', '12.0')):
        used.write_text(
            f'{text}@compiled()\ndef summand(x: float) -> float:\n    return {summand}\n'
        )
        os.utime(used, (1_000_000_000, 1_000_000_000))
        assert start(tmp_path, script)[0].strip() == expected


def test_processes_may_start_together_on_a_fresh_checkout(tmp_path):
    (tmp_path / 'used.py').write_text('')
    (tmp_path / 'user.py').write_text(
        'import used\nfrom reldistill_ros.core.compiled import compiled\n'
        + ''.join(f'@compiled(used)\ndef double_{n}(x):\n    return 2 * x\n' for n in range(200))
    )
    script = f"""
import multiprocessing
import sys

import reldistill_ros.core.compiled

sys.path.append({str(tmp_path)!r})
context = multiprocessing.get_context('fork')
together = context.Barrier(8)


def load():
    together.wait()
    import user


processes = [context.Process(target=load) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""
    assert start(tmp_path / 'cache', script) == (f'{[0] * 8}\n', '')
