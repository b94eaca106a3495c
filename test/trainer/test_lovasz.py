# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""The Lovasz-softmax loss against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.lovasz import lovasz_softmax

seeds = st.integers(0, 2**32 - 1)


def draw(seed, num=12, num_classes=4):
    rng = np.random.default_rng(seed)
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(num_classes), num))
    return probabilities, torch.from_numpy(rng.integers(0, num_classes, num))


def jaccard_loss(is_true, is_wrong):
    """1 - IoU where the rows `is_wrong` are predicted wrongly and all others rightly."""
    predicted = is_true ^ is_wrong
    return 1 - (predicted & is_true).sum() / (predicted | is_true).sum()


def by_definition(probabilities, classes):
    probabilities, classes = probabilities.numpy(), classes.numpy()
    losses = []
    for k in np.unique(classes):
        is_true = classes == k
        errors = np.where(is_true, 1 - probabilities[:, k], probabilities[:, k])
        is_wrong = np.zeros(len(classes), bool)
        loss = before = 0.0
        for row in np.argsort(-errors):
            is_wrong[row] = True
            after = jaccard_loss(is_true, is_wrong)
            loss += errors[row] * (after - before)
            before = after
        losses.append(loss)
    return np.mean(losses)


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_the_loss_equals_its_definition(seed):
    probabilities, classes = draw(seed)
    assert lovasz_softmax(probabilities, classes).item() == pytest.approx(
        by_definition(probabilities, classes)
    )


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_of_certain_predictions_it_is_one_minus_iou_over_the_true_classes(seed):
    rng = np.random.default_rng(seed)
    predicted, classes = rng.integers(0, 4, (2, 20))
    scores = [
        ((predicted == k) & (classes == k)).sum() / ((predicted == k) | (classes == k)).sum()
        for k in np.unique(classes)
    ]
    certain = torch.nn.functional.one_hot(torch.from_numpy(predicted), 4).double()
    loss = lovasz_softmax(certain, torch.from_numpy(classes)).item()
    assert loss == pytest.approx(1 - np.mean(scores))


def test_a_perfect_prediction_costs_nothing():
    classes = torch.tensor([0, 2, 2, 1])
    assert lovasz_softmax(torch.eye(4)[classes], classes).item() == 0


def test_a_class_that_is_not_there_does_not_count():
    probabilities = torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.5, 0.3]])
    classes = torch.tensor([0, 1])
    without = lovasz_softmax(probabilities[:, :2], classes)
    assert lovasz_softmax(probabilities, classes).item() == pytest.approx(without.item())


def test_the_gradient_is_that_of_the_value():
    logits, classes = draw(3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x.softmax(1), classes), logits)
