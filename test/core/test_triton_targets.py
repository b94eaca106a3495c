# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The Triton kernels compile for the GPUs we name, on a machine that has none of them."""

from __future__ import annotations

import inspect

import pytest

triton = pytest.importorskip('triton', reason='triton is not installed')

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.errors import PTXASError  # noqa: E402

from reldistill_ros.backends import triton_kernels  # noqa: E402

TARGETS = {80: 'A100', 87: 'Jetson Orin', 89: 'RTX 40', 90: 'H100, H200'}
WIDE = {'C_IN': 96, 'C_OUT': 96, 'WIDTH': 128}
KERNELS = {
    'convolve_tiles': {'NUM_OFFSETS': 27, 'ROWS': 128, 'DEPTH': 64, **WIDE},
    'multiply_chunks': {'HEIGHT': 128, 'PAIRS': 64, **WIDE},
    'add_chunks': {'BLOCK': 256},
}
INTEGERS = {'table', 'order', 'tile_offsets', 'tile_counts', 'first_chunks'}
INTEGERS |= {'pairs_in', 'pairs_out', 'chunk_starts', 'chunk_ends'}
FLOATS = {'partial', 'gradient'}


def source(name, dtype):
    """The kernel as it is launched for 96 channels, pointers aligned as torch aligns them."""
    kernel = getattr(triton_kernels, name)
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {n: v for n, v in (KERNELS[name] | {'PRECISION': 'ieee'}).items() if n in names}
    signature = {}
    for n in names:
        if n in constants:
            signature[n] = 'constexpr'
        elif n.startswith('num_') or n == 'size':
            signature[n] = 'i32'
        else:
            signature[n] = '*i32' if n in INTEGERS else '*fp32' if n in FLOATS else f'*{dtype}'
    pointers = [i for i, n in enumerate(names) if signature[n].startswith('*')]
    aligned = {(i,): [['tt.divisibility', 16]] for i in pointers}
    return ASTSource(kernel, signature, constants, aligned)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Nothing that was compiled before counts."""
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))


@pytest.mark.parametrize('capability', TARGETS)
@pytest.mark.parametrize('name', KERNELS)
def test_kernels_compile_to_machine_code_with_matrix_units(name, capability):
    try:
        compiled = triton.compile(
            source(name, 'bf16'),
            target=GPUTarget('cuda', capability, 32),
            options={'num_warps': 8, 'num_stages': 3},
        )
    except PTXASError as error:
        if 'is not defined for option' not in str(error):
            raise
        pytest.skip(f'this ptxas does not know sm_{capability} ({TARGETS[capability]})')
    assert compiled.asm['cubin']
    # what a block of threads may have on each: 99 KiB on sm_89, 163 KiB on the others and more
    assert compiled.metadata.shared <= 99 * 1024
    ptx = compiled.asm['ptx']
    if name != 'add_chunks':
        assert ('wgmma.mma_async' if capability == 90 else 'mma.sync') in ptx
        assert 'cp.async' in ptx  # rows are fetched ahead
    assert '.local' not in ptx  # sums stay in registers
