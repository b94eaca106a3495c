# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""What the machine can do at most: fused multiply-adds in registers, and dense matrix products.

`python -m benchmark.machine_peak` prints both as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any

import torch
from llvmlite import ir
from numba import types
from torch.nn import functional as F

from reldistill_ros.backends import micro_kernels
from reldistill_ros.backends.micro_kernels import FLOATS, I32, I64, LANES, declare, inline_code
from reldistill_ros.core.compiled import compiled

NUM_THREADS = 2
CHAINS = 12  # independent sums: two units times four cycles of latency need eight
NUM_STEPS = 20_000_000
NUM_RUNS = 10
MATRIX_SIZE = 2048


@inline_code
def _multiply_add_chains(_: Any, steps: Any, scale: Any) -> Any:
    """Sum over `CHAINS` vectors of what `steps` updates `total = total * scale + scale` give."""

    def codegen(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        steps, scale = args
        factor = ir.Constant(FLOATS, ir.Undefined)
        for lane in range(LANES):
            factor = builder.insert_element(factor, scale, ir.Constant(I32, lane))
        total = reduce(builder.fadd, _update_chains(builder, steps, factor))
        lanes = [builder.extract_element(total, ir.Constant(I32, i)) for i in range(LANES)]
        return reduce(builder.fadd, lanes)

    return types.float32(types.int64, types.float32), codegen


def _update_chains(builder: Any, steps: Any, factor: Any) -> list[Any]:
    """Emit the loop; the totals after it."""
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    multiply_add = declare(builder, kind, f'llvm.fmuladd.v{LANES}f32')
    entry, body = builder.block, builder.append_basic_block('update')
    after = builder.append_basic_block('after')
    builder.branch(body)
    builder.position_at_end(body)
    step = builder.phi(I64)
    totals = [builder.phi(FLOATS) for _ in range(CHAINS)]
    updated = [builder.call(multiply_add, [total, factor, factor]) for total in totals]
    following = builder.add(step, ir.Constant(I64, 1))
    step.add_incoming(ir.Constant(I64, 0), entry)
    step.add_incoming(following, body)
    for chain, (total, value) in enumerate(zip(totals, updated)):
        # chains that start alike would be merged into one
        total.add_incoming(ir.Constant(FLOATS, [float(chain)] * LANES), entry)
        total.add_incoming(value, body)
    builder.cbranch(builder.icmp_signed('<', following, steps), body, after)
    builder.position_at_end(after)
    return updated


@compiled(micro_kernels)
def _run_chains(steps: int, scale: float) -> float:
    total: float = _multiply_add_chains(steps, types.float32(scale))
    return total


def fma_peak() -> float:
    """GFLOP/s of float32 multiply-adds with all operands in registers, all threads."""
    _run_chains(1, 0.5)
    flops = 2.0 * NUM_THREADS * NUM_STEPS * CHAINS * LANES
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        seconds = _fastest(
            lambda: list(pool.map(_run_chains, [NUM_STEPS] * NUM_THREADS, [0.5] * NUM_THREADS))
        )
    return flops / seconds / 1e9


def gemm_peak() -> float:
    """GFLOP/s of a large square float32 product: the better of torch's two libraries."""
    torch.set_num_threads(NUM_THREADS)
    a, b = torch.randn(2, MATRIX_SIZE, MATRIX_SIZE).unbind()
    image, kernel = a.T[None, :, :, None].contiguous(), b[:, :, None, None]
    seconds = min(_fastest(lambda: a @ b), _fastest(lambda: F.conv2d(image, kernel)))
    return 2.0 * MATRIX_SIZE**3 / seconds / 1e9


@torch.inference_mode()
def _fastest(run: Callable[[], object]) -> float:
    times = []
    for _ in range(NUM_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == '__main__':
    print(json.dumps({'fma_peak_gflops': fma_peak(), 'gemm_peak_gflops': gemm_peak()}))
