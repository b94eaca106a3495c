# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The algebra of the losses, and that blocks of rows give what the whole formula gives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_losses import (
    PLAIN_AND_BLOCKWISE,
    TERMS,
    plain_anchor_weights,
    plain_relational,
    plain_tolerant,
    unit_rows,
    voted,
)
from pydantic import TypeAdapter, ValidationError
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from trainer import blockwise
from trainer.distill import loss_terms
from trainer.losses import (
    anchor_weights,
    contrastive_loss,
    pool_segments,
    relational_terms,
    similarity_loss,
    tolerant_contrastive_loss,
)
from trainer.settings import LossSettings, RelationalSettings


@pytest.fixture
def features():
    return unit_rows(40, 8, 0, torch.float64), unit_rows(40, 8, 1, torch.float64)


@pytest.fixture
def few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(blockwise, 'BLOCK', 64)


def value_and_gradient(loss, student, teacher):
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    return value.detach(), student.grad


def relational_loss(student, teacher, **switches):
    settings = RelationalSettings(kind='relational', **switches)
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
    assert relational_loss(student, teacher, intra_weight=0.5).item() == pytest.approx(
        0.1 + 0.3 + 0.3
    )


def test_contrastive_loss_of_orthogonal_pairs_and_of_a_constant_student():
    eye = torch.eye(5, dtype=torch.float64)
    expected = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + 4))
    assert contrastive_loss(eye, eye, 0.5).item() == pytest.approx(expected)
    constant = eye[:1].expand(5, 5)
    assert contrastive_loss(constant, constant).item() == pytest.approx(math.log(5))


