# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Batch norm over the rows of all processes, on CPUs and on GPUs.

`torch.nn.SyncBatchNorm` takes CUDA tensors only, so what trains could not be tested without.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F


class SyncedBatchNorm(nn.BatchNorm1d):
    """`BatchNorm1d` of the rows of all processes together, of which each may have any number.

    Names and values of its state are those of the norm that it replaces.
    """

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.to(norm.weight.device)
        self.load_state_dict(norm.state_dict())
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (V, C)."""
        if not self.training:
            return super().forward(x)
        mean, var, count = whole_statistics(x)
        self._follow(mean, var * count / (count - 1).clamp(min=1))
        normalised: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, mean, var, count, self.eps
        )
        return normalised

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased_var: Tensor) -> None:
        """Move the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_var, self.momentum)
        self.num_batches_tracked.add_(1)


def synchronise_norms(network: nn.Module) -> None:
    """Replace the batch norms of a network in place."""
    for layer in list(network.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.BatchNorm1d):
                setattr(layer, name, SyncedBatchNorm(child))


@torch.no_grad()
def whole_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and number () of the rows (V, C) of all processes, float32.

    The parts are put together as in Chan, Golub and LeVeque, 1983, which is exact also where the
    mean is much larger than the spread.
    """
    zeros = x.new_zeros(x.shape[1], dtype=torch.float32)
    var, mean = torch.var_mean(x.float(), dim=0, correction=0) if len(x) else (zeros, zeros)
    own = torch.cat([mean, var, zeros.new_full((1,), len(x))])
    received = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(received, own)
    means, variances, counts = torch.split(torch.stack(received), [len(mean), len(var), 1], dim=1)
    count = counts.sum()
    mean = (counts * means).sum(dim=0) / count
    var = (counts * (variances + (means - mean).square())).sum(dim=0) / count
    return mean, var, count


class _Normalise(Function):
    """`(x - mean) / sqrt(var + eps) * weight + bias`, where mean and var depend on x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = _fixed_gradients(grad, x, weight, mean, var, ctx.eps)
        shares = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(shares)
        along_one, along_x = shares / count
        # mean and var take away what of the gradient lies along 1 and along the normalised x
        inverse = (var + ctx.eps).rsqrt()
        slope = weight * inverse.square() * along_x
        offset = weight * inverse * along_one - slope * mean
        grad_x = (grad_x - (offset + slope * x)).to(x.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None, None


def _fixed_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias as if mean and var were constants."""
    if not len(x):
        return grad, torch.zeros_like(weight), torch.zeros_like(weight)
    # on CUDA this asks for the saved statistics, too, though they are not those of a batch
    saved = (mean, (var + eps).rsqrt())
    return torch.ops.aten.native_batch_norm_backward(  # type: ignore[no-any-return]
        grad.contiguous(), x, weight, mean, var, *saved, False, eps, [True, True, True]
    )
