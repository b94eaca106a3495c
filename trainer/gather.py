# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Rows of all processes of a distributed run, so that they compute as one process would."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from trainer.distributed import is_distributed, rank, sum_everywhere


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
    if not is_distributed():
        return student, teacher
    sizes = row_counts(len(student))
    gathered: Tensor = _GatherRows.apply(student, sizes)  # type: ignore[no-untyped-call]
    return gathered, gather_rows(teacher, sizes)


def gather_rows(rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """Rows (P, ...) of all processes, in the order of their ranks, without gradient.

    Args:
        rows: of this process; P may differ between processes.
        sizes: P of each, where it has been asked already.
    """
    if not is_distributed():
        return rows
    sizes = row_counts(len(rows)) if sizes is None else sizes
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # an exchange wants equal sizes
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(received, padded)
    return torch.cat([part[:size] for part, size in zip(received, sizes)])


def row_counts(num_rows: int) -> list[int]:
    """How many rows each process has, of which this one has `num_rows`."""
    if not is_distributed():
        return [num_rows]
    own = torch.tensor([num_rows])  # on the CPU, so that no GPU is waited for
    received = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(received, own)
    return [int(size) for size in received]


def own_rows(sizes: Sequence[int]) -> slice:
    """Where those of this process are among the gathered rows."""
    start = sum(sizes[: rank()])
    return slice(start, start + sizes[rank()])


def gather_texts(text: str) -> list[str]:
    """A text of every process."""
    if not is_distributed():
        return [text]
    content = torch.frombuffer(bytearray(text.encode() + b'\0'), dtype=torch.uint8)
    return bytes(gather_rows(content).tolist()).decode().split('\0')[:-1]


def mean_of_rows(rows: Tensor) -> Tensor:
    """Mean (D,) of the rows (P, D) of all processes."""
    if not is_distributed():
        return rows.mean(dim=0)
    sums = sum_everywhere(torch.cat([rows.sum(dim=0), rows.new_full((1,), len(rows))]))
    return sums[:-1] / sums[-1]


class _GatherRows(Function):
    """`torch.distributed.nn.functional.all_gather` is deprecated and wants equal sizes."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        ctx.own = own_rows(sizes)  # type: ignore[attr-defined]
        return gather_rows(rows, sizes)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_output: Tensor) -> tuple[Tensor, None]:
        total = grad_output.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.own], None  # type: ignore[attr-defined]
