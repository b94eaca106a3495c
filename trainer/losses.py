# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Distillation losses: pure functions of matched, unit-length student and teacher features.

Throughout, K (N, D) are the student's features of N lidar points and Q (N, D) the frozen
teacher's features of the pixels they project to; row i of one belongs to row i of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """`mean_i (1 - <k_i, q_i>)`: each point reproduces its own pixel's feature.

    Args:
        student: K (N, D), unit rows.
        teacher: Q (N, D), unit rows.
    """
    return (1 - (student * teacher).sum(dim=1)).mean()


def contrastive_loss(student: Tensor, teacher: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE, `mean_i -log softmax_j(<k_i, q_j> / t)_i`: the other pairs are negatives.

    The point-to-pixel loss of PPKT (Liu et al., 2021, arXiv 2104.04687).

    Args:
        student: K (N, D), unit rows.
        teacher: Q (N, D), unit rows.
        temperature: t.
    """
    logits = student @ teacher.T / temperature  # (N, N)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


@dataclass(frozen=True)
class RelationalTerms:
    """The three parts of the relational loss, each a scalar."""

    cross_diagonal: Tensor
    cross_off_diagonal: Tensor
    intra: Tensor


def relational_terms(student: Tensor, teacher: Tensor) -> RelationalTerms:
    """How far the student's relations are from the teacher's (arXiv 2409.00845).

    With `C = |K Q^T - Q Q^T|` and `A = |K K^T - Q Q^T|`: mean of C's diagonal, mean of C off
    the diagonal, mean of A off the diagonal. C's diagonal is the similarity loss, since
    `<q_i, q_i> = 1`. The intra term does not change when K is rotated: alone it leaves the
    orientation of the space open, which the cross term pins.

    Args:
        student: K (N, D), unit rows, N at least 2.
        teacher: Q (N, D), unit rows.
    """
    teacher_relations = teacher @ teacher.T  # (N, N), serves both terms
    cross = (student @ teacher.T - teacher_relations).abs()
    intra = (student @ student.T - teacher_relations).abs()
    return RelationalTerms(
        cross.diagonal().mean(), _off_diagonal_mean(cross), _off_diagonal_mean(intra)
    )


def _off_diagonal_mean(matrix: Tensor) -> Tensor:
    num = len(matrix)
    return (matrix.sum() - matrix.diagonal().sum()) / (num * (num - 1))
