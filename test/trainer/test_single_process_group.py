# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Batch norm and gathered pairs in a group of a single process, on the CPU and on a GPU."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.gather import gather_pairs
from trainer.synced_norm import SyncedBatchNorm

BACKWARD = torch.ops.aten.native_batch_norm_backward.default
CUDA = pytest.param(
    ('cuda', 'cpu:gloo,cuda:nccl'),
    marks=(
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device'),
    ),
)


@pytest.fixture(params=[('cpu', 'gloo'), CUDA], ids=['cpu', 'cuda'])
def device(request, tmp_path):
    """A device of the only process of a group, set up as `ProcessGroup` does."""
    name, backend = request.param
    options = {'init_method': f'file://{tmp_path}/meet', 'rank': 0, 'world_size': 1}
    dist.init_process_group(backend, **options)
    yield name
    dist.destroy_process_group()


def learn(norm, x):
    """What a norm gives, and its gradients."""
    x = x.clone().requires_grad_()
    out = norm(x)
    weights = torch.linspace(-1, 2, x.numel(), device=x.device).view_as(x)
    (out.square() * weights).sum().backward()
    return out.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_var


def test_a_single_process_normalises_as_batch_norm_does(device):
    torch.manual_seed(0)
    norm, other = nn.BatchNorm1d(8).to(device), nn.BatchNorm1d(8).to(device)
    x = 3 * torch.randn(50, 8, device=device) + 5
    for ours, expected in zip(learn(SyncedBatchNorm(norm), x), learn(other, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_sizes_of_gathered_pairs_are_exchanged_once(device, monkeypatch):
    exchanged, all_gather = [], dist.all_gather
    monkeypatch.setattr(
        dist, 'all_gather', lambda out, own: exchanged.append(own.shape) or all_gather(out, own)
    )
    student = torch.ones(5, 3, device=device, requires_grad=True)
    gather_pairs(student, torch.ones(5, 4, device=device))[0].sum().backward()
    assert [tuple(shape) for shape in exchanged] == [(1,), (5, 3), (5, 4)]
    assert student.grad.shape == (5, 3)


class Arguments(TorchDispatchMode):
    """Notes what the backward pass of a batch norm is called with."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is BACKWARD:
            self.noted = args
        return func(*args, **(kwargs or {}))


def test_the_backward_pass_gets_all_statistics_as_cuda_needs_them(device):
    norm = SyncedBatchNorm(nn.BatchNorm1d(8).to(device))
    with Arguments() as arguments:
        learn(norm, torch.randn(50, 8, device=device))
    assert all(isinstance(given, torch.Tensor) for given in arguments.noted[:7])
