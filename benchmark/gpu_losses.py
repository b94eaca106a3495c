# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The relational loss on CUDA against the GPU's peak of matrix products.

`python -m benchmark.gpu_losses --json OUT.json`. Value and gradient of all three terms; its five
products of N x N x D each count 2 N^2 D operations. The peak is measured beside it: a square product
of float32 rounded to TF32, of which both precisions are given as a share; those of bfloat16 and of
plain float32 are measured for comparison. With `tf32: true` a run's losses may round what they
multiply to 10 bits behind the point; `relative_error` says what that costs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.gpu_batch import NO_CUDA, NO_GPU_EXIT, timed
from reldistill_ros.core.errors import InputError, run_command
from reldistill_ros.core.files import write_json
from trainer.losses import relational_terms
from trainer.provenance import provenance

SIZE = 512  # D
NUM_PRODUCTS = 5  # Q Q^T, K Q^T, K K^T, and one for each of two gradients
MATRIX_SIZE = 8192
WARM_UP = 3
PRECISIONS = {'float32': 'highest', 'tf32': 'high'}


def measure(num_pairs: int = 16384, num_runs: int = 10) -> dict[str, Any]:
    """Operations per second of the loss in both precisions, and those of plain products.

    Raises:
        InputError: there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise InputError(NO_CUDA)
    peaks = {name: matrix_peak(name, num_runs) for name in ('bfloat16', *PRECISIONS)}
    rows = [measure_loss(name, num_pairs, num_runs) for name in PRECISIONS]
    for row in rows:
        row['share_of_peak'] = row['tflops'] / peaks['tf32']
    return {
        'gpu': torch.cuda.get_device_name(),
        'pairs': num_pairs,
        'size': SIZE,
        'peak_tflops': peaks,
        'rows': rows,
    }


def matrix_peak(precision: str, num_runs: int) -> float:
    """TFLOP/s of a product of square matrices of noise."""
    torch.set_float32_matmul_precision(PRECISIONS.get(precision, 'highest'))
    dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
    one, other = (
        torch.randn(MATRIX_SIZE, MATRIX_SIZE, device='cuda', dtype=dtype) for _ in range(2)
    )
    times = [timed(lambda: one @ other) for _ in range(WARM_UP + num_runs)]
    return 2 * MATRIX_SIZE**3 / median(times[WARM_UP:]) / 1e12


def measure_loss(precision: str, num_pairs: int, num_runs: int) -> dict[str, Any]:
    """Time, memory and error of value and gradient."""
    generator = torch.Generator('cuda').manual_seed(0)
    student, teacher = (
        normalize(torch.randn(num_pairs, SIZE, device='cuda', generator=generator), dim=1)
        for _ in range(2)
    )
    student.requires_grad_()
    torch.set_float32_matmul_precision('highest')
    expected = value_and_gradient(student, teacher)[1]
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    torch.cuda.reset_peak_memory_stats()
    times = [
        timed(lambda: value_and_gradient(student, teacher)) for _ in range(WARM_UP + num_runs)
    ]
    gradient = value_and_gradient(student, teacher)[1]
    seconds = median(times[WARM_UP:])
    return {
        'precision': precision,
        'seconds': seconds,
        'tflops': NUM_PRODUCTS * 2 * num_pairs**2 * SIZE / seconds / 1e12,
        'peak_mib': torch.cuda.max_memory_allocated() / 2**20,
        'relative_error': ((gradient - expected).norm() / expected.norm()).item(),
    }


def value_and_gradient(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of all terms, and its gradient (N, D)."""
    loss = torch.stack(list(vars(relational_terms(student, teacher)).values())).sum()
    (gradient,) = torch.autograd.grad(loss, student)
    return loss.detach(), gradient


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.gpu_losses', description=__doc__)
    parser.add_argument('--pairs', type=int, default=16384)
    parser.add_argument('--runs', type=int, default=10)
    parser.add_argument('--json', type=Path, help='file to write')
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_CUDA)
        sys.exit(NO_GPU_EXIT)
    result = measure(arguments.pairs, arguments.runs)
    print('peaks:', ', '.join(f'{k} {v:.0f} TFLOP/s' for k, v in result['peak_tflops'].items()))
    for row in result['rows']:
        print(
            f'{row["precision"]:8} {1e3 * row["seconds"]:7.2f} ms {row["tflops"]:6.0f} TFLOP/s, '
            f'{row["share_of_peak"]:.0%} of the peak, {row["peak_mib"]:.0f} MiB, '
            f'error of the gradient {row["relative_error"]:.1e}'
        )
    if arguments.json is not None:
        write_json(arguments.json, result | provenance())


if __name__ == '__main__':
    run_command(main)
