# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Losses over all pairs of N rows, a block of rows at a time: no N x N matrix is ever kept.

The gradient is computed together with the value, block by block: a scalar loss can only scale
it, so nothing has to be recomputed in the backward pass. The teacher is frozen and gets none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx, once_differentiable

BLOCK = 256  # rows: 16 MiB of a matrix with 16,384 columns; 128 to 1024 are as fast on a CPU
MOST_GAPS, MOST_ROWS = 1 << 26, 4096  # on CUDA: a matrix of 256 MiB
Relation = Literal['cross', 'intra']


def relation_gaps(
    student: Tensor, teacher: Tensor, weights: Tensor, relations: Sequence[Relation]
) -> list[Tensor]:
    """`sum_i w_i mean_{j != i} |<k_i, o_j> - <q_i, q_j>|` with o = q (cross) or o = k (intra).

    Args:
        student: K (N, D).
        teacher: Q (N, D), without gradient.
        weights: w (N,), of sum 1.
        relations: which of the gaps.

    Returns:
        A scalar for each of `relations`.
    """
    values = [student.new_zeros(len(student)) for _ in relations]
    gradients = [_empty_gradient(student) for _ in relations]
    with torch.no_grad(), torch.autocast(student.device.type, enabled=False):
        weights = weights / (len(student) - 1)
        for rows in _row_blocks(student):
            wanted = teacher[rows] @ teacher.T  # (B, N), serves both gaps
            for relation, value, gradient in zip(relations, values, gradients):
                others = teacher if relation == 'cross' else student
                gap = torch.addmm(wanted, student[rows], others.T, beta=-1)
                # K K^T is symmetric: in the intra gap row i appears again in row j
                of_columns = weights if relation == 'intra' else None
                sums = _gaps_to_signs(gap, rows.start, weights[rows], of_columns)
                value[rows] = weights[rows] * sums
                if gradient is not None:
                    torch.mm(gap, others, out=gradient[rows])
    return [_with_gradient(student, value.sum(), g) for value, g in zip(values, gradients)]


def _gaps_to_signs(gap: Tensor, first: int, own: Tensor, others: Tensor | None) -> Tensor:
    """See `gap_kernel.gaps_to_signs`, which does the same in one pass on CUDA."""
    if gap.is_cuda and gap.dtype == torch.float32 and find_spec('triton'):
        from trainer.gap_kernel import gaps_to_signs

        return gaps_to_signs(gap, first, own, others)
    gap.diagonal(first).zero_()
    sums = gap.abs().sum(dim=1)
    gap.sign_().mul_(own[:, None] if others is None else own[:, None] + others)
    return sums


def info_nce(
    student: Tensor, teacher: Tensor, temperature: float, weights: Tensor, num_excluded: int = 0
) -> Tensor:
    """`-sum_i w_i log(exp(<k_i, q_i> / t) / sum_j exp(<k_i, q_j> / t))`.

    Args:
        student: K (N, D).
        teacher: Q (N, D), without gradient.
        temperature: t.
        weights: w (N,), of sum 1.
        num_excluded: how many j != i with the largest `<q_i, q_j>` the sum over j leaves out.
    """
    value, gradient = student.new_zeros(len(student)), _empty_gradient(student)
    with torch.no_grad(), torch.autocast(student.device.type, enabled=False):
        for rows in _row_blocks(student):
            logits = (student[rows] @ teacher.T).div_(temperature)  # (B, N)
            logits.scatter_(1, _most_similar(teacher, rows, num_excluded), -torch.inf)
            log_sum = logits.logsumexp(dim=1)
            value[rows] = weights[rows] * (log_sum - logits.diagonal(rows.start))
            if gradient is not None:
                shares = logits.sub_(log_sum[:, None]).exp_()
                shares.diagonal(rows.start).sub_(1)
                shares.mul_(weights[rows, None] / temperature)
                torch.mm(shares, teacher, out=gradient[rows])
    return _with_gradient(student, value.sum(), gradient)


def _most_similar(features: Tensor, rows: slice, num: int) -> Tensor:
    """The `num` other rows with the largest cosine to each of a block, (B, num)."""
    if num == 0:
        return torch.zeros(len(features[rows]), 0, dtype=torch.int64, device=features.device)
    cosines = features[rows] @ features.T
    cosines.diagonal(rows.start).fill_(-torch.inf)
    return cosines.topk(num, dim=1).indices


def count_votes(features: Tensor, voters: Tensor, threshold: float) -> Tensor:
    """Votes (N,) of each row: the sum of its cosines to the voters, of those above a threshold.

    Args:
        features: (N, D), unit rows.
        voters: (M, D), unit rows.
        threshold: smallest cosine that counts.
    """
    votes = features.new_zeros(len(features))
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        for rows in _row_blocks(features):
            cosines = features[rows] @ voters.T
            votes[rows] = torch.where(cosines >= threshold, cosines, 0).sum(dim=1)
    return votes


class _KnownGradient(Function):
    """A scalar whose gradient is already known."""

    @staticmethod
    def forward(ctx: FunctionCtx, student: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad_output * gradient, None, None


def _with_gradient(student: Tensor, value: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        return value
    known: Tensor = _KnownGradient.apply(student, value, gradient)  # type: ignore[no-untyped-call]
    return known


def _empty_gradient(student: Tensor) -> Tensor | None:
    """A place for the gradient, None where nobody will ask for it."""
    asked = student.requires_grad and torch.is_grad_enabled()
    return torch.empty_like(student) if asked else None


def _row_blocks(features: Tensor) -> Iterator[slice]:
    num, size = len(features), BLOCK
    if features.is_cuda:  # a product of few rows leaves most of a GPU idle
        size = min(max(MOST_GAPS // max(num, 1), BLOCK), MOST_ROWS)
    return (slice(start, min(start + size, num)) for start in range(0, num, size))
