# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The algebra of the losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from trainer.distill import loss_terms
from trainer.losses import contrastive_loss, relational_terms, similarity_loss
from trainer.settings import LossSettings


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(40, 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    return normalize(draw[0], dim=1), normalize(draw[1], dim=1)


def relational_loss(student, teacher, intra_weight=1.0):
    settings = LossSettings(kind='relational', intra_weight=intra_weight)
    return sum(loss_terms(settings, student, teacher).values())


def rotation(size):
    generator = torch.Generator().manual_seed(1)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def test_the_cross_diagonal_is_the_similarity_loss(features):
    student, teacher = features
    terms = relational_terms(student, teacher)
    torch.testing.assert_close(terms.cross_diagonal, similarity_loss(student, teacher))


def test_the_intra_term_does_not_see_a_rotation_of_the_student(features):
    student, teacher = features
    turned = student @ rotation(8)
    before, after = relational_terms(student, teacher), relational_terms(turned, teacher)
    torch.testing.assert_close(after.intra, before.intra)


def test_the_cross_term_sees_a_rotation_of_a_perfect_student(features):
    _, teacher = features
    turned = relational_terms(teacher @ rotation(8), teacher)
    assert turned.intra < 1e-12
    assert turned.cross_diagonal > 0.1
    assert turned.cross_off_diagonal > 0.1


def test_a_student_equal_to_the_teacher_has_no_relational_loss(features):
    _, teacher = features
    assert relational_loss(teacher, teacher) < 1e-12
    assert similarity_loss(teacher, teacher) < 1e-12


def test_a_constant_student_and_teacher_are_a_global_minimum():
    # Why the teacher has to be frozen and the training loop guards against collapse.
    constant = normalize(torch.ones(10, 4), dim=1)
    assert relational_loss(constant, constant) < 1e-6


def test_hard_values_of_two_pairs():
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    terms = relational_terms(student, teacher)
    # K Q^T = [[1, 0], [.6, .8]], Q Q^T = I, K K^T = [[1, .6], [.6, 1]]
    assert terms.cross_diagonal.item() == pytest.approx(0.1)
    assert terms.cross_off_diagonal.item() == pytest.approx(0.3)
    assert terms.intra.item() == pytest.approx(0.6)
    assert relational_loss(student, teacher, 0.5).item() == pytest.approx(0.1 + 0.3 + 0.3)


def test_contrastive_loss_of_orthogonal_pairs_and_of_a_constant_student():
    eye = torch.eye(5, dtype=torch.float64)
    expected = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + 4))
    assert contrastive_loss(eye, eye, 0.5).item() == pytest.approx(expected)
    constant = eye[:1].expand(5, 5)
    assert contrastive_loss(constant, constant).item() == pytest.approx(math.log(5))


def test_relational_gradients_are_right(features):
    student, teacher = features
    student = student[:6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda k: relational_loss(k, teacher[:6]), student)
