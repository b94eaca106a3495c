# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Distillation losses: pure functions of matched, unit-length student and teacher features.

Throughout, K (N, D) are the student's features of N lidar points (or superpixels) and Q (N, D)
the frozen teacher's features of the pixels they project to; row i of one belongs to row i of the
other. What compares all rows with all others runs in blocks, see `trainer.blockwise`, and in
float32 under mixed precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.blockwise import Relation, count_votes, info_nce, relation_gaps

SAME_KIND = 0.5  # cosine
EXCLUDED_SHARE = 0.01


def similarity_loss(student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """`mean_i (1 - <k_i, q_i>)`: each point reproduces its own pixel's feature.

    Args:
        student: K (N, D), unit rows.
        teacher: Q (N, D), unit rows.
        weights: (N,) of the mean; None for even ones.
    """
    student, teacher = _full_precision(student), _full_precision(teacher)
    return (_shares(student, weights) * (1 - (student * teacher).sum(dim=1))).sum()


def contrastive_loss(student: Tensor, teacher: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE, `mean_i -log softmax_j(<k_i, q_j> / t)_i`: the other pairs are negatives.

    Of single points and pixels it is the loss of PPKT (Liu et al., 2021, arXiv 2104.04687), of
    superpixels (`pool_segments`) that of SLidR (Sautier et al., CVPR 2022, arXiv 2203.16258).

    Args:
        student: K (N, D), unit rows.
        teacher: Q (N, D), unit rows.
        temperature: t.
    """
    student, teacher = _full_precision(student), _full_precision(teacher)
    return info_nce(student, teacher, temperature, _shares(student, None))


def tolerant_contrastive_loss(
    student: Tensor, teacher: Tensor, temperature: float = 0.07
) -> Tensor:
    """InfoNCE that tolerates negatives of the anchor's own kind and counts rare kinds more.

    `sum_i w_i -log(exp(<k_i, q_i> / t) / sum_{j not in E_i} exp(<k_i, q_j> / t)) / sum_i w_i`,
    where E_i are the other rows with the lowest 1 % of `1 - clip(<q_i, q_j>, 0, 1)`, rounded
    down, and w are the `anchor_weights`. Of superpixels (`pool_segments`) it is the loss of
    ST-SLidR (Mahmoud et al., CVPR 2023, arXiv 2301.05709).

    Args:
        student: K (N, D), unit rows.
        teacher: Q (N, D), unit rows.
        temperature: t.
    """
    student, teacher = _full_precision(student), _full_precision(teacher)
    num_excluded = int(EXCLUDED_SHARE * (len(teacher) - 1))
    weights = _shares(student, anchor_weights(teacher))
    return info_nce(student, teacher, temperature, weights, num_excluded)


@dataclass(frozen=True)
class RelationalTerms:
    """The three parts of the relational loss, each a scalar."""

    cross_diagonal: Tensor
    cross_off_diagonal: Tensor
    intra: Tensor


def relational_terms(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor | None = None,
    *,
    cross_diagonal: bool = True,
    cross_off_diagonal: bool = True,
    intra: bool = True,
) -> RelationalTerms:
    """How far the student's relations are from the teacher's (arXiv 2409.00845).

    With `C = |K Q^T - Q Q^T|` and `A = |K K^T - Q Q^T|`: mean of C's diagonal, mean of C off
    the diagonal, mean of A off the diagonal; with weights w, row i of each counts `w_i / sum w`.
    C's diagonal is the similarity loss, since `<q_i, q_i> = 1`. The intra term does not change
    when K is rotated: alone it leaves the orientation of the space open, which the cross term
    pins.

    Args:
        student: K (N, D), unit rows, N at least 2.
        teacher: Q (N, D), unit rows.
        weights: w (N,) of the rows, for instance `anchor_weights`; None for even ones.
        cross_diagonal: whether this term is wanted; it is 0 otherwise.
        cross_off_diagonal: likewise.
        intra: likewise.
    """
    student, teacher = _full_precision(student), _full_precision(teacher)
    wanted: dict[Relation, bool] = {'cross': cross_off_diagonal, 'intra': intra}
    relations = [relation for relation, is_wanted in wanted.items() if is_wanted]
    gaps = relation_gaps(student, teacher, _shares(student, weights), relations)
    off_diagonal = dict(zip(relations, gaps))
    zero = student.new_zeros(())
    return RelationalTerms(
        similarity_loss(student, teacher, weights) if cross_diagonal else zero,
        off_diagonal.get('cross', zero),
        off_diagonal.get('intra', zero),
    )


def anchor_weights(teacher: Tensor) -> Tensor:
    """`1 - v_i`, so that rare kinds count more; v_i are the votes of row i, scaled to 0 ... 1.

    The votes are the sum of the row's cosines of at least 0.5 to all rows, as in ST-SLidR. Where
    all rows have the same votes, all weights are 1.

    Args:
        teacher: Q (N, D), unit rows.

    Returns:
        (N,), from 0 to 1.
    """
    teacher = _full_precision(teacher)
    votes = count_votes(teacher, teacher, SAME_KIND)
    span = votes.max() - votes.min()
    return torch.where(span > 0, 1 - (votes - votes.min()) / span, 1.0)


def pool_segments(features: Tensor, segments: Tensor) -> Tensor:
    """Mean of the features of each segment, brought back to unit length.

    Args:
        features: (P, D), unit rows.
        segments: (P,) integers, the segment that each row lies in.

    Returns:
        (S, D), unit rows, one for each segment that has any row, in the order of their ids.
    """
    ids, inverse = torch.unique(segments, return_inverse=True)
    features = _full_precision(features)
    sums = features.new_zeros(len(ids), features.shape[1]).index_add(0, inverse, features)
    return F.normalize(sums, dim=1)  # of the sum as of the mean


def _shares(student: Tensor, weights: Tensor | None) -> Tensor:
    """Weights (N,) of sum 1."""
    if weights is None:
        weights = student.new_ones(len(student))
    return weights.to(student) / weights.sum()


def _full_precision(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()
