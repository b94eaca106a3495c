# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Pairs of all processes of a distributed run, so that their loss is that of one big batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx


def gather_pairs(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of all processes, in the order of their ranks; without processes, the given ones.

    Every process then computes the loss of the whole batch. The backward pass adds up what the
    processes say about a row, so once the gradients of the weights are averaged over the
    processes, as `DistributedDataParallel` does, they are those of one big batch.

    Args:
        student: (P, D), with gradient; P may differ between processes.
        teacher: (P, D), without gradient.

    Returns:
        Student and teacher, each (sum of all P, D).
    """
    if not (dist.is_available() and dist.is_initialized()):
        return student, teacher
    gathered: Tensor = _GatherRows.apply(student)  # type: ignore[no-untyped-call]
    return gathered, _gather_rows(teacher)


class _GatherRows(Function):
    """`torch.distributed.nn.functional.all_gather` is deprecated and wants equal sizes."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)  # type: ignore[attr-defined]
        return _gather_rows(rows)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_output: Tensor) -> Tensor:
        total = grad_output.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        num_rows: int = ctx.num_rows  # type: ignore[attr-defined]
        start = sum(_sizes(num_rows, total.device)[: dist.get_rank()])
        return total[start : start + num_rows]


def _gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes; for the exchange all are padded to the most rows."""
    sizes = _sizes(len(rows), rows.device)
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(received, padded)
    return torch.cat([part[:size] for part, size in zip(received, sizes)])


def _sizes(num_rows: int, device: torch.device) -> list[int]:
    """How many rows each process has."""
    own = torch.tensor([num_rows], device=device)
    received = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(received, own)
    return [int(size) for size in received]
