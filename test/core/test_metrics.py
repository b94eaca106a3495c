# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Confusion, IoU and accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reldistill_ros.core.errors import InputError
from reldistill_ros.core.metrics import (
    accuracy,
    confusion_matrix,
    finite_or_none,
    iou,
    mean_iou,
)


def classes(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def test_a_small_case_counted_by_hand():
    confusion = confusion_matrix(classes(0, 0, 0, 1, 255), classes(0, 1, 255, 1, 0), 3)
    assert confusion.tolist() == [[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(iou(confusion), [1 / 3, 1 / 2, np.nan])
    assert mean_iou(confusion) == pytest.approx(5 / 12)
    assert accuracy(confusion) == 0.5


def test_an_unlabelled_point_is_a_miss_but_no_false_alarm():
    confusion = confusion_matrix(classes(0, 0), classes(0, 255), 2)
    assert iou(confusion)[0] == 0.5
    assert np.isnan(iou(confusion)[1])


def test_a_class_that_the_truth_lacks_counts_only_as_a_false_alarm():
    confusion = confusion_matrix(classes(0, 0), classes(0, 1), 2)
    assert mean_iou(confusion) == 0.5


def test_no_truth_gives_no_score():
    confusion = confusion_matrix(classes(255, 255), classes(0, 1), 2)
    assert np.isnan(mean_iou(confusion))
    assert np.isnan(accuracy(confusion))
    assert finite_or_none(accuracy(confusion)) is None
    assert finite_or_none(0.0) == 0.0


@pytest.mark.parametrize(
    ('labels', 'predictions'),
    [(classes(2), classes(0)), (classes(0), classes(2)), (classes(0), classes(0, 1))],
)
def test_a_class_out_of_range_or_a_point_too_many_is_refused(labels, predictions):
    with pytest.raises(InputError):
        confusion_matrix(labels, predictions, 2)


CLASS = st.sampled_from([0, 1, 2, 3, 255])


@given(st.lists(st.tuples(CLASS, CLASS), max_size=60))
def test_the_matrix_agrees_with_counting(pairs):
    labels = classes(*(label for label, _ in pairs))
    predictions = classes(*(prediction for _, prediction in pairs))
    confusion = confusion_matrix(labels, predictions, 4)
    for label in range(4):
        for column, prediction in enumerate((0, 1, 2, 3, 255)):
            assert confusion[label, column] == pairs.count((label, prediction))
    assert confusion.sum() == (labels != 255).sum()
