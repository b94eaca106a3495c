# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The losses as their formulas read, with whole N x N matrices: what the blocks must equal."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, normalize

from trainer.losses import (
    anchor_weights,
    contrastive_loss,
    relational_terms,
    similarity_loss,
    tolerant_contrastive_loss,
)


def unit_rows(num, size, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(num, size, generator=generator, dtype=dtype), dim=1)


def plain_anchor_weights(teacher):
    cosines = teacher @ teacher.T
    votes = (cosines * (cosines >= 0.5)).sum(dim=1)
    return 1 - (votes - votes.min()) / (votes.max() - votes.min())


def plain_relational(student, teacher, weights):
    """Cross diagonal, cross off-diagonal and intra; row i counts `weights[i]`, of sum 1."""
    num = len(student)
    wanted = teacher @ teacher.T
    cross = (student @ teacher.T - wanted).abs()
    intra = (student @ student.T - wanted).abs()
    off_diagonal = ~torch.eye(num, dtype=torch.bool)
    return (
        (weights * cross.diagonal()).sum(),
        *((weights * (m * off_diagonal).sum(dim=1)).sum() / (num - 1) for m in (cross, intra)),
    )


def plain_contrastive(student, teacher, temperature=0.07):
    return cross_entropy(student @ teacher.T / temperature, torch.arange(len(student)))


def plain_tolerant(student, teacher, temperature=0.07):
    num = len(student)
    dissimilar = 1 - (teacher @ teacher.T).clamp(0, 1)
    dissimilar.fill_diagonal_(torch.inf)
    excluded = dissimilar.argsort(dim=1)[:, : int(0.01 * (num - 1))]
    logits = (student @ teacher.T / temperature).scatter(1, excluded, -torch.inf)
    per_row = cross_entropy(logits, torch.arange(num), reduction='none')
    weights = plain_anchor_weights(teacher)
    return (weights * per_row).sum() / weights.sum()


def even(teacher):
    return torch.full((len(teacher),), 1 / len(teacher), dtype=teacher.dtype)


def voted(teacher):
    weights = plain_anchor_weights(teacher)
    return weights / weights.sum()


def plain_term(index, weights):
    return lambda k, q: plain_relational(k, q, weights(q))[index]


TERMS = ('cross_diagonal', 'cross_off_diagonal', 'intra')


def blockwise_term(index, weights):
    return lambda k, q: getattr(relational_terms(k, q, weights(q)), TERMS[index])


WEIGHTS = {'even': (even, lambda _: None), 'voted': (voted, anchor_weights)}


# name: loss by its formula, loss under test
PLAIN_AND_BLOCKWISE = {
    'similarity': (plain_term(0, even), similarity_loss),
    'contrastive': (plain_contrastive, contrastive_loss),
    'tolerant': (plain_tolerant, tolerant_contrastive_loss),
    **{
        f'{term}, {name} weights': (plain_term(index, plain), blockwise_term(index, ours))
        for index, term in enumerate(TERMS)
        for name, (plain, ours) in WEIGHTS.items()
    },
}