@pytest.mark.parametrize('name', PLAIN_AND_BLOCKWISE)
@pytest.mark.parametrize('num', [3, 64, 333, 1000])  # one block, whole blocks, a rest
def test_blocks_give_the_value_and_gradient_of_the_whole_formula(few_rows_at_a_time, name, num):
    plain, in_blocks = PLAIN_AND_BLOCKWISE[name]
    student, teacher = unit_rows(num, 6, 0), unit_rows(num, 6, 1)
    expected = value_and_gradient(plain, student, teacher)
    got = value_and_gradient(in_blocks, student, teacher)
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=1e-6)
    scale = expected[1].abs().max()
    torch.testing.assert_close(got[1] / scale, expected[1] / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', PLAIN_AND_BLOCKWISE)
def test_gradients_are_those_of_finite_differences(features, name):
    student, teacher = (rows[:12] for rows in features)
    _, loss = PLAIN_AND_BLOCKWISE[name]
    torch.autograd.gradcheck(lambda k: loss(k, teacher), student.clone().requires_grad_())


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made."""

    num = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor):
            self.num = max(self.num, result.numel())
        return result


@pytest.mark.parametrize('name', PLAIN_AND_BLOCKWISE)
def test_no_matrix_of_all_pairs_is_ever_made(few_rows_at_a_time, name):
    student, teacher = unit_rows(1000, 6, 0), unit_rows(1000, 6, 1)
    with LargestTensor() as largest:
        value_and_gradient(PLAIN_AND_BLOCKWISE[name][1], student, teacher)
    assert largest.num <= 64 * 1000


@given(st.integers(2, 40), st.integers(1, 50), st.integers(0, 99))
def test_the_size_of_a_block_does_not_matter(num, block, seed):
    student, teacher = (unit_rows(num, 4, seed + s, torch.float64) for s in (0, 100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise, 'BLOCK', block)
        got = relational_terms(student, teacher)
    expected = plain_relational(student, teacher, torch.full((num,), 1 / num).double())
    for name, value in zip(TERMS, expected):
        torch.testing.assert_close(getattr(got, name), value)


def test_no_gradient_is_computed_where_nobody_asks(features):
    student, teacher = features
    with torch.no_grad():
        terms = relational_terms(student.clone().requires_grad_(), teacher)
        loss = contrastive_loss(student.clone().requires_grad_(), teacher)
    assert not terms.intra.requires_grad
    assert not loss.requires_grad
    assert not relational_terms(student, teacher).cross_off_diagonal.requires_grad


@pytest.mark.parametrize('name', PLAIN_AND_BLOCKWISE)
def test_mixed_precision_leaves_the_losses_in_full_precision(name):
    student, teacher = unit_rows(300, 16, 0), unit_rows(300, 16, 1)
    _, loss = PLAIN_AND_BLOCKWISE[name]
    expected = value_and_gradient(loss, student, teacher)
    with torch.autocast('cpu', torch.bfloat16):
        got = value_and_gradient(loss, student, teacher)
        half = loss(student.bfloat16(), teacher.bfloat16())
    for ours, theirs in zip(got, expected):
        assert torch.equal(ours, theirs)
    assert half.dtype == torch.float32


@pytest.mark.parametrize('left', TERMS)
def test_a_switched_off_term_is_zero_and_the_others_stay(features, left):
    student, teacher = features
    switches = {'cross_diagonal': False, 'cross_off_diagonal': False, 'intra_weight': 0.0}
    on = {'intra_weight': 1.0} if left == 'intra' else {left: True}
    settings = RelationalSettings(kind='relational', **(switches | on))
    terms = loss_terms(settings, student, teacher)
    every = loss_terms(RelationalSettings(kind='relational'), student, teacher)
    assert {name for name, value in terms.items() if value} == {left}
    torch.testing.assert_close(terms[left], every[left])


def test_anchor_weights_are_a_switch_of_the_relational_loss(features):
    student, teacher = features
    got = relational_loss(student, teacher, anchor_weights=True)
    torch.testing.assert_close(got, sum(plain_relational(student, teacher, voted(teacher))))
    assert abs(got - relational_loss(student, teacher)) > 1e-4


def test_rare_kinds_weigh_more_and_equal_votes_weigh_the_same(features):
    kinds = torch.eye(4)[[0] * 7 + [1] * 2 + [2]]
    weights = anchor_weights(kinds)
    # votes 7, 2 and 1
    torch.testing.assert_close(weights, torch.tensor([0.0] * 7 + [5 / 6] * 2 + [1.0]))
    assert anchor_weights(torch.eye(4)).tolist() == [1.0] * 4
    _, teacher = features
    torch.testing.assert_close(anchor_weights(teacher), plain_anchor_weights(teacher))


def test_the_tolerant_loss_does_not_push_an_anchor_from_its_own_kind():
    # 202 rows: 2 of the 201 others of each row are left out, and row 0 has 2 of its own kind.
    teacher = torch.eye(202, dtype=torch.float64)
    teacher[1] = normalize(teacher[0] + 0.1 * teacher[1], dim=0)
    teacher[2] = normalize(teacher[0] + 0.2 * teacher[2], dim=0)
    student = unit_rows(202, 202, 0, torch.float64)
    student[1:] = teacher[1:]
    for loss, pushes in ((contrastive_loss, True), (tolerant_contrastive_loss, False)):
        _, gradient = value_and_gradient(loss, student, teacher)
        # Only they have these directions, so the gradient along them says who pushes.
        assert (gradient[0, 1] != 0) == pushes
        assert (gradient[0, 2] != 0) == pushes
    torch.testing.assert_close(
        tolerant_contrastive_loss(student, teacher), plain_tolerant(student, teacher)
    )


def test_pooling_takes_the_direction_of_the_mean_of_each_segment():
    features = torch.eye(4)[[0, 1, 1, 2, 3]]
    pooled = pool_segments(features, torch.tensor([7, 7, 7, 3, 9]))
    expected = [[0, 0, 1, 0], [1 / math.sqrt(5), 2 / math.sqrt(5), 0, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(pooled, torch.tensor(expected))


@given(st.permutations(range(12)))
def test_pooling_does_not_depend_on_the_order_of_the_rows(order):
    features, segments = unit_rows(12, 5, 0), torch.arange(12) % 5
    torch.testing.assert_close(
        pool_segments(features[list(order)], segments[list(order)]),
        pool_segments(features, segments),
    )


def test_superpixel_losses_compare_pooled_rows(features):
    student, teacher = features
    segments = torch.arange(40) // 3
    settings = TypeAdapter(LossSettings).validate_python({'kind': 'slidr'})
    got = loss_terms(settings, student, teacher, segments)['slidr']
    pooled = [pool_segments(rows, segments) for rows in features]
    assert len(pooled[0]) == 14
    torch.testing.assert_close(got, contrastive_loss(*pooled))


@pytest.mark.parametrize(
    'values',
    [
        {'kind': 'similarity', 'temperature': 0.1},
        {'kind': 'contrastive', 'superpixels': {'num_segments': 100}},
        {'kind': 'slidr', 'intra_weight': 1.0},
        {'kind': 'st_slidr', 'superpixels': {'num_segments': 0}},
        {'kind': 'relational', 'temperature': 0.1},
        {
            'kind': 'relational',
            'cross_diagonal': False,
            'cross_off_diagonal': False,
            'intra_weight': 0,
        },
        {'kind': 'triplet'},
    ],
)
def test_settings_of_another_loss_are_rejected(values):
    with pytest.raises(ValidationError):
        TypeAdapter(LossSettings).validate_python(values)
