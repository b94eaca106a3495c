# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The relational loss's Triton kernel does what plain torch does, and its losses are those."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from trainer.blockwise import _gaps_to_signs
from trainer.losses import relational_terms

triton = pytest.importorskip('triton', reason='triton is not installed')

MODULE = 'trainer.gap_kernel'
gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device'),
)


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=gpu)])
def kernel(request, monkeypatch):
    """Device and kernel; on a CPU in Triton's interpreter."""
    if request.param == 'cpu':
        if triton.__version__ < '3.7' and np.__version__ >= '2.4':
            pytest.skip('the interpreter of Triton 3.6 does not run under NumPy 2.4')
        monkeypatch.setenv('TRITON_INTERPRET', '1')
        monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield request.param, importlib.import_module(MODULE).gaps_to_signs
    if request.param == 'cpu':
        sys.modules.pop(MODULE, None)


@pytest.mark.parametrize('with_others', [False, True])
@pytest.mark.parametrize(('rows', 'num', 'first'), [(5, 40, 7), (3, 2500, 2497), (1, 1, 0)])
def test_signs_and_sums_equal_those_of_plain_torch(kernel, rows, num, first, with_others):
    device, gaps_to_signs = kernel
    generator = torch.Generator().manual_seed(0)
    gap = torch.randn(rows, num, generator=generator)
    gap[0, :1] = 0  # neither sign
    own, others = torch.rand(rows, generator=generator), torch.rand(num, generator=generator)
    others = others if with_others else None
    ours = gap.clone().to(device)
    sums = gaps_to_signs(
        ours, first, own.to(device), None if others is None else others.to(device)
    )
    expected = _gaps_to_signs(gap, first, own, others)
    torch.testing.assert_close(sums.cpu(), expected)
    torch.testing.assert_close(ours.cpu(), gap)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize(('precision', 'close'), [('highest', 1e-5), ('high', 2e-3)])
def test_the_loss_on_cuda_is_that_of_the_cpu(precision, close):
    generator = torch.Generator().manual_seed(0)
    rows = [normalize(torch.randn(5000, 64, generator=generator), dim=1) for _ in range(2)]
    weights = torch.rand(5000, generator=generator)
    results = []
    torch.set_float32_matmul_precision(precision)
    for device in ('cpu', 'cuda'):
        student, teacher = (r.to(device) for r in rows)
        student.requires_grad_()
        terms = relational_terms(student, teacher, weights.to(device))
        sum(vars(terms).values()).backward()
        results.append([*(v.detach().cpu() for v in vars(terms).values()), student.grad.cpu()])
    torch.set_float32_matmul_precision('highest')
    for one, other in zip(*results):
        # a sign may flip where a gap is next to nothing: the gradient is near, not equal
        limit = close if one.dim() == 0 else 20 * close
        assert (one - other).norm() < limit * one.norm()
